"""What the commands of `allfour` print, and the exit codes that results stand for.

Every function takes `as_json` where the command has --json, and prints either lines for people or one JSON document.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from allfour.pipeline.archives.base import ArchiveSummary
    from allfour.pipeline.commands.audit_ranks import GenerationRankSummary
    from allfour.pipeline.commands.compare import WrittenComparison
    from allfour.pipeline.commands.doctor import Check
    from allfour.pipeline.commands.each_options import EachEstimate
    from allfour.pipeline.commands.job import RunSummary
    from allfour.pipeline.commands.rescore import RankSummary
    from allfour.pipeline.commands.review import ImportedReview
    from allfour.pipeline.commands.review_draw import Drawn
    from allfour.pipeline.commands.study import StudySummary
    from allfour.pipeline.commands.weights import Entry
    from allfour.pipeline.metrics import gate as gates

EXIT_DONE, EXIT_GATE, EXIT_USAGE, EXIT_MISSING = 0, 1, 2, 3
EXIT_FAULT = 70
"""A fault of ours, as in sysexits.h: never 1, which says that a gate was hit."""
EXIT_STOPPED = 130
"""What a shell gives to a process that Ctrl-C has ended."""

# --- a run -----------------------------------------------------------------------------------------------------------


def evaluate_all(parsed: Sequence[gates.Gate], document: Mapping[str, Any]) -> list[gates.GateResult]:
    """What every gate says of a document."""
    if not parsed:
        return []
    from allfour.pipeline.metrics.gate import evaluate

    return [evaluate(gate, document) for gate in parsed]


_json: ContextVar[bool] = ContextVar("json", default=False)


def remember_json(wanted: bool) -> bool:
    """Whether the command was given `--json`, so that its error is JSON too."""
    _json.set(wanted)
    return wanted


def print_error(message: str, code: int) -> None:
    """Print an error as JSON on stdout where the command was given `--json`."""
    if _json.get():
        print(json.dumps({"error": message, "exit_code": code}, indent=1))


def conclude(
    summary: RunSummary,
    parsed: Sequence[gates.Gate],
    as_json: bool,
    *,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> NoReturn:
    """Print the result of a run and leave with the exit code that it stands for."""
    document = summary.metrics.document()
    results = evaluate_all(parsed, document)
    if junit or markdown:
        from allfour.pipeline.commands.export import write_ci_files

        write_ci_files(summary.run, results, junit=junit, markdown=markdown)
    hit = [result for result in results if result.hit]
    code = EXIT_GATE if hit else EXIT_MISSING if summary.missing else EXIT_DONE
    if as_json:
        print(
            json.dumps(
                {
                    "run": str(summary.run),
                    "report": str(summary.report) if summary.report else None,
                    "exit_code": code,
                    "work": dict(summary.work),
                    "summary": document["summary"],
                    "accounting": document["accounting"],
                    "sensitivity": document.get("sensitivity"),
                    **({"each": document["each"]} if document.get("each") else {}),
                    "warnings": document["warnings"],
                    "notes": document["notes"],
                    "gates": _gate_entries(results),
                },
                indent=1,
            )
        )
    else:
        from allfour.pipeline.commands.summary import print_missing, print_summary

        print_summary(summary)
        _print_gates(results)
        print_missing(summary)
        print(f"report: {summary.report}")
    raise typer.Exit(code)


def _gate_entries(results: Sequence[gates.GateResult]) -> list[dict[str, Any]]:
    return [{"gate": r.gate.text, "value": r.value, "hit": r.hit, "reason": r.reason} for r in results]


def _print_gates(results: Sequence[gates.GateResult], file: TextIO | None = None) -> None:
    for result in results:
        print(f"gate {'HIT' if result.hit else 'passed'}: {result.gate.text} ({result.reason})", file=file)


def conclude_export(results: Sequence[gates.GateResult]) -> NoReturn:
    """Say on stderr, as stdout may hold the export, what became of the gates, and leave with the exit code for it."""
    _print_gates(results, sys.stderr)
    raise typer.Exit(EXIT_GATE if any(result.hit for result in results) else EXIT_DONE)


def conclude_rank(summary: RankSummary | GenerationRankSummary, as_json: bool) -> None:
    """Print what one rank of many did that did not end the run."""
    if as_json:
        print(json.dumps({**asdict(summary), "run": str(summary.run)}, indent=1))
        return
    from allfour.pipeline.commands.rescore import RankSummary
    from allfour.pipeline.words import quantity

    if isinstance(summary, RankSummary):
        done, left, thing = f"{quantity(summary.scored, 'image')} scored", summary.shards_left, "shard"
    else:
        done, left, thing = f"{quantity(summary.generated, 'image')} made", summary.images_left, "image"
    rest = (
        f"{quantity(left, thing)} of other ranks {'is' if left == 1 else 'are'} not done; the last rank to finish writes the tables and the report"
        if left
        else f"all {thing}s are done; another process is at work in the run folder. If it is a rank, it writes the tables and the report; if "
        "not, repeat this command when it has ended"
    )
    print(f"rank {summary.rank} of {summary.world_size}: {done}; {rest}")


# --- other commands --------------------------------------------------------------------------------------------------


def _describe_probe(probed: Mapping[str, int]) -> str:
    """What the images that were looked at are, in a line."""
    from allfour.pipeline.words import quantity

    opened, prompts = quantity(probed["images"], "image"), quantity(probed.get("distinct", 0), "different prompt")
    parts = [f"{opened} opened, {probed.get('with_prompt', 0)} of them with a prompt ({prompts})"]
    for name, what in (
        ("in_metadata", "with the prompt in the metadata"),
        ("copies", "copies of others"),
        ("likely_grids", "likely grids"),
        ("missing", "missing"),
    ):
        if probed.get(name):
            parts.append(f"{probed[name]} {what}")
    return "; ".join(parts)


def _of_copies(found: ArchiveSummary, whole: int, set_size: int) -> str:
    """How many of the whole sets are whole by copies alone."""
    if found.without_copies is None:
        return ""
    filled = whole - sum(count for images, count in found.without_copies.items() if images >= set_size)
    return f", {filled} of them only by copies" if filled else ""


def print_estimate(found: EachEstimate, as_json: bool) -> None:
    """What `audit --each --dry-run` says."""
    print(json.dumps(asdict(found), indent=1) if as_json else found.describe())


def print_archive(found: ArchiveSummary, *, set_size: int, as_json: bool) -> None:
    """Print what an archive holds, as `rescore --dry-run` does."""
    if as_json:
        print(
            json.dumps(
                {
                    name: getattr(found, name)
                    for name in (
                        "layout",
                        "images",
                        "prompts",
                        "images_per_prompt",
                        "without_copies",
                        "shards",
                        "examples",
                        "notes",
                        "probed",
                    )
                },
                indent=1,
            )
        )
        return
    from allfour.pipeline.words import quantity

    unknown = "not known before reading"
    print(f"layout:  {found.layout}")
    print(f"images:  {found.images if found.images is not None else unknown}")
    print(f"prompts: {found.prompts if found.prompts is not None else unknown}")
    if found.images_per_prompt is not None:
        whole = sum(count for images, count in found.images_per_prompt.items() if images >= set_size)
        have = "has" if whole == 1 else "have"
        print(
            f"sets:    {quantity(whole, 'prompt')} {have} a whole set of {set_size} images{_of_copies(found, whole, set_size)}"
        )
    print(f"shards:  {found.shards}")
    if found.probed.get("images"):
        print(f"probe:   {_describe_probe(found.probed)}")
    for title, lines in (("examples", found.examples), ("notes", found.notes)):
        if lines:
            print(f"{title}:")
            for line in lines:
                print(f"  {line}")


def conclude_comparison(done: WrittenComparison, results: Sequence[gates.GateResult], as_json: bool) -> NoReturn:
    """Print what a comparison found and leave with the exit code that it stands for."""
    code = EXIT_GATE if any(result.hit for result in results) else EXIT_DONE
    if as_json:
        found = {"page": str(done.page_path), "json": str(done.json_path), "exit_code": code}
        print(json.dumps({**found, "summary": done.comparison["summary"], "gates": _gate_entries(results)}, indent=1))
    else:
        from allfour.pipeline.commands.compare import summary_lines

        for line in summary_lines(done.comparison):
            print(line)
        _print_gates(results)
        print(f"comparison: {done.page_path}")
    raise typer.Exit(code)


def conclude_study(done: StudySummary, as_json: bool) -> NoReturn:
    """Print what a study found and leave: 2 where a cell could not be done, 3 where images are missing."""
    code = EXIT_USAGE if done.failed else EXIT_MISSING if done.missing else EXIT_DONE
    if as_json:
        places = {"page": str(done.page), "exit_code": code, "not_done": done.failed}
        print(json.dumps({**places, "boards": [board.document() for board in done.result.boards]}, indent=1))
    else:
        from allfour.pipeline.commands.study import study_lines

        for line in study_lines(done):
            print(line.replace("\u00a0", " "))
        print(f"study: {done.page}")
    raise typer.Exit(code)


def print_calibration(result: Mapping[str, Any], out: Path, as_json: bool) -> None:
    """Print how right a classifier was, overall and by group, and where the calibration lies."""
    from allfour.pipeline.words import percent

    if as_json:
        print(json.dumps(result, indent=1))
        return
    for name, entry in result["attributes"].items():
        accuracy = entry["accuracy"]
        if accuracy["value"] is None:
            print(f"{name}: none of {entry['images']} images got a label, so its errors are unknown")
            continue
        print(
            f"{name}: accuracy {percent(accuracy['value'], 1)} ({percent(accuracy['low'], 1)} to {percent(accuracy['high'], 1)}) among the "
            f"{percent(entry['labelled']['value'], 1)} of {entry['images']} images that got a label"
        )
        for by, values in entry["groups"].items():
            text = ", ".join(
                f"{v} {percent(g['accuracy']['value'], 1)}"
                for v, g in values.items()
                if g["accuracy"]["value"] is not None
            )
            print(f"  by {by}: {text}")
        if (chosen := entry.get("max_error")) is not None:
            error = chosen["error"]
            print(
                f"  margin {chosen['margin']:.4g} for an error of at most {chosen['wanted']:.3g}: {percent(error['value'], 1)} ({percent(error['low'], 1)} to "
                f"{percent(error['high'], 1)}) of the {chosen['images']} images that keep a label"
            )
        if (heat := entry.get("temperature")) is not None:
            print(f"  temperature that fits best: {heat['value']:.3g}")
    for name in result["binding"]["margins"]:
        if name not in result["attributes"]:
            print(f"{name}: not calibrated, because some of its labels occur in none of the images")
    for name, words in result["dataset"]["words_without_label"].items():
        from allfour.pipeline.words import clean

        text = ", ".join(f"{clean(word, 40)} ({images})" for word, images in list(words.items())[:8])
        more = ", ..." if len(words) > 8 else ""
        print(f"note: images whose word for {name} is not one of its labels are left out of it: {text}{more}")
    for warning in result["warnings"]:
        print(f"note: {warning}")
    for name, entry in (result.get("probe") or {}).items():
        print(
            f"probe, {name}: {percent(entry['probe']['value'], 1)} cross-validated; zero-shot {percent(entry['zero_shot']['value'], 1)}"
        )
    print(f"calibration: {out}")


def print_drawn(drawn: Drawn, run: Path, as_json: bool) -> None:
    """Print what sample of a run is to be labelled, and how."""
    if as_json:
        print(json.dumps({**asdict(drawn), "page": str(drawn.page)}, indent=1))
        return
    from allfour.pipeline.words import quantity

    of = quantity(drawn.population, drawn.kind)
    print(f"{quantity(drawn.images, 'image')} to label: {drawn.units} of {of}, review {drawn.id}")
    if drawn.beyond:
        print(
            f"note: {quantity(drawn.beyond, 'image')} made for single prompts (`audit --each`) are not in the sample, because they are not part "
            "of the figures that a review corrects"
        )
    print(
        f"open {drawn.page} in a browser and label the images; then read the exported file: allfour review {shlex.quote(str(run))} --import FILE.csv"
    )


def print_imported(imported: ImportedReview, run: Path, as_json: bool) -> None:
    """Print what raters said of a sample, and where it went."""
    if as_json:
        report = str(imported.report) if imported.report else None
        print(json.dumps({**imported.result, "report": report}, indent=1))
        return
    from allfour.pipeline.analyses.review.results import describe_result

    print(describe_result(imported.result))
    print(f"review: {imported.review}")
    if imported.report:
        print(f"report: {imported.report}")
    else:
        print(f"report: none yet, as the run has no metrics.json; `allfour report {shlex.quote(str(run))}` writes both")


def print_weights(entries: Sequence[Entry], as_json: bool) -> None:
    """What `allfour weights list` found."""
    if as_json:
        print(json.dumps([entry.to_dict() for entry in entries], indent=1))
        return
    for entry in entries:
        print(f"{entry.name}: {entry.purpose}. {entry.terms}.")
        print(f"  {entry.path or 'not on this machine; get it with:  ' + entry.get}")


def print_checks(checks: Sequence[Check], as_json: bool) -> None:
    """Print the doctor's table."""
    if as_json:
        print(json.dumps([check.to_dict() for check in checks], indent=1))
        return
    if not sys.stdout.isatty():
        _print_checks_plainly(checks)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for check in checks:
        mark = {"ok": "[green]ok[/]", "warning": "[yellow]note[/]", "missing": "[red]missing[/]"}[check.state]
        table.add_row(mark, check.name, Text(check.found + (f"\n-> {check.mend}" if check.mend else "")))
    Console().print(table)


def _print_checks_plainly(checks: Sequence[Check]) -> None:
    """For a file or another program: nothing is wrapped, however long; the further lines of a text stand below its first."""
    wide = max((len(check.name) for check in checks), default=0)
    for check in checks:
        mark = {"ok": "ok", "warning": "note"}.get(check.state, check.state)
        aside = "\n" + " " * (8 + wide + 2)
        print(f"{mark:<8}{check.name:<{wide}}  {check.found.replace(chr(10), aside)}")
        if check.mend:
            print(f"{'':<8}{'':<{wide}}  -> {check.mend}")
