"""The options of `allfour audit --each`, and the command behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allfour.errors import UsageError

if TYPE_CHECKING:
    from allfour.pipeline.commands.job import RunSummary
    from allfour.pipeline.commands.progress import Reporter
    from allfour.pipeline.config import RunConfig
    from allfour.pipeline.run.folder import RunFolder

DEFAULT_UP_TO = 32

EachOption = Annotated[
    str | None,
    typer.Option(
        "--each",
        metavar="EXPR",
        help="After the run's images, make more for each prompt for which this is still open, such as 'share.woman.low > 0.5 or "
        "share.woman.high < 0.5'. The extra images count in no other figure.",
    ),
]
UpToOption = Annotated[
    int | None,
    typer.Option("--up-to", min=2, metavar="N", help=f"Most images per prompt with --each. Default: {DEFAULT_UP_TO}."),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="With --each: say how many images it takes at most and on average, and make none."),
]


@dataclass(frozen=True, slots=True)
class EachEstimate:
    """What a question of each prompt will take."""

    prompts: int
    """Of which it is asked."""
    existing: int
    """Images that exist, those beyond the run's own among them."""
    most: int
    """Images still to be made at the most."""
    expected: float | None
    """On average; None where it cannot be told."""
    basis: str
    """What `expected` rests on."""
    cost: float | None
    """Of `most`; None where no price is known."""
    expected_cost: float | None
    currency: str | None

    def describe(self) -> str:
        """In a sentence."""
        from allfour.pipeline.words import quantity

        unit = f" {self.currency}" if self.currency else ""

        def money(cost: float | None) -> str:
            return "" if cost is None else f" ({cost:,.2f}{unit})"

        text = f"at most {quantity(self.most, 'more image')}{money(self.cost)}"
        if self.expected is not None:
            text += f", on average about {self.expected:,.0f}{money(self.expected_cost)}, {self.basis}"
        return f"{text}. Made already: {quantity(self.existing, 'image')} of {quantity(self.prompts, 'prompt')}"


def wanted(each: str | None, up_to: int | None, dry_run: bool) -> bool:
    """Whether prompts are asked. Raises UsageError where an option of it stands alone."""
    if each is None and (up_to is not None or dry_run):
        raise UsageError("--up-to and --dry-run belong to --each")
    return each is not None


def check_alone(**others: Any) -> None:
    """Raises UsageError where an option is given that does not go with --each."""
    if given := [name for name, value in others.items() if value is not None]:
        raise UsageError(
            f"--each looks at every prompt of the list after every set: leave out --{given[0].replace('_', '-')}"
            + (", which draws prompts and stops" if given[0] == "until" else "")
        )


def run(
    config: RunConfig,
    folder: RunFolder,
    reporter: Reporter,
    calibration: Path | None,
    *,
    each: str,
    up_to: int | None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> RunSummary | EachEstimate:
    """Carry it out, or say what it would take. Raises as `audit_each`."""
    from allfour.pipeline.commands import audit_each
    from allfour.pipeline.commands.job import Job
    from allfour.pipeline.metrics.each_prompt import parse_question

    rule, most = parse_question(each), DEFAULT_UP_TO if up_to is None else up_to
    job = Job.begin(config, folder, reporter, calibration)
    if dry_run:
        return audit_each.dry_run(job, rule=rule, up_to=most)
    return audit_each.audit_each(job, rule=rule, up_to=most, overwrite=overwrite)
