"""The public Python API: what the commands do, with results as typed records and tables.

It may be called from a notebook or any other running event loop: nothing here starts one. Progress goes to stderr.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from allfour.pipeline.config import RunConfig, load_config
from allfour.pipeline.run.documents import read_header, read_metrics
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.words import clean, level, percent, quantity

if TYPE_CHECKING:
    import pyarrow as pa

    from allfour.pipeline.commands.progress import Reporter

__all__ = ["Comparison", "Figure", "Run", "audit", "compare", "open_run", "rescore"]

Paths = str | Path


class Figure:
    """An SVG that a notebook shows and `save` writes."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def save(self, path: Paths) -> Path:
        """Write it; returns where."""
        target = Path(path)
        target.write_text(self.svg, encoding="utf-8")
        return target

    def __repr__(self) -> str:
        return "<allfour figure>"

    def _repr_svg_(self) -> str:
        return self.svg


class Run:
    """A measured run folder. Tables are read when they are first asked for, and not again."""

    def __init__(self, path: Paths) -> None:
        self.path = Path(path)
        RunFolder(self.path).check_measured()
        self.metrics: Metrics = read_metrics(self.path)
        """All of metrics.json, typed: `run.metrics.summary.unanimity.low`."""

    @cached_property
    def header(self) -> Header:
        """All of run.json, typed: config, identities of generator and classifier, versions."""
        return read_header(self.path)

    @cached_property
    def images(self) -> pa.Table:
        """A row per image that was requested or listed: what became of it. `.to_pandas()` gives a data frame."""
        return self._table("images.parquet")

    @cached_property
    def scores(self) -> pa.Table:
        """A row per image (and person) and attribute: decision and probabilities by label name."""
        return self._table("scores.parquet")

    @cached_property
    def prompts(self) -> pa.Table:
        """A row per prompt: `id`, `text`, `group`, `images`, `unanimous` (a label or null), and for every label of the headline its
        `LABEL` (images), `LABEL_share`, `LABEL_low` and `LABEL_high`. Where each prompt was asked a question (`audit(each=...)`),
        also `each_images`, `each_state`, `each_settled`, and of every share that it names `each_LABEL_low` and `each_LABEL_high`."""
        import pyarrow as pa

        each = {} if self.metrics.each is None else {prompt.id: prompt for prompt in self.metrics.each.prompts}
        named = list(next(iter(each.values())).figures) if each else []

        rows = []
        for prompt in self.metrics.prompts:
            row: dict[str, Any] = {
                "id": prompt.id, "text": prompt.text, "group": prompt.group, "images": prompt.images,
                "unanimous": prompt.unanimous,
            }  # fmt: skip
            for label in self.metrics.headline_labels:
                share = prompt.share.get(label)
                row[label] = prompt.counts.get(label, 0)
                for key, part in (("share", "value"), ("low", "low"), ("high", "high")):
                    row[f"{label}_{key}"] = getattr(share, part) if share is not None and share.known else None
            if (own := each.get(prompt.id)) is not None:
                row |= {"each_images": own.images, "each_state": own.state, "each_settled": own.settled}
                for figure, at in own.figures.items():
                    row |= {f"each_{figure.removeprefix('share.')}_{key}": getattr(at, key) for key in ("low", "high")}
            rows.append(row)
        number = pa.float64()
        fields = [("id", pa.string()), ("text", pa.string()), ("group", pa.string()), ("images", pa.int64()), ("unanimous", pa.string())]  # fmt: skip
        for label in self.metrics.headline_labels:
            fields += [(label, pa.int64()), *((f"{label}_{key}", number) for key in ("share", "low", "high"))]
        if each:
            fields += [("each_images", pa.int64()), ("each_state", pa.string()), ("each_settled", pa.string())]
            fields += [
                (f"each_{name.removeprefix('share.')}_{key}", number) for name in named for key in ("low", "high")
            ]
        return pa.Table.from_pylist(rows, schema=pa.schema(fields))

    @property
    def report(self) -> Path:
        """The page that says it all."""
        return self.path / "report.html"

    @property
    def missing(self) -> int:
        """Images that were requested or listed and have no score; the column `error` of `images` says why."""
        return self.metrics.accounting.missing

    def figure(self) -> Figure:
        """The first label's share of every prompt, with its interval."""
        from allfour.pipeline.report.share_figure import share_figure

        return Figure(str(share_figure(self.metrics)))

    def _table(self, name: str) -> pa.Table:
        import pyarrow.parquet as pq

        from allfour.pipeline.run.folder import RunFolder, reading_table

        RunFolder(self.path).check_tables(self.path / name)
        with reading_table(self.path / name):
            return pq.read_table(self.path / name)

    def headline(self) -> str:
        """The headline in a sentence, with its interval: by the best evidence there is, as the page and the terminal have it."""
        from allfour.pipeline.metrics.headline import headline_of
        from allfour.pipeline.report import lead

        top, found = self.metrics.summary, headline_of(self.metrics)
        if found.verdict == "asked_for":
            return lead.headline(self.metrics)
        if found.value is None:
            return "Unanimity cannot be told: no whole set could be read."
        interval = f"({level(top.confidence)} interval {percent(found.low, 1)} to {percent(found.high, 1)})"
        if found.evidence != "measured":
            return f"{lead.headline(self.metrics).removesuffix('.')} {interval}"
        return (
            f"{top.unanimous:,} of {quantity(top.prompts, 'prompt')}: {lead.images_of_set(self.metrics, digits=True)} show one perceived "
            f"{self.metrics.headline} = {percent(found.value, 1)} {interval}"
        )

    def __repr__(self) -> str:
        return f"<allfour run {self.path}: {self.headline()}>"

    def _repr_html_(self) -> str:
        counts = self.metrics.accounting.document()
        cells = "".join(
            f"<td>{html.escape(key.replace('_', ' '))}<br><b>{n:,}</b></td>" for key, n in counts.items() if n
        )
        notes = "".join(f"<li>{html.escape(clean(note.text, 1000))}</li>" for note in self.metrics.notes)
        return (
            f"<p><b>{html.escape(self.headline())}</b></p><table><tr>{cells}</tr></table>"
            f"<ul>{notes}</ul><p>Perceived presentation, never identity. Report: <code>{html.escape(str(self.report))}</code></p>"
        )


