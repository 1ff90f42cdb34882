"""The `allfour` command.

Exit codes: 0 done; 1 a --fail-if gate was hit; 2 wrong usage or config, or standard output that takes nothing; 3 done with images
missing (failed, refused or unreadable), which the summary names. A gate that is hit wins over missing images. 141 where the reader
of a pipe has gone. 70 is a fault of allfour itself.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from allfour.errors import UsageError
from allfour.pipeline.commands import each_options, output, result_options, study_options
from allfour.pipeline.commands.errors import clear_errors, end_on
from allfour.pipeline.commands.options import (
    AuditConfigOption,
    CalibrationOption,
    FailIfOption,
    JsonOption,
    JunitOption,
    LimitOption,
    MarkdownOption,
    NamedArguments,
    OutRunOption,
    RescoreConfigOption,
    RoundOption,
    RunOption,
    SecondOpinionOption,
    SetOption,
    UntilOption,
    WorldSizeOption,
    default_run_folder,
    packaged_config,
)
from allfour.pipeline.commands.streams import EXIT_PIPE, OutputLostError, guarded_streams
from allfour.process.frames import leave_out_pandas

if TYPE_CHECKING:
    from allfour.pipeline.commands.progress import Reporter
    from allfour.pipeline.config import RunConfig
    from allfour.pipeline.metrics.gate import Gate

app = typer.Typer(
    name="allfour",
    cls=NamedArguments,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"allfour {importlib.metadata.version('allfour')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Measure demographic bias of text-to-image models: for how many prompts do all four images show one perceived gender?"""


def main() -> None:
    """Entry point: one clear error for everything that a user can mend."""
    # A hub client's own progress bars and advice would break up our output; its errors are ours to phrase.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that wait for each other must not spin: on a shared machine that takes the cores from whoever has work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    output.remember_json("--json" in sys.argv)
    try:
        with guarded_streams():
            code = _run()
    except OutputLostError as error:
        if error.broken_pipe:  # as `| head` does: whoever reads has what it wanted
            sys.exit(EXIT_PIPE)
        print(f"error: {error}", file=sys.stderr)
        code = output.EXIT_USAGE
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except OutputLostError:
        raise
    except typer.Abort:
        print("\nstopped at a question; nothing was written", file=sys.stderr)
        return output.EXIT_STOPPED
    except Exception as error:
        return end_on(error)
    return code if isinstance(code, int) else output.EXIT_DONE


def _reporter(as_json: bool) -> Reporter:
    from allfour.pipeline.commands.progress import Reporter

    return Reporter(quiet=as_json)


def _run_folder(config: RunConfig, given: Path | None, limit: int | None = None) -> Path:
    if given is not None:
        return given
    folder = default_run_folder(config.name)
    return folder if limit is None else folder.with_name(f"{folder.name}-first-{limit}")


# What takes time to import is imported where it is used: `--help` answers at once.


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """See `allfour.pipeline.config.load_config`."""
    from allfour.pipeline.config import load_config as load

    return load(path, overrides)


def _defer() -> None:
    """See `allfour.process.deferred.defer`."""
    from allfour.process.deferred import defer

    defer()


def _leave_out_pandas(config: RunConfig) -> None:
    """Where no backend is somebody else's, who may make data frames."""
    blocks = (config.generator, config.classifier)
    if all(block is None or type(block).__module__.startswith("allfour.") for block in blocks):
        leave_out_pandas()


def _metrics_gates(texts: list[str] | None) -> list[Gate]:
    from allfour.pipeline.metrics.gate import metrics_gates

    return metrics_gates(texts)


