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
from allfour.pipeline.commands.options import (
    FailIfOption,
    JsonOption,
    NamedArguments,
    RescoreConfigOption,
    SetOption,
    packaged_config,
)
from allfour.signals import stops_on_signals

weights = typer.Typer(
    name="weights", cls=NamedArguments, no_args_is_help=True, help="Fetch weights by name into this machine's cache."
)


def add_to(app: typer.Typer) -> None:
    """Make these commands part of the command."""
    for command in (compare, export, calibrate, review, doctor, view):
        app.command()(command)
    app.add_typer(weights)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folders; each further one is compared with the first.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The page (.html; the JSON goes beside it), or a folder. Default: runs/compare-NAMES.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="FILE",
            help="Also compare with these shares: a file such as those in configs/references, or 'uniform'.",
        ),
    ] = None,
    shared_prompts: Annotated[
        bool, typer.Option("--shared-prompts", help="Leave out prompts that one run lacks, instead of refusing.")
    ] = False,
    calibration_a: Annotated[
        Path | None,
        typer.Option(
            "--calibration-a",
            metavar="FILE",
            help="Calibration of the first run. Default: the one kept in its folder.",
        ),
    ] = None,
    calibration_b: Annotated[
        list[Path] | None,
        typer.Option(
            "--calibration-b",
            metavar="FILE",
            help="Calibration of the further runs: one for all, or repeated, one for each.",
        ),
    ] = None,
    equivalent: Annotated[
        float | None,
        typer.Option(
            "--equivalent",
            metavar="SHARE",
            help="Test whether unanimity differs by less than this, such as 0.05 for 5 points.",
        ),
    ] = None,
    pair_by: Annotated[
        Literal["id", "subject"],
        typer.Option(
            "--pair-by", help="Pair prompts with the same id, or variants of the same subject, whatever their words."
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
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    kind: Annotated[
        Literal["markdown", "latex", "junit", "csv", "intersections", "model-card", "dataset"],
        typer.Option("--format", help="'dataset' writes a folder for the package `datasets`: images and tidy scores."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="PATH", help="Where to write; - is stdout. Default: stdout, or RUN-dataset for a data set."
        ),
    ] = None,
    fail_if: FailIfOption = None,
) -> None:
    """Export a run's results for other programs. Tables, gates as JUnit XML, a model card's block, or a data set."""
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
        Path,
        typer.Argument(
            metavar="DATASET",
            help="Labelled images: a CSV (FairFace's or another), UTKFace's file names, or a folder per class.",
        ),
    ],
    config: RescoreConfigOption = None,
    overrides: SetOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the calibration.")] = Path(
        "calibration.json"
    ),
    fit_probe: Annotated[
        Path | None,
        typer.Option(
            "--fit-probe",
            metavar="FILE",
            help="Also fit a linear probe on the embeddings, and write it to this .safetensors file.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a classifier's errors on labelled images. Overall and per group, for the classifier of a config."""
    with clear_errors():
        from allfour.pipeline.commands.calibrate import run_calibration
        from allfour.pipeline.commands.progress import Reporter
        from allfour.pipeline.config import load_config

        settings = load_config(config or packaged_config("rescore"), overrides)
        result = run_calibration(settings, dataset, out, fit_probe, Reporter(quiet=as_json))
    output.print_calibration(result, out, as_json)


def review(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A scored run folder.")],
    sample: Annotated[int, typer.Option("--sample", min=1, metavar="N", help="How many images to label.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the random sample.")] = 0,
    whole_sets: Annotated[
        bool, typer.Option("--whole-sets", help="Sample whole sets of prompts: for unanimity rather than shares.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page. Default: RUN/review.html.")
    ] = None,
    imports: Annotated[
        list[Path] | None,
        typer.Option(
            "--import", metavar="FILE.csv", help="Read the labels that a rater exported from the page. Repeatable."
        ),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", metavar="RATER", help="Remove all labels of a rater. Repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Label a sample of a run's images by hand. With --import: what the labels say about the classifier and the run."""
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
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="CONFIG",
            help="Also check what this config needs: a file, or a bundled one's name.",
        ),
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check whether a run can start. Python, packages, device, weights, keys and disk, each with its fix."""
    with clear_errors():
        from allfour.pipeline.commands.doctor import diagnose, verdict
        from allfour.pipeline.config import load_config

        checks = diagnose(load_config(config, overrides) if config else None)
    output.print_checks(checks, as_json)
    if not as_json:
        print(verdict(checks, of_config=config is not None))
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(output.EXIT_USAGE)


def view(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that your runs are in.")] = Path("runs"),
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the index as one file, and serve nothing.")
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port on this machine; 0 takes a free one.")
    ] = 0,
) -> None:
    """Show an index of runs with links to their reports. Served to this machine alone, or written with --out. Runs are only read."""
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
    """List the weights that can be fetched by name, their terms, and whether they are here."""
    with clear_errors():
        from allfour.pipeline.commands.weights import listing

        output.print_weights(listing(), as_json)


@weights.command("get")
def get_weights(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `allfour weights list`, such as faceres.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="TARBALL", help="Use this package, fetched on another machine.")
    ] = None,
) -> None:
    """Fetch weights from the package registry, check them, and keep them. In the cache, which ALLFOUR_CACHE may move."""
    with clear_errors():
        from allfour.pipeline.commands.weights import fetch

        print(fetch(name, source))