class Comparison:
    """What `compare` found: `document` is all of comparison.json."""

    def __init__(self, document: Mapping[str, Any], paths: list[Path]) -> None:
        self.document = document
        self._paths = paths

    @property
    def summary(self) -> Mapping[str, Any]:
        """Of the first pair, or of the reference: differences with intervals and p-values."""
        found: Mapping[str, Any] = self.document["summary"]
        return found

    def lines(self) -> list[str]:
        """What the command prints."""
        from allfour.pipeline.commands.compare import summary_lines

        return summary_lines(self.document)

    def save(self, path: Paths) -> Path:
        """Write the page; returns where."""
        from allfour.pipeline.report.compare_page import render_comparison

        target = Path(path)
        target.write_text(render_comparison(self.document, self._paths), encoding="utf-8", errors="replace")
        return target

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in self.lines())


# --- verbs -----------------------------------------------------------------------------------------------------------


def open_run(path: Paths) -> Run:
    """A run folder that is measured already.

    Raises
    ------
    allfour.errors.RunFolderError
        It is not a measured run.
    """
    return Run(path)


def audit(
    config: Paths | RunConfig = "sandbox",
    *,
    run: Paths | None = None,
    overrides: Mapping[str, Any] | None = None,
    calibration: Paths | None = None,
    until: str | None = None,
    each: str | None = None,
    up_to: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Run:
    """Generate images for every prompt, score them, and report; what already exists is not done again.

    Parameters
    ----------
    config
        A YAML file, the name of a bundled one, or a config in memory.
    run
        The run folder; by default runs/NAME, from the config's name.
    overrides
        Config keys to replace, as in `{"prompts.images_per_prompt": 8}`.
    calibration
        calibration.json of this very classifier.
    until
        Make prompts in rounds, and stop where this holds, as in `"headline.width < 0.2"`.
    each
        After the run's images, make more for every prompt of which this is open, as in
        `"share.woman.low > 0.5 or share.woman.high < 0.5"`. They are in no figure but `metrics.each`.
    up_to
        Images that a prompt may have with `each`; 32 where nothing is said.
    overwrite
        Replace images that were made for other requests.
    quiet
        No progress on stderr.

    Raises
    ------
    allfour.errors.AllfourError
        Anything that a user can mend; the message says how. Images that were refused or failed raise nothing: `run.missing`.
    """
    settings = _settings(config, overrides)
    folder = RunFolder(_folder(settings, run))
    given = Path(calibration) if calibration is not None else None
    from allfour.pipeline.commands import each_options

    if each_options.wanted(each, up_to, False):
        each_options.check_alone(until=until)
        each_options.run(settings, folder, _reporter(quiet), given, each=str(each), up_to=up_to, overwrite=overwrite)
    elif until is not None:
        from allfour.pipeline.commands.audit_until import audit_until
        from allfour.pipeline.metrics.stopping import parse_rule

        audit_until(settings, folder, _reporter(quiet), given, rule=parse_rule(until), overwrite=overwrite)
    else:
        from allfour.pipeline.commands.audit import audit as run_audit

        run_audit(settings, folder, _reporter(quiet), given, overwrite=overwrite)
    return Run(folder.path)


def rescore(
    source: Paths,
    config: Paths | RunConfig = "rescore",
    *,
    run: Paths | None = None,
    overrides: Mapping[str, Any] | None = None,
    calibration: Paths | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Run:
    """Score images that exist already, and report. The archive is only read. Parameters and errors are those of `audit`.

    Parameters
    ----------
    source
        A folder of PROMPT/INDEX.png, a manifest, or another archive of images.
    """
    from allfour.pipeline.commands.rescore import rescore as run_rescore

    settings = _settings(config, overrides)
    folder = RunFolder(_folder(settings, run))
    given = Path(calibration) if calibration is not None else None
    run_rescore(settings, str(source), folder, _reporter(quiet), given, overwrite=overwrite)
    return Run(folder.path)


def compare(
    *runs: Run | Paths,
    reference: str | None = None,
    shared_prompts: bool = False,
    calibrations: Sequence[Paths | None] = (),
    equivalent: float | None = None,
    pair_by: Literal["id", "subject"] = "id",
) -> Comparison:
    """Compare runs prompt by prompt with the first, or a run with reference shares.

    Parameters
    ----------
    reference
        A file of reference shares, or `uniform`.
    pair_by
        `subject`: prompts of one subject are paired, whatever their words and ids.
    shared_prompts
        Leave out prompts that one run lacks, instead of refusing.
    calibrations
        A calibration file per run, in their order, in place of the one kept in its folder; None for that one.
    equivalent
        The largest difference of unanimity that counts as none, such as 0.05: adds a test that it is smaller.

    Raises
    ------
    allfour.errors.ConfigError
        The runs are not comparable; every reason is named, with its mend.
    """
    from allfour.pipeline.analyses.comparison.compare import compare_paths

    paths = [run.path if isinstance(run, Run) else Path(run) for run in runs]
    given = [None if file is None else Path(file) for file in calibrations]
    found = compare_paths(
        paths,
        reference=reference,
        shared_only=shared_prompts,
        calibrations=given,
        equivalent=equivalent,
        pair_by=pair_by,
    )
    return Comparison(found.document(), paths)


def _settings(config: Paths | RunConfig, overrides: Mapping[str, Any] | None) -> RunConfig:
    given = [f"{key}={_yaml(value)}" for key, value in (overrides or {}).items()]
    if not isinstance(config, RunConfig):
        return load_config(Path(config), given)
    if not given:
        return config
    from allfour.pipeline.config import recorded_config

    return recorded_config(config.model_dump(mode="json"), where="config (with overrides)", overrides=given)


def _yaml(value: Any) -> str:
    """A value as `--set` reads it."""
    if isinstance(value, Path):
        value = str(value)
    return (
        yaml.safe_dump(json.loads(json.dumps(value)), default_flow_style=True, width=10**9)
        .removesuffix("\n...\n")
        .strip()
    )


def _folder(config: RunConfig, run: Paths | None) -> Path:
    from allfour.pipeline.commands.options import default_run_folder

    return Path(run) if run is not None else default_run_folder(config.name)


def _reporter(quiet: bool) -> Reporter:
    from allfour.pipeline.commands.progress import Reporter

    return Reporter(quiet=quiet)
