"""The options that several commands of `allfour` share. One that a single command has stands with that command in cli.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from allfour.pipeline.commands import output

# What is run, and where it goes.
AuditConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The YAML of one way to run. Default: configs/sandbox.yaml, as it came with allfour."
    ),
]
RescoreConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The YAML of one way to run. Default: configs/rescore.yaml, as it came with allfour."
    ),
]


def packaged_config(name: str) -> Path:
    """The config of this name that travels with allfour, whatever stands in the working directory."""
    from allfour import resources

    return resources.packaged(Path("configs") / f"{name}.yaml") or Path(name)


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any config key, as in a.b=c. Repeatable."),
]


def default_run_folder(name: str | None) -> Path:
    """`runs/NAME`, safe as a folder's name."""
    return Path("runs") / (re.sub(r"[^A-Za-z0-9._-]+", "-", name or "run").strip("-.") or "run")


def _named_folder(text: str) -> Path:
    """An empty name, such as that of a variable that is not set, would be the current folder."""
    if not text.strip():
        raise typer.BadParameter("it is empty: name a folder, or leave --run out")
    return Path(text)


RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", parser=_named_folder, metavar="PATH", help="Run folder. Default: runs/NAME, from the config's name."
    ),
]
OutRunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", parser=_named_folder, metavar="PATH", help="Run folder of the result. Default: RUN-relabelled."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        metavar="N",
        help="A first look: N images alone, into runs/NAME-first-N (audit rounds up to whole sets, a set of every prompt first).",
    ),
]
WorldSizeOption = Annotated[int | None, typer.Option("--world-size", help="How many ranks there are.")]

# Images in rounds.
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="EXPR",
        help="Make prompts in rounds and stop where this holds, as in 'headline.low > 0.5 or headline.high < 0.5'.",
    ),
]
RoundOption = Annotated[
    int | None,
    typer.Option("--round", min=1, help="Prompts of a round of --until. Default: 10; 4 where images are paid for."),
]

# What is held beside the run's own labels: a file, or another run.
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration", help="calibration.json of this very classifier: adds corrected shares and unanimity."
    ),
]
SecondOpinionOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--second-opinion",
        metavar="RUN",
        help="A run of another classifier over the same images, not of the same weights in other words: how far they agree. "
        "Repeatable: with two or more, how often each of the readers errs, too.",
    ),
]

# What becomes of the result.
FailIfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if", metavar="EXPR", help="Exit with 1 where this holds, as in 'unanimity > 0.5'. Repeatable."
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=output.remember_json,
        help="Print the result, or the error, as JSON on stdout, for machines; no progress.",
    ),
]
JunitOption = Annotated[
    Path | None, typer.Option("--junit", help="Also write the --fail-if gates as JUnit XML to this file.")
]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", help="Also add a Markdown summary to the end of this file.")
]