@app.command()
def audit(
    config: AuditConfigOption = None,
    overrides: SetOption = None,
    run: RunOption = None,
    calibration: CalibrationOption = None,
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    rank: Annotated[
        int | None,
        typer.Option("--rank", metavar="R", help="Make only the images of this rank of --world-size, counted from 0."),
    ] = None,
    world_size: WorldSizeOption = None,
    limit: LimitOption = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace images in the run folder that were made for other requests, instead of refusing to.",
        ),
    ] = False,
    until: UntilOption = None,
    round_prompts: RoundOption = None,
    each: each_options.EachOption = None,
    up_to: each_options.UpToOption = None,
    dry_run: each_options.DryRunOption = False,
) -> None:
    """Generate images, score them, and write the report."""
    with clear_errors():
        _defer()
        parsed = _metrics_gates(fail_if)
        settings = load_config(config or packaged_config("sandbox"), overrides)
        _leave_out_pandas(settings)
        from allfour.pipeline.commands.audit import audit as run_audit
        from allfour.pipeline.commands.job import RunSummary
        from allfour.pipeline.run.folder import RunFolder

        if limit is not None and (rank is not None or world_size is not None or until is not None):
            raise UsageError("--limit is for a first look by one process: leave out --rank, --world-size and --until")
        folder = RunFolder(_run_folder(settings, run, limit))
        if each_options.wanted(each, up_to, dry_run):
            each_options.check_alone(until=until, limit=limit, rank=rank, world_size=world_size)
            found = each_options.run(
                settings, folder, _reporter(as_json), calibration,
                each=str(each), up_to=up_to, dry_run=dry_run, overwrite=overwrite,
            )  # fmt: skip
            if isinstance(found, each_options.EachEstimate):
                output.print_estimate(found, as_json)
                return
            output.conclude(found, parsed, as_json, junit=junit, markdown=markdown)
        if until is not None:
            if rank is not None or world_size is not None:
                raise UsageError("--until looks after every round, which ranks do not share: leave --rank out")
            from allfour.pipeline.commands.audit_until import audit_until
            from allfour.pipeline.metrics.stopping import parse_rule

            stopped = audit_until(
                settings, folder, _reporter(as_json), calibration,
                rule=parse_rule(until), round_prompts=round_prompts, overwrite=overwrite,
            )  # fmt: skip
            output.conclude(stopped, parsed, as_json, junit=junit, markdown=markdown)
        if rank is not None or world_size is not None:
            if rank is None or world_size is None:
                raise UsageError("--rank and --world-size belong together")
            from allfour.pipeline.commands.audit_ranks import audit_rank

            share = audit_rank(
                settings, folder, _reporter(as_json), calibration,
                rank=rank, world_size=world_size, overwrite=overwrite,
            )  # fmt: skip
            if isinstance(share, RunSummary):
                output.conclude(share, parsed, as_json, junit=junit, markdown=markdown)
            output.conclude_rank(share, as_json)
            return
        summary = run_audit(settings, folder, _reporter(as_json), calibration, overwrite=overwrite, limit=limit)
        output.conclude(summary, parsed, as_json, junit=junit, markdown=markdown)


@app.command()
def rescore(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder of PROMPT/INDEX.png, a manifest, or another archive of images."
        ),
    ],
    config: RescoreConfigOption = None,
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
        int | None,
        typer.Option("--rank", metavar="R", help="Score only the shards of this rank of --world-size, counted from 0."),
    ] = None,
    world_size: WorldSizeOption = None,
    limit: LimitOption = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the run folder's result of another source, instead of refusing to."),
    ] = False,
) -> None:
    """Score images that exist already, and write the report. The archive is only read."""
    with clear_errors():
        _defer()
        parsed = _metrics_gates(fail_if)
        if not source.strip():
            raise UsageError("SOURCE is empty: name a folder or an archive of images")
        settings = load_config(config or packaged_config("rescore"), overrides)
        _leave_out_pandas(settings)
        from allfour.pipeline.commands.job import RunSummary
        from allfour.pipeline.commands.rescore import archive_options, rescore_rank
        from allfour.pipeline.commands.rescore import rescore as run_rescore
        from allfour.pipeline.run.folder import RunFolder

        if dry_run:
            from allfour.pipeline.archives import open_source

            found = open_source(source, options=archive_options(settings)).summary()
            output.print_archive(found, set_size=settings.prompts.set_size, as_json=as_json)
            return
        if limit is not None and (rank is not None or world_size is not None):
            raise UsageError("--limit is for a first look by one process: leave out --rank and --world-size")
        folder = RunFolder(_run_folder(settings, run, limit))
        if rank is None and world_size is None:
            summary = run_rescore(
                settings, source, folder, _reporter(as_json), calibration, engine_name=engine, overwrite=overwrite,
                limit=limit,
            )  # fmt: skip
            output.conclude(summary, parsed, as_json, junit=junit, markdown=markdown)
        if rank is None or world_size is None:
            raise UsageError("--rank and --world-size belong together")
        if engine != "local":
            raise UsageError("--rank divides the work by itself: leave --engine out")
        share = rescore_rank(
            settings, source, folder, _reporter(as_json), calibration,
            rank=rank, world_size=world_size, overwrite=overwrite,
        )  # fmt: skip
        if isinstance(share, RunSummary):
            output.conclude(share, parsed, as_json, junit=junit, markdown=markdown)
        output.conclude_rank(share, as_json)


