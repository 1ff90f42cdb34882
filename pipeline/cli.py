"""The `allfour` command.

Exit codes: 0 done; 1 a --fail-if gate was hit; 2 wrong usage or config; 3 done with images missing (failed, refused or
unreadable), which the summary names. A gate that is hit wins over missing images.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from pipeline import gate as gates
from pipeline.config import ConfigError, RunConfig, load_config

if TYPE_CHECKING:
    from pipeline.audit_ranks import GenerationRankSummary
    from pipeline.progress import Reporter
    from pipeline.stages import RankSummary, RunSummary

EXIT_DONE, EXIT_GATE, EXIT_USAGE, EXIT_MISSING = 0, 1, 2, 3

app = typer.Typer(
    name="allfour",
    help="Measure demographic bias of text-to-image models: for how many prompts do all four images show one perceived gender?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The YAML of one way to run, such as configs/sandbox.yaml.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any config key, as in a.b=c. Repeatable."),
]
RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run folder. Default: runs/NAME, from the config's name.")
]
FailIfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if", metavar="EXPR", help="Exit with 1 where this holds, as in 'unanimity > 0.5'. Repeatable."
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration", help="calibration.json of this very classifier: adds corrected shares and unanimity."
    ),
]
SecondOpinionOption = Annotated[
    Path | None,
    typer.Option(
        "--second-opinion", metavar="RUN", help="A run of another classifier over the same images: how far they agree."
    ),
]
JunitOption = Annotated[
    Path | None, typer.Option("--junit", help="Also write the --fail-if gates as JUnit XML to this file.")
]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", help="Also add a Markdown summary to the end of this file.")
]
WorldSizeOption = Annotated[int | None, typer.Option("--world-size", help="How many ranks there are.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout, for machines; no progress.")
]


def main() -> None:
    """Entry point: one clear error for everything that a user can mend."""
    # A hub client's own progress bars and advice would break up our output; its errors are ours to phrase.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn the errors that carry their own mend into exit code 2, without a traceback."""
    from models.classifiers.base import ClassifierError
    from models.generators.base import BackendError
    from pipeline.archives.base import ArchiveError

    try:
        yield
    except (ConfigError, ArchiveError, ClassifierError, BackendError) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept. Repeat the same command to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    except OSError as error:
        if error.errno in (28, 122):  # no space left, quota exceeded
            _stop(
                f"the disk is full ({error.filename or 'while writing'}). Free some space and repeat the same command: it goes on"
            )
        raise


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(EXIT_USAGE)


def _reporter(as_json: bool) -> Reporter:
    from pipeline.progress import Reporter

    return Reporter(quiet=as_json)


def _run_folder(config: RunConfig, given: Path | None) -> Path:
    if given is not None:
        return given
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", config.name or "run").strip("-.") or "run"
    return Path("runs") / name


@app.command()
def audit(
    config: ConfigOption = Path("configs/sandbox.yaml"),
    overrides: SetOption = None,
    run: RunOption = None,
    calibration: CalibrationOption = None,
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="Make only the images of one rank of many, counted from 0.")
    ] = None,
    world_size: WorldSizeOption = None,
) -> None:
    """Generate images for every prompt, score them, and report."""
    with _clear_errors():
        parsed = [gates.parse_gate(text) for text in fail_if or []]
        settings = load_config(config, overrides)
        from pipeline import stages
        from pipeline.run_folder import RunFolder

        folder = RunFolder(_run_folder(settings, run))
        if rank is not None or world_size is not None:
            if rank is None or world_size is None:
                raise ConfigError("--rank and --world-size belong together")
            from pipeline.audit_ranks import audit_rank

            share = audit_rank(settings, folder, _reporter(as_json), calibration, rank=rank, world_size=world_size)
            if isinstance(share, stages.RunSummary):
                _conclude(share, parsed, as_json, junit=junit, markdown=markdown)
            _conclude_rank(share, as_json)
            return
        summary = stages.audit(settings, folder, _reporter(as_json), calibration)
        _conclude(summary, parsed, as_json, junit=junit, markdown=markdown)


