"""Signatures of the commands that plan studies and run them: a part of `allfour.pipeline.cli`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allfour.pipeline.commands.errors import clear_errors
from allfour.pipeline.commands.options import JsonOption, SetOption

if TYPE_CHECKING:
    from allfour.pipeline.commands.init import Choice


def add_to(app: typer.Typer) -> None:
    """Make these commands part of the command."""
    app.command()(plan)
    app.command()(study)
    app.command()(init)


def init(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the config.")] = Path(
        "allfour.yaml"
    ),
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="SOURCE",
            help="Where the images come from: sandbox, diffusers, hosted, web-ui, comfyui or archive.",
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option("--reader", metavar="READER", help="What reads them: clip, face, judge or sandbox."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="PROMPTS",
            help="experiment, us-labour, asked-for, adjectives, all-occupations, or the file of a prompt set.",
        ),
    ] = None,
) -> None:
    """Write a commented config from three answers. Without the options, it asks."""
    with clear_errors():
        from allfour.pipeline.commands import init as starting
        from allfour.pipeline.config import load_config

        images = images or _asked("Where do the images come from?", starting.IMAGES, "sandbox")
        reader = reader or _asked("What reads them?", starting.READERS, "sandbox" if images == "sandbox" else "clip")
        prompts = prompts or _asked(
            "Which prompts? One of these, or a file of your own.", starting.PROMPTS, "experiment"
        )
        # what is wrong with an answer is said before a file stands, which the next try could not replace
        starting.write_config(out, starting.own_config(images, reader, starting.own_prompts(prompts, out)))
        load_config(out)
        print(f"wrote {out}. Next:")
        for command in starting.next_steps(out, images):
            print(f"  {command}")


def _asked(question: str, choices: Mapping[str, Choice], default: str) -> str:
    """An answer from the terminal; the default where nobody is there to ask."""
    if not sys.stdin.isatty():
        return default
    print(question)
    for name, choice in choices.items():
        print(f"  {name:<16} {choice.what}")
    answer: str = typer.prompt("", default=default, prompt_suffix="> ")
    return answer.strip()


def plan(
    unanimity: Annotated[
        str,
        typer.Option(
            "--unanimity", metavar="SHARE", help="The unanimity that you expect; --pilot takes that of its run."
        ),
    ] = "60%",
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="SHARE", help="Plan to tell it from this unanimity of a second run, such as 85%."
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option("--width", metavar="SHARE", help="The width that an interval may have on average, such as 20%."),
    ] = None,
    images: Annotated[
        list[int] | None,
        typer.Option(
            "--images",
            metavar="N",
            help="Images per prompt to consider. Repeatable. Default: one, two and four sets, such as 4, 8, 16.",
        ),
    ] = None,
    prompts: Annotated[
        int, typer.Option("--prompts", min=2, metavar="N", help="Prompts that you have: also say what these give.")
    ] = 20,
    pilot: Annotated[
        Path | None,
        typer.Option("--pilot", metavar="RUN", help="Take spread, error, seconds and money from this measured run."),
    ] = None,
    sensitivity: Annotated[
        str, typer.Option("--sensitivity", metavar="SHARE", help="The classifier's sensitivity.")
    ] = "100%",
    specificity: Annotated[
        str, typer.Option("--specificity", metavar="SHARE", help="The classifier's specificity.")
    ] = "100%",
    turned: Annotated[
        str,
        typer.Option("--turned", metavar="SHARE", help="Share of prompts that differ the other way by chance."),
    ] = "1%",
    power: Annotated[str, typer.Option("--power", metavar="SHARE", help="Power of the test.")] = "90%",
    confidence: Annotated[
        str, typer.Option("--confidence", metavar="SHARE", help="Confidence of intervals and tests.")
    ] = "95%",
    set_size: Annotated[
        int, typer.Option("--set-size", min=2, max=64, metavar="N", help="Images that must agree.")
    ] = 4,
    price: Annotated[float | None, typer.Option("--price", min=0, metavar="MONEY", help="Price of an image.")] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, metavar="N", help="Seconds to make and read an image.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Plan how many prompts and images a question needs. And what they cost, before any is made."""
    with clear_errors():
        from allfour.pipeline.commands.plan import PlanQuestion, plan_lines, plan_study, share_of_text

        question = PlanQuestion(
            unanimity=share_of_text(unanimity),
            against=share_of_text(against) if against is not None else None,
            width=share_of_text(width) if width is not None else None,
            images=tuple(images or (set_size, 2 * set_size, 4 * set_size)),
            prompts=prompts,
            set_size=set_size,
            power=share_of_text(power),
            confidence=share_of_text(confidence),
            sensitivity=share_of_text(sensitivity),
            specificity=share_of_text(specificity),
            turned=share_of_text(turned),
            price=price,
            seconds=seconds,
        )
        found = plan_study(question, pilot=pilot)
    print(json.dumps(found.document(), indent=1) if as_json else "\n".join(plan_lines(found)))


def study(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The YAML of a study: generators, prompt sets and classifiers.")
    ],
    overrides: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the study. Default: studies/NAME.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what is left to make, in images, hours and money, and make nothing."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace images of cells that were made for other requests.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run and rank a matrix of models, prompt sets and classifiers. A study that was stopped goes on where it was."""
    with clear_errors():
        from allfour.pipeline.commands import output
        from allfour.pipeline.commands import study as studies
        from allfour.pipeline.commands.progress import Reporter
        from allfour.pipeline.commands.study_estimates import estimate_entry, estimate_lines, estimates
        from allfour.pipeline.config.study import load_study

        found = load_study(file, overrides)
        folder = out if out is not None else Path("studies") / studies.default_name(found.config.name)
        if dry_run:
            left = estimates(found, folder)
            if as_json:
                print(json.dumps([estimate_entry(entry) for entry in left], indent=1))
            else:
                for line in estimate_lines(found, left):
                    print(line)
            return
        summary = studies.run_study(found, folder, Reporter(quiet=as_json), overwrite=overwrite)
    output.conclude_study(summary, as_json)
