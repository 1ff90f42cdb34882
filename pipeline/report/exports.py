"""A run's metrics in the forms that other programs read: CSV, Markdown, LaTeX, JUnit XML."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from allfour.pipeline import words
from allfour.pipeline.report import lead, prose
from allfour.pipeline.report.view import ranked
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.run.record import Interval
from allfour.pipeline.run.writing import write_atomic

_FORMULA_STARTS = frozenset("=+-@\t\r\n|%＝＋－＠﹦﹢﹣﹫")
_FIELDS = re.compile(r"[^;|]+")
_UNSEEN = frozenset("\"'\u115f\u1160\u3164\uffa0\u2800")
"""Fillers and the braille blank, which are letters and symbols to Unicode; and quotes, which the reading takes away."""
_OTHER_COUNTS = ("ambiguous", "mixed", "no_person", "unreadable", "refused", "failed")
_XML_FORBIDDEN = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""Compiled where XML is written: it takes as long as all other patterns of the module."""


def csv_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: what starts like one gets an apostrophe before it.

    Also behind characters that do not show, and behind a semicolon or a bar, at which a spreadsheet set to another separator
    would cut the cell. A comma needs none: the cell is quoted then.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    content = words.clean(value, 100_000)
    marked = _FIELDS.sub(lambda field: "'" + field[0] if _starts_formula(field[0]) else field[0], content)
    return "'" + marked if content.lstrip().startswith("|") else marked


def _starts_formula(text: str) -> bool:
    for char in text:
        if char in _FORMULA_STARTS:
            return True
        if not (char.isspace() or char in _UNSEEN or unicodedata.category(char) in ("Cf", "Mn")):
            return False
    return False


def _csv_bytes(header: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in header])
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode("utf-8", "replace")


def _interval_cells(interval: Interval | None) -> list[float | None]:
    return [None, None, None] if interval is None else [interval.value, interval.low, interval.high]


def write_prompts_csv(run_dir: Path, metrics: Metrics) -> Path:
    """Write RUN/prompts.csv: a row per prompt, in the run's order, with the columns of `prompts_table`."""
    path = run_dir / "prompts.csv"
    write_atomic(path, prompts_csv(metrics))
    return path


def prompts_csv(metrics: Metrics) -> bytes:
    """The same, as bytes: made from what vouches for itself, and not read from a file that does not."""
    return _csv_bytes(*prompts_table(metrics, metrics.prompts))