@app.command()
def rescore(
    source: Annotated[
        str, typer.Argument(help="A folder of PROMPT/INDEX.png, a manifest, or another archive of images.")
    ],
    config: ConfigOption = Path("configs/rescore.yaml"),
    overrides: SetOption = None,
    run: RunOption = None,
    calibration: CalibrationOption = None,
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the archive holds, and score nothing.")] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="Where scoring runs: this machine, or a Ray cluster.")
    ] = "local",
    rank: Annotated[
        int | None, typer.Option("--rank", help="Score only the shards of one rank of many, counted from 0.")
    ] = None,
    world_size: WorldSizeOption = None,
) -> None:
    """Score images that exist already, and report. The archive is only read."""
    with _clear_errors():
        parsed = [gates.parse_gate(text) for text in fail_if or []]
        settings = load_config(config, overrides)
        from pipeline import stages
        from pipeline.run_folder import RunFolder

        if dry_run:
            _describe(settings, source, as_json)
            return
        folder = RunFolder(_run_folder(settings, run))
        if rank is None and world_size is None:
            summary = stages.rescore(settings, source, folder, _reporter(as_json), calibration, engine_name=engine)
            _conclude(summary, parsed, as_json, junit=junit, markdown=markdown)
        if rank is None or world_size is None:
            raise ConfigError("--rank and --world-size belong together")
        if engine != "local":
            raise ConfigError("--rank divides the work by itself: leave --engine out")
        share = stages.rescore_rank(
            settings, source, folder, _reporter(as_json), calibration, rank=rank, world_size=world_size
        )
        if isinstance(share, stages.RunSummary):
            _conclude(share, parsed, as_json, junit=junit, markdown=markdown)
        _conclude_rank(share, as_json)


