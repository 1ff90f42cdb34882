"""The page over many runs: a line for each, with its finding, and a link to its report. Run folders are only read."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from allfour.border import read_json
from allfour.errors import RunFolderError
from allfour.files import open_regular, read_regular
from allfour.pipeline import words
from allfour.pipeline.metrics.headline import headline_of
from allfour.pipeline.report import lead, study_prose, svg
from allfour.pipeline.report.html import environment, inlined, security_policy
from allfour.pipeline.report.opening import banner, subject
from allfour.pipeline.report.view import kinds_by_label, page_path, ranked
from allfour.pipeline.run.activity import Activity, activity
from allfour.pipeline.run.documents import read_header, read_outline
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.run.record import STUDY_FILE
from allfour.pipeline.run.study import StudyResult

HEADER = "run.json"
STUDY_PAGE = "study.html"
_REFRESH = 5
"""Seconds."""
_MOMENT = 10.0
"""Seconds between the documents that a run writes as it ends, at most."""
MAX_SQUARES = 60
"""Squares in a line; of a run with more prompts they are an even sample, from one end of its ranking to the other."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run."""

    name: str
    link: str
    """Address of its report, relative to the index; empty where there is none."""
    subject: str
    day: str
    state: str
    """What is known of a run that has no finding yet."""
    finding: str
    value: float
    """For sorting; -1 where there is none."""
    squares: Markup
    notice: str
    working: bool = False
    """Whether it changes while one looks."""
    labels: tuple[str, ...] = ()
    """What the colours of the squares stand for."""
    sampled: bool = False
    """Whether there are fewer squares than prompts."""


def find_runs(folder: Path) -> list[Path]:
    """The run and study folders in a folder, itself included, by name. Links to folders elsewhere are not followed."""
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())]
    return [path for path in candidates if (path / HEADER).is_file() or (path / STUDY_FILE).is_file()]


def read_study_line(folder: Path, link: str) -> RunLine:
    """What the index says of a study."""
    name = words.clean(folder.name or str(folder), 120)
    try:
        found = StudyResult.model_validate(read_json(read_regular(folder / STUDY_FILE)))
    except (OSError, ValueError) as error:
        return RunLine(name, "", "", "", f"{STUDY_FILE} is damaged: {words.clean(error, 160)}", "", -1.0, Markup(), "")
    done = sum(cell.state == "done" for cell in found.cells)
    what = f"study of {words.quantity(len(found.cells), 'run')}{'' if done == len(found.cells) else f', {done} done'}"
    link = link if (folder / STUDY_PAGE).is_file() else ""
    day, finding = (found.created or "")[:10], study_prose.headline(found)
    return RunLine(name, link, what, day, "", finding, -1.0, Markup(), _study_notice(found, folder))


def _study_notice(study: StudyResult, folder: Path) -> str:
    """Its own notice and those of its runs, each once: that a world is drawn is never left out."""
    own = words.clean(study.notice, 200) if study.notice else None
    try:
        return " ".join(study_prose.banners([own, *study_prose.notices(study, folder)]))
    except RunFolderError as error:
        return f"{own or ''} {words.clean(error, 200)}".strip()


def read_line(run_dir: Path, link: str, *, count: Callable[[], int] | None = None) -> RunLine:
    """What the index says of a run; a run that works, or is damaged, has a line too.

    Parameters
    ----------
    count
        Says how many images of a run without a finding there are; without it they are counted in its log.
    """
    name = words.clean(run_dir.name or str(run_dir), 120)
    try:
        header = read_header(run_dir)
    except RunFolderError as error:
        return RunLine(name, "", "", "", words.clean(error, 200), "", -1.0, Markup(), "")
    day, what = (header.created or "")[:10], subject(header)
    link = link if page_path(run_dir).is_file() else ""
    try:
        metrics = read_outline(run_dir)
    except RunFolderError as error:
        now = activity(run_dir)
        if _should_have_finding(run_dir, now):
            state = words.clean(error, 200)
        else:
            state = _progress(_logged(run_dir) if count is None else count(), now)
        return RunLine(name, link, what, day, state, "", -1.0, Markup(), banner(header) or "", now.working)
    at = headline_of(metrics).value
    value = -1.0 if at is None else at
    counted = _counted(metrics)
    return RunLine(
        name, link, what, day, "", lead.one_line(metrics), value, _squares(metrics, counted), banner(header) or "",
        labels=tuple(metrics.headline_labels), sampled=len(counted) > MAX_SQUARES,
    )  # fmt: skip