@app.command()
def relabel(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run folder scored with a CLIP: its embeddings are read, no image is."),
    ],
    attributes: Annotated[
        Path | None,
        typer.Option("--attributes", metavar="FILE", help="An attributes YAML with the new wording and margins."),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="FILE",
            help="Instead: show in RUN's own report how much the headline depends on templates, phrases, margin, threshold and "
            "head. A grid YAML, or 'default'.",
        ),
    ] = None,
    out: OutRunOption = None,
    overrides: SetOption = None,
    calibration: CalibrationOption = None,
    second_opinion: SecondOpinionOption = None,
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label a run again from its stored embeddings. Under another wording or other margins, as a new run; or under a grid of them."""
    with clear_errors():
        parsed = _metrics_gates(fail_if)
        from allfour.pipeline.run.folder import RunFolder

        if (attributes is None) == (grid is None):
            raise UsageError(
                "give one of --attributes FILE (a run under other wording) and --grid FILE (a sensitivity analysis)"
            )
        if grid is not None:
            if out is not None or calibration is not None:
                raise UsageError(
                    "--grid adds to RUN's own report, so --run has no place; nor has --calibration, which belongs to one wording"
                )
            from allfour.pipeline.analyses.sensitivity_grid import load_grid
            from allfour.pipeline.commands.relabel_grid import relabel_grid

            others = [RunFolder(other) for other in second_opinion or ()]
            done = relabel_grid(
                RunFolder(run), load_grid(grid), _reporter(as_json), overrides=overrides or [], second_opinions=others
            )
            output.conclude(done, parsed, as_json)
        if second_opinion:
            raise UsageError("--second-opinion goes with --grid, or with `allfour report`")
        from allfour.pipeline.commands.relabel import relabel as relabel_run
        from allfour.pipeline.config import typed_path
        from allfour.resources import recorded_name

        file = recorded_name(typed_path(str(attributes)))
        folder = RunFolder(out or run.parent / f"{run.resolve().name}-relabelled")
        summary = relabel_run(
            RunFolder(run), file, folder, _reporter(as_json), overrides=overrides or [], calibration=calibration
        )
        output.conclude(summary, parsed, as_json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    calibration: CalibrationOption = None,
    second_opinion: SecondOpinionOption = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="RUN",
            help="A run of the same prompts and classifier, whose shares are marked beside each prompt.",
        ),
    ] = None,
    fail_if: FailIfOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
) -> None:
    """Compute metrics and the report again from the tables of a run."""
    with clear_errors():
        _defer()
        leave_out_pandas()
        parsed = _metrics_gates(fail_if)
        from allfour.pipeline.commands.report import report_again
        from allfour.pipeline.run.folder import RunFolder

        summary = report_again(
            RunFolder(run),
            calibration,
            second_opinions=[RunFolder(other) for other in second_opinion or ()],
            against=RunFolder(against) if against else None,
        )
        output.conclude(summary, parsed, as_json, junit=junit, markdown=markdown)


result_options.add_to(app)
study_options.add_to(app)