@app.command()
def relabel(
    run: Annotated[Path, typer.Argument(help="A run folder scored with a CLIP: its embeddings are read, no image is.")],
    attributes: Annotated[
        Path | None, typer.Option("--attributes", help="The new wording and margins: an attributes YAML.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="FILE",
            help="Instead: how far the headline hangs on templates, phrases, margin, threshold and head, into RUN's own "
            "report. A grid YAML, or 'default'.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--run", help="Run folder of the result. Default: RUN-relabelled.")
    ] = None,
    overrides: SetOption = None,
    calibration: CalibrationOption = None,
    second_opinion: SecondOpinionOption = None,
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a run's stored embeddings under another wording or other margins, into a run of its own; or under a grid of them."""
    with _clear_errors():
        parsed = [gates.parse_gate(text) for text in fail_if or []]
        from pipeline.run_folder import RunFolder

        if (attributes is None) == (grid is None):
            raise ConfigError(
                "give one of --attributes FILE (a run under other wording) and --grid FILE (a sensitivity analysis)"
            )
        if grid is not None:
            if out is not None or calibration is not None:
                raise ConfigError(
                    "--grid adds to RUN's own report, so --run has no place; nor has --calibration, which belongs to one wording"
                )
            from pipeline.relabel_grid import relabel_grid
            from pipeline.sensitivity_grid import load_grid

            other = RunFolder(second_opinion) if second_opinion else None
            done = relabel_grid(
                RunFolder(run), load_grid(grid), _reporter(as_json), overrides=overrides or [], second_opinion_of=other
            )
            _conclude(done, parsed, as_json)
        if second_opinion is not None:
            raise ConfigError("--second-opinion goes with --grid, or with `allfour report`")
        from pipeline.relabel import relabel as relabel_run

        file = str(attributes.resolve()) if attributes is not None and attributes.exists() else str(attributes)
        folder = RunFolder(out or run.parent / f"{run.resolve().name}-relabelled")
        summary = relabel_run(
            RunFolder(run), file, folder, _reporter(as_json), overrides=overrides or [], calibration=calibration
        )
        _conclude(summary, parsed, as_json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    calibration: CalibrationOption = None,
    second_opinion: SecondOpinionOption = None,
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
) -> None:
    """Compute metrics and the report again from the tables of a run."""
    with _clear_errors():
        parsed = [gates.parse_gate(text) for text in fail_if or []]
        from pipeline import stages
        from pipeline.run_folder import RunFolder

        other = RunFolder(second_opinion) if second_opinion else None
        summary = stages.report_again(RunFolder(run), calibration, second_opinion_of=other)
        _conclude(summary, parsed, as_json, junit=junit, markdown=markdown)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders: each further one is compared with the first.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The page (.html; the JSON goes beside it), or a folder. Default: runs/compare-NAMES."
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="Also against these shares: a file of configs/references, or 'uniform'."),
    ] = None,
    shared_prompts: Annotated[
        bool, typer.Option("--shared-prompts", help="Leave out prompts that one run lacks, instead of refusing.")
    ] = False,
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs prompt by prompt, or a run with reference shares. Runs that are not comparable are refused."""
    with _clear_errors():
        parsed = [gates.parse_gate(text) for text in fail_if or []]
        from pipeline.comparing import run_comparison, summary_lines

        done = run_comparison(runs, out=out, reference=reference, shared_only=shared_prompts)
        results = [gates.evaluate(gate, done.comparison) for gate in parsed]
    code = EXIT_GATE if any(result.hit for result in results) else EXIT_DONE
    if as_json:
        found = {"page": str(done.page_path), "json": str(done.json_path), "exit_code": code}
        print(json.dumps({**found, "summary": done.comparison["summary"], "gates": _gate_entries(results)}, indent=1))
    else:
        for line in summary_lines(done.comparison):
            print(line)
        _print_gates(results)
        print(f"comparison: {done.page_path}")
    raise typer.Exit(code)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    kind: Annotated[
        Literal["markdown", "latex", "junit", "csv", "dataset"],
        typer.Option(
            "--format", help="'dataset' is a folder that the package `datasets` loads: images and tidy scores."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write. Default: stdout; RUN-dataset for a data set.")
    ] = None,
    fail_if: FailIfOption = None,
) -> None:
    """Give a run's results to other programs: tables, gates as JUnit XML, or a data set."""
    with _clear_errors():
        parsed = [gates.parse_gate(text) for text in fail_if or []]
        from pipeline import exporting

        if kind == "dataset":
            target = out or run.parent / f"{run.resolve().name}-dataset"
            counts = exporting.export_dataset(run, target)
            print(f"{counts['images']} images, {counts['rows']} rows of scores: {target}")
            if counts["left_out"]:
                print(
                    f"note: {counts['left_out']} images are left out: their bytes are gone or not those that were scored"
                )
            return
        data = exporting.text_export(run, kind, gates=parsed)
        if out is None:
            sys.stdout.buffer.write(data)
        else:
            exporting.write_file(out, data)