def prompts_table(metrics: Metrics, prompts: Sequence[Prompt]) -> tuple[list[str], list[list[object]]]:
    """Column names, and a row per prompt with counts, shares, intervals and unanimity.

    Columns: `prompt_id, prompt, group, images, evaluated, unanimous, unanimity_possible`, a count per decision, then
    `share_LABEL, share_LABEL_low, share_LABEL_high` per label of the headline attribute, `p_value, q_value`, a
    reference share per label where the run has one, for every other attribute `ATTRIBUTE_LABEL` counts, and `near_copies`; and of a
    run that asked each prompt a question, `each_images, each_state, each_settled` and `each_LABEL, each_LABEL_low, each_LABEL_high`,
    which rest on further images too. A name that labels bring about a second time ends in `_2`.
    """
    labels = metrics.headline_labels
    others = {name: metrics.labels[name] for name in metrics.labels if name != metrics.headline}
    has_reference = any(prompt.reference for prompt in metrics.prompts)
    header = ["prompt_id", "prompt", "group", "images", "evaluated", "unanimous", "unanimity_possible"]
    header += [f"count_{name}" for name in (*labels, *_OTHER_COUNTS)]
    for label in labels:
        header += [f"share_{label}", f"share_{label}_low", f"share_{label}_high"]
    header += ["p_value", "q_value"]
    header += [f"reference_{label}" for label in labels] if has_reference else []
    header += [f"{name}_{label}" for name, names in others.items() for label in names]
    header += ["near_copies"]
    each = {} if metrics.each is None else {prompt.id: prompt for prompt in metrics.each.prompts}
    figures = list(next(iter(each.values())).figures) if each else []
    if each:
        header += ["each_images", "each_state", "each_settled"]
        header += [f"each_{name.removeprefix('share.')}{part}" for name in figures for part in ("", "_low", "_high")]
    rows = []
    for prompt in prompts:
        row: list[object] = [
            prompt.id,
            prompt.text,
            prompt.group,
            prompt.images,
            prompt.evaluated,
            prompt.unanimous,
            prompt.unanimity_possible,
        ]
        row += [prompt.counts.get(name, 0) for name in (*labels, *_OTHER_COUNTS)]
        for label in labels:
            row += _interval_cells(prompt.share.get(label))
        row += [prompt.p_value, prompt.q_value]
        row += [(prompt.reference or {}).get(label) for label in labels] if has_reference else []
        for name, names in others.items():
            found = prompt.attributes.get(name)
            row += [found.counts.get(label, 0) if found else None for label in names]
        row += [prompt.near_copies]
        if each:
            own = each.get(prompt.id)
            row += [None] * 3 if own is None else [own.images, own.state, own.settled]
            for name in figures:
                row += _interval_cells(None if own is None else own.figures.get(name))
        rows.append(row)
    return _distinct(header), rows


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of which none occurs twice: labels `a` and `a_low` both ask for a column `share_a_low`, and the second gets `_2`."""
    found: list[str] = []
    taken = set(names)
    for name in names:
        unique, number = name, 1
        while unique in found or (number > 1 and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def intersections_csv(metrics: Metrics) -> bytes:
    """A row per combination of labels of the intersections that the run was asked for.

    Columns: `intersection, labels, images, share, share_low, share_high, never_high`: the last is how common a combination that no
    image shows may still be.
    """
    header = ["intersection", "labels", "images", "share", "share_low", "share_high", "never_high"]
    rows: list[list[object]] = []
    for found in metrics.intersections:
        absent = {tuple(never.labels): never.high for never in found.never}
        for cell in found.counts if found.images is not None else ():
            row: list[object] = [found.name, cell.name, cell.images, *_interval_cells(cell.share)]
            rows.append([*row, absent.get(tuple(cell.labels))])
    return _csv_bytes(header, rows)


# --- Markdown and LaTeX ----------------------------------------------------------------------------------------------


def markdown_text(value: object, limit: int = 200) -> str:
    """Foreign text inside Markdown: every mark that could start markup is escaped, so are HTML's."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:@])", r"\\\1", words.clean(value, limit))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}", "*": "{*}",  # at the start of a row the command that ended the row before would take them for its arguments
}  # fmt: skip


def latex_text(value: object, limit: int = 200) -> str:
    """Foreign text inside LaTeX: no character keeps a meaning of its own."""
    return "".join(_LATEX.get(char, char) for char in words.clean(value, limit))


def _table_cells(metrics: Metrics, prompt: Prompt) -> tuple[str, str, list[str]]:
    first = metrics.headline_labels[0]
    share = prompt.share.get(first)
    value = "–" if share is None or share.value is None else words.percent(share.value)
    interval = "–" if share is None or share.low is None else words.interval_text(share.low, share.high)
    counts = [str(prompt.counts.get(label, 0)) for label in metrics.headline_labels]
    return value, interval, counts


def _verdict_head(metrics: Metrics) -> str:
    """Of the column that says whether a set is of one label, which is not all of a prompt's images where there are more."""
    return f"first {words.word(metrics.summary.set_size)} unanimous" if lead.more_than_sets(metrics) else "unanimous"


