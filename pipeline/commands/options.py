"""The options that several commands of `allfour` share. One that a single command has stands with that command in cli.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from allfour.pipeline.commands import output


class NamedArguments(TyperGroup):
    """Help that shows an argument by its name, without the Python type behind it (`RUN <list[Path]>`)."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for command in self.commands.values():
            for parameter in command.params:
                if parameter.param_type_name == "argument":
                    parameter.__dict__["display_type_rich"] = _no_type


def _no_type(**_: Any) -> None:
    return None


# What is run, and where it goes.
AuditConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="CONFIG",
        help="A config: a YAML file, or the name of a bundled one. Default: sandbox.",
    ),
]
RescoreConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="CONFIG",
        help="A config: a YAML file, or the name of a bundled one. Default: rescore.",
    ),
]


def packaged_config(name: str) -> Path:
    """The config of this name that travels with allfour, whatever stands in the working directory."""
    from allfour import resources

    return resources.packaged(Path("configs") / f"{name}.yaml") or Path(name)


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the config, such as prompts.images_per_prompt=8. Repeatable.",
    ),
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
        "--run",
        parser=_named_folder,
        metavar="RUN",
        help="Run folder. Default: runs/NAME, where NAME is the config's name.",
    ),
]
OutRunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", parser=_named_folder, metavar="RUN", help="Run folder of the result. Default: RUN-relabelled."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        metavar="N",
        help="A first look: only N images, into runs/NAME-first-N. audit rounds up to whole sets, one set of each prompt first.",
    ),
]
WorldSizeOption = Annotated[int | None, typer.Option("--world-size", metavar="N", help="The number of ranks.")]

# Images in rounds.
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="EXPR",
        help="Take the prompts in rounds and stop once this holds, such as 'headline.low > 0.5 or headline.high < 0.5'.",
    ),
]
RoundOption = Annotated[
    int | None,
    typer.Option(
        "--round", min=1, metavar="N", help="Prompts per round of --until. Default: 10, or 4 where images are paid for."
    ),
]

# What is held beside the run's own labels: a file, or another run.
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="The calibration.json of this same classifier: adds corrected shares and unanimity.",
    ),
]
SecondOpinionOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--second-opinion",
        metavar="RUN",
        help="A run of the same images by another classifier (other weights, not another wording): how far the two agree. "
        "Repeatable: from two on, also how often each of the readers errs.",
    ),
]

# What becomes of the result.
FailIfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if", metavar="EXPR", help="Exit with code 1 if this holds, such as 'unanimity > 0.5'. Repeatable."
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=output.remember_json,
        help="Print the result or the error as JSON on stdout, and no progress.",
    ),
]
JunitOption = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Also write the --fail-if gates as JUnit XML to this file."),
]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Also append a Markdown summary to this file.")
]