@app.command()
def calibrate(
    dataset: Annotated[
        Path, typer.Argument(help="Labelled images: FairFace or other CSV, UTKFace names, a folder per class.")
    ],
    config: ConfigOption = Path("configs/rescore.yaml"),
    overrides: SetOption = None,
    out: Annotated[Path, typer.Option("--out", help="Where to write the calibration.")] = Path("calibration.json"),
    fit_probe: Annotated[
        Path | None,
        typer.Option("--fit-probe", help="Also fit a linear probe on the embeddings, to this .safetensors file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how wrong a config's classifier is, overall and per group, on images that people labelled."""
    with _clear_errors():
        settings = load_config(config, overrides)
        from pipeline.calibrating import run_calibration

        result = run_calibration(settings, dataset, out, fit_probe, _reporter(as_json))
    if as_json:
        print(json.dumps(result, indent=1))
        return
    for name, entry in result["attributes"].items():
        accuracy = entry["accuracy"]
        print(
            f"{name}: accuracy {accuracy['value']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%}) of the labelled "
            f"{entry['labelled']['value']:.1%} of {entry['images']} images"
        )
        for by, values in entry["groups"].items():
            said = ", ".join(
                f"{v} {g['accuracy']['value']:.1%}" for v, g in values.items() if g["accuracy"]["value"] is not None
            )
            print(f"  by {by}: {said}")
    for name, entry in (result.get("probe") or {}).items():
        print(
            f"probe, {name}: {entry['probe']['value']:.1%} cross-validated; zero-shot {entry['zero_shot']['value']:.1%}"
        )
    print(f"calibration: {out}")


@app.command()
def review(
    run: Annotated[Path, typer.Argument(help="A scored run folder.")],
    sample: Annotated[int, typer.Option("--sample", min=1, help="Images to label.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw.")] = 0,
    whole_sets: Annotated[
        bool, typer.Option("--whole-sets", help="Draw whole sets of prompts: for unanimity rather than shares.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="The page. Default: RUN/review.html.")] = None,
    imports: Annotated[
        list[Path] | None,
        typer.Option("--import", metavar="FILE.csv", help="Read what a rater exported from the page. Repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let people label a sample of a run's images; with --import, what they said of the classifier and of the run."""
    with _clear_errors():
        from pipeline.run_folder import RunFolder

        folder = RunFolder(run)
        if imports:
            from pipeline.review_import import describe_result, import_answers

            result = import_answers(folder, imports)
            print(json.dumps(result, indent=1) if as_json else describe_result(result))
            if not as_json:
                print(f"review: {folder.path / 'review.json'}")
            return
        from pipeline.review import draw

        drawn = draw(folder, sample=sample, seed=seed, whole_sets=whole_sets, out=out)
        if as_json:
            print(json.dumps({**asdict(drawn), "page": str(drawn.page)}, indent=1))
            return
        print(f"{drawn.images} images to label: {drawn.units} of {drawn.population} {drawn.kind}s, review {drawn.id}")
        print(f"open {drawn.page} in a browser; read its CSV with `allfour review {run} --import FILE.csv`")


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Check what this config needs, too.")] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check Python, packages, device, weights, keys and disk, each with its mend."""
    with _clear_errors():
        from pipeline.doctor import diagnose

        checks = diagnose(load_config(config, overrides) if config else None)
    if as_json:
        print(json.dumps([check.to_dict() for check in checks], indent=1))
    else:
        table = Table(show_header=False, box=None, pad_edge=False)
        for check in checks:
            mark = {"ok": "[green]ok[/]", "warning": "[yellow]note[/]", "missing": "[red]missing[/]"}[check.state]
            table.add_row(mark, check.name, _plain(check.found + (f"\n-> {check.mend}" if check.mend else "")))
        Console().print(table)
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(EXIT_USAGE)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _describe(config: RunConfig, location: str, as_json: bool) -> None:
    from pipeline.archives import open_source
    from pipeline.stages import archive_options

    found = open_source(location, options=archive_options(config)).summary()
    if as_json:
        print(
            json.dumps(
                {
                    name: getattr(found, name)
                    for name in ("layout", "images", "prompts", "images_per_prompt", "shards", "examples", "notes")
                },
                indent=1,
            )
        )
        return
    unknown = "not known before reading"
    print(f"layout:  {found.layout}")
    print(f"images:  {found.images if found.images is not None else unknown}")
    print(f"prompts: {found.prompts if found.prompts is not None else unknown}")
    if found.images_per_prompt is not None:
        size = config.prompts.set_size
        whole = sum(count for images, count in found.images_per_prompt.items() if images >= size)
        print(f"sets:    {whole} prompts have a whole set of {size} images")
    print(f"shards:  {found.shards}")
    for title, lines in (("examples", found.examples), ("notes", found.notes)):
        if lines:
            print(f"{title}:")
            for line in lines:
                print(f"  {line}")


def _conclude_rank(summary: RankSummary | GenerationRankSummary, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(summary), "run": str(summary.run)}, indent=1))
        return
    from pipeline.stages import RankSummary

    if isinstance(summary, RankSummary):
        done, left, things = f"{summary.scored} images scored", summary.shards_left, "shards"
    else:
        done, left, things = f"{summary.generated} images made", summary.images_left, "images"
    rest = (
        f"{left} {things} of other ranks are not done; the last rank makes the tables and the report"
        if left
        else f"all {things} are done; another rank is making the tables and the report"
    )
    print(f"rank {summary.rank} of {summary.world_size}: {done}; {rest}")


def _conclude(
    summary: RunSummary,
    parsed: Sequence[gates.Gate],
    as_json: bool,
    *,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> NoReturn:
    """Print the result and leave with the exit code that it stands for."""
    results = [gates.evaluate(gate, summary.metrics) for gate in parsed]
    if junit or markdown:
        from pipeline.exporting import write_ci_files

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
                    "summary": summary.metrics["summary"],
                    "accounting": summary.metrics["accounting"],
                    "sensitivity": summary.metrics.get("sensitivity"),
                    "warnings": summary.metrics["warnings"],
                    "gates": _gate_entries(results),
                },
                indent=1,
            )
        )
    else:
        _print_summary(summary, results)
    raise typer.Exit(code)


def _gate_entries(results: Sequence[gates.GateResult]) -> list[dict[str, Any]]:
    return [{"gate": r.gate.text, "value": r.value, "hit": r.hit, "reason": r.reason} for r in results]


def _print_gates(results: Sequence[gates.GateResult]) -> None:
    for result in results:
        print(f"gate {'HIT' if result.hit else 'passed'}: {result.gate.text} ({result.reason})")


def _describe_second_opinion(second: dict[str, Any]) -> str:
    agreement, decided = second["agreement"], second["images"]["both_decided"]
    if agreement["value"] is None:
        return f"second opinion: no image was labelled by this run and by {second['name']}"
    return (
        f"second opinion: {second['name']} agrees on {agreement['value']:.1%} of {decided} images "
        f"({agreement['low']:.1%} to {agreement['high']:.1%}); which is right, this does not tell"
    )


def _print_summary(summary: RunSummary, results: Sequence[gates.GateResult]) -> None:
    metrics = summary.metrics
    top, accounting = metrics["summary"], metrics["accounting"]
    interval = top["unanimity"]
    if interval["value"] is None:
        print(f"No prompt has a whole set of {top['set_size']} images: unanimity cannot be told.")
    else:
        percent = f"{top['confidence']:.0%}"
        print(
            f"{top['unanimous']} of {top['prompts']} prompts: all {top['set_size']} images show one perceived {metrics['headline']} "
            f"= {interval['value']:.1%} ({percent} interval {interval['low']:.1%} to {interval['high']:.1%}); a fair coin gives "
            f"{top['unanimity_null']['expected']:.1%}"
        )
        bounds = top["unanimity_bounds"]
        if bounds["high"] != bounds["low"]:
            print(
                f"  between {bounds['low']:.1%} and {bounds['high']:.1%}, as images without a label are resolved against or for it"
            )
    parts = [
        f"{accounting[key]} {key.replace('_', ' ')}"
        for key in accounting
        if accounting[key] or key in ("requested", "scored")
    ]
    print("images: " + ", ".join(parts))
    if (moved := metrics.get("sensitivity")) and moved["range"] is not None:
        from pipeline.sensitivity_grid import FACTORS

        most = f"; it moves most with {FACTORS[moved['moved_most']]}" if moved["moved_most"] else ""
        print(f"sensitivity: {moved['low']:.1%} to {moved['high']:.1%} over all settings of the grid{most}")
    if second := metrics.get("second_opinion"):
        print(_describe_second_opinion(second))
    for warning in metrics["warnings"]:
        print(f"note: {warning}")
    _print_gates(results)
    if summary.missing:
        print(
            f"{summary.missing} images are missing: see the column `error` of {summary.run / 'images.parquet'}, or the report"
        )
    print(f"report: {summary.report}")