def markdown_table(metrics: Metrics, *, limit: int | None = None) -> str:
    """The ranked prompts as a Markdown table."""
    labels = metrics.headline_labels
    names = [markdown_text(words.plural(label)) for label in labels]
    interval_head = f"{words.level(metrics.summary.confidence)} interval"
    lines = [
        "| prompt | "
        + " | ".join(names)
        + f" | other | share of {names[0]} | {interval_head} | {_verdict_head(metrics)} |",
        "|---|" + "---:|" * len(labels) + "---:|---:|---:|---|",
    ]
    for prompt in ranked(metrics)[:limit]:
        value, interval, counts = _table_cells(metrics, prompt)
        other = prompt.images - sum(prompt.counts.get(label, 0) for label in labels)
        verdict = (
            f"all {markdown_text(words.plural(prompt.unanimous))}"
            if prompt.unanimous
            else "no"
            if prompt.evaluated
            else "–"
        )
        lines.append(
            f"| {markdown_text(prompt.text)} | {' | '.join(counts)} | {other} | {value} | {interval} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def latex_table(metrics: Metrics) -> str:
    """The ranked prompts as a LaTeX table for `booktabs`, under the run's first line as a comment."""
    labels = metrics.headline_labels
    names = [latex_text(words.plural(label)) for label in labels]
    level = latex_text(words.level(metrics.summary.confidence))
    lines = [
        *(f"% {words.clean(line, 600)}" for line in (lead.one_line(metrics), lead.because(metrics)) if line),
        r"\begin{tabular}{l" + "r" * len(labels) + "rl}",
        r"\toprule",
        " & ".join(["prompt", *names, f"share of {names[0]} ({level} interval)", _verdict_head(metrics)]) + r" \\",
        r"\midrule",
    ]
    for prompt in ranked(metrics):
        value, interval, counts = _table_cells(metrics, prompt)
        verdict = f"all {latex_text(words.plural(prompt.unanimous))}" if prompt.unanimous else "--"
        cells = [latex_text(prompt.text), *counts, latex_text(f"{value} ({interval})").replace("–", "--"), verdict]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def markdown_summary(metrics: Metrics, *, limit: int = 40, archive: bool = False, sought: str = "person") -> str:
    """What a continuous-integration job shows: headline, interval, chance, accounting, warnings, the ranked prompts.

    `archive`: the images were found, not made. `sought`: what was looked for in them, see `allfour.pipeline.words.seeking`.
    """
    with words.seeking(sought):
        return _markdown_summary(metrics, limit=limit, archive=archive)


def _markdown_summary(metrics: Metrics, *, limit: int, archive: bool) -> str:
    lines = [f"### {lead.headline(metrics)}", ""]
    for sentence in (
        lead.standfirst(metrics),
        lead.verdict(metrics),
        lead.because(metrics),
        lead.chance(metrics),
        lead.amplification(metrics),
        lead.corrected(metrics),
        prose.PERCEIVED,
    ):
        if sentence:
            lines += [sentence, ""]
    sums = [
        f"{words.grouped(total)} {name} = " + " + ".join(f"{words.grouped(count)} {what}" for count, what in parts)
        for name, total, parts in prose.identities(metrics.accounting, archive=archive)
    ]
    lines += ["; ".join(sums) + ".", ""]
    lines += [f"- {markdown_text(warning, 400)}" for warning in metrics.warnings[:20]]
    lines += [""] if metrics.warnings else []
    lines.append(markdown_table(metrics, limit=limit))
    if len(metrics.prompts) > limit:
        lines.append(f"The first {limit} of {words.quantity(len(metrics.prompts), 'prompt')}.\n")
    return "\n".join(lines)


# --- JUnit -----------------------------------------------------------------------------------------------------------


class GateOutcome(Protocol):
    """What JUnit needs of a gate; `allfour.pipeline.metrics.gate.GateResult` has it."""

    @property
    def gate(self) -> Any: ...

    @property
    def hit(self) -> bool: ...

    @property
    def reason(self) -> str: ...


def junit_xml(
    results: Sequence[GateOutcome], *, suite: str = "allfour", properties: Mapping[str, object] | None = None
) -> bytes:
    """Gates as JUnit test cases: a gate that is hit is a failure."""

    def legal(value: object) -> str:
        return re.sub(_XML_FORBIDDEN, "\ufffd", str(value))

    failures = sum(result.hit for result in results)
    root = ET.Element("testsuites", name="allfour", tests=str(len(results)), failures=str(failures))
    node = ET.SubElement(
        root, "testsuite", name=legal(suite), tests=str(len(results)), failures=str(failures), errors="0", skipped="0"
    )
    if properties:
        holder = ET.SubElement(node, "properties")
        for name, value in properties.items():
            ET.SubElement(holder, "property", name=legal(name), value=legal(value))
    for result in results:
        case = ET.SubElement(node, "testcase", classname="allfour.gate", name=legal(f"not {result.gate.text}"))
        if result.hit:
            failure = ET.SubElement(case, "failure", message=legal(result.reason), type="gate")
            failure.text = legal(f"--fail-if {result.gate.text!r} was hit: {result.reason}")
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"