def _progress(done: int, now: Activity) -> str:
    """How far a run without a finding is."""
    found = f"{words.quantity(done, 'image')} so far" if done else "no images yet"
    return found if now.working else f"{found}; stopped" if now.held is False else f"{found}; nothing new for a while"


def _logged(run_dir: Path) -> int:
    """Images in the log that a run writes as they come."""
    try:
        with open_regular(run_dir / "outcomes.jsonl") as log:
            return sum(1 for _ in log)
    except OSError:
        return 0


def _should_have_finding(run_dir: Path, now: Activity) -> bool:
    """Whether metrics.json was written after all that a run has made, and not just now: its writing and the header's are a moment apart."""
    try:
        written = os.lstat(run_dir / "metrics.json").st_mtime
    except OSError:
        return False
    if now.held:
        return False
    if now.silent is None:
        return True
    since, written_last = time.time() - written, time.time() - written <= now.silent
    return min(since, now.silent) > _MOMENT if written_last else not now.working


def _counted(metrics: Metrics) -> list[Prompt]:
    """The prompts that the finding counts, ranked: not those that ask for a label, nor those without a whole set."""
    if headline_of(metrics).verdict == "asked_for":
        return []
    counted = {prompt.id for prompt in metrics.headline_prompts if prompt.evaluated}
    return [prompt for prompt in ranked(metrics) if prompt.id in counted]


def _sample(prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    """As many as have room, evenly: the first ones of a ranking would all be of one colour."""
    if len(prompts) <= MAX_SQUARES:
        return prompts
    return [prompts[(2 * place + 1) * len(prompts) // (2 * MAX_SQUARES)] for place in range(MAX_SQUARES)]


def _squares(metrics: Metrics, counted: Sequence[Prompt]) -> Markup:
    """A small square per prompt that counts, in the colour of what all its images show."""
    if not counted:
        return Markup()
    kinds = kinds_by_label(metrics.headline_labels)
    prompts = _sample(counted)
    # one shape for all squares of a colour: an index over hundreds of runs has thousands of squares
    drawn: dict[str, list[str]] = {}
    for place, prompt in enumerate(prompts):
        corner = f"M{11 * (place % 20)} {11 * (place // 20)}"
        drawn.setdefault(kinds.get(prompt.unanimous or "", "u"), []).append(f"{corner}h9v9h-9z")
    shapes = [svg.el("path", d="".join(squares), class_=f"cell s-{kind}") for kind, squares in drawn.items()]
    text = f"{metrics.summary.unanimous} of {words.quantity(metrics.summary.prompts, 'prompt')} unanimous"
    height = 11 * -(-len(prompts) // 20)
    return svg.el("svg", *shapes, class_="few", width="220", height=height, role="img", aria_label=text)


def notices_of(lines: Sequence[RunLine]) -> dict[str, str]:
    """Notices that several lines share -> the tag by which each of these refers to it: said once, and never left out."""
    counts = Counter(line.notice for line in lines if line.notice)
    shared = [notice for notice, count in counts.items() if count > 1]
    drawn = [notice for notice in shared if notice.casefold().startswith("drawn world")]
    tags = {notice: f"Note {number}" for number, notice in enumerate(shared, 1)}
    return {**tags, drawn[0]: "Drawn world"} if len(drawn) == 1 else tags


def _colours(lines: Sequence[RunLine]) -> list[tuple[str, str]]:
    """Series and words of the squares' colours; none where runs differ in their labels, and so in what a colour means."""
    found = {line.labels for line in lines if line.labels}
    if len(found) != 1:
        return []
    labels = found.pop()
    kinds = kinds_by_label(labels)
    return [*((kinds[label], f"all {words.plural(label)}") for label in labels), ("u", "not unanimous")]


def render_index(lines: Sequence[RunLine], title: str, *, live: bool = False) -> str:
    """The page as text; `live`: it loads itself again while a run works."""
    css, css_hash = inlined("report.css", "index.css")
    script, script_hash = inlined("common.js", "index.js", "reload.js")
    page = environment().get_template("index.html.j2")
    return page.render(
        css=css,
        script=script,
        policy=security_policy(css_hash, script_hash),
        title=words.clean(title, 120),
        lines=lines,
        colours=_colours(lines),
        sampled=MAX_SQUARES if any(line.sampled for line in lines) else None,
        notices=notices_of(lines),
        refresh=_REFRESH if live and any(line.working for line in lines) else None,
    )
