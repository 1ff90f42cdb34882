"""`--until` and `--each`: when a question is settled, by limits that hold at every look."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from allfour.errors import UsageError
from allfour.pipeline.metrics.gate import COMPARISONS
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.run.record import Interval
from allfour.pipeline.statistics.sequential import betting_sequence
from allfour.pipeline.statistics.unanimity import subset_unanimity

HEADLINE, ALL_IMAGES, SHARE = "headline", "unanimity_all_images", "share."
UNTIL_OPTION, EACH_OPTION = "--until", "--each"
_TERM = re.compile(
    r"\s*(headline|unanimity|unanimity_all_images|share\.[\w\-+ ]+?)\.(low|high|width)\s*(>=|<=|>|<)\s*(\d*\.?\d+)(%?)\s*"
)
_HELP = (
    "write it as 'headline.width < 0.2', or 'headline.low > 0.5 or headline.high < 0.5'. Figures: headline (the first set of a prompt), "
    "unanimity_all_images, share.LABEL; each has low, high and width"
)
_EACH_HELP = "write it as 'share.woman.low > 0.5 or share.woman.high < 0.5', or 'share.woman.width < 0.4': share.LABEL has low, high and width"


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison."""

    figure: str
    part: str
    comparison: str
    threshold: float
    text: str = ""
    """As it was written."""

    def holds(self, found: Interval) -> bool:
        """Whether it holds of a figure's limits."""
        low, high = found.low or 0.0, 1.0 if found.high is None else found.high
        value = {"low": low, "high": high, "width": high - low}[self.part]
        return COMPARISONS[self.comparison](value, self.threshold)


@dataclass(frozen=True, slots=True)
class StopRule:
    """A question: any of these, each all of its terms."""

    text: str
    ways: tuple[tuple[Term, ...], ...]
    option: str = UNTIL_OPTION

    @property
    def figures(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.figure for way in self.ways for term in way))

    @property
    def labels(self) -> tuple[str, ...]:
        """Those whose shares are asked about."""
        return tuple(figure.removeprefix(SHARE) for figure in self.figures if figure.startswith(SHARE))

    def settled(self, figures: Mapping[str, Interval]) -> bool:
        """Whether the question is settled by these limits."""
        return self.way(figures) is not None

    def way(self, figures: Mapping[str, Interval]) -> str | None:
        """The first of its ways that holds of these limits, as it was written; None where the question is open."""
        for way in self.ways:
            if all(term.holds(figures[term.figure]) for term in way):
                return " and ".join(term.text for term in way)
        return None

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raises UsageError where a share is of a label that the headline does not have."""
        for label in self.labels:
            if label not in labels:
                raise UsageError(f"{self.option} {self.text!r}: no label {label!r}. There: {', '.join(labels)}")


def parse_rule(text: str, *, option: str = UNTIL_OPTION) -> StopRule:
    """`A < 1 and B > 2 or C < 3`, as `option` was given it.

    Raises
    ------
    UsageError
        It is no such expression, or can never or must always hold.
    """
    ways = []
    for way in re.split(r"\bor\b", text):
        terms = []
        for part in re.split(r"\band\b", way):
            match = _TERM.fullmatch(part)
            if match is None:
                help_text = _EACH_HELP if option == EACH_OPTION else _HELP
                raise UsageError(f"{option} {text!r}: {part.strip()!r} is no comparison; {help_text}")
            figure = HEADLINE if match[1] == "unanimity" else match[1]
            threshold = float(match[4]) / (100 if match[5] else 1)
            if not 0 < threshold < 1:
                raise UsageError(f"{option} {text!r}: {threshold:g} does not lie between 0 and 1; write 0.2 or 20%")
            if (match[2], match[3][0]) in {("low", "<"), ("high", ">"), ("width", ">")}:
                raise UsageError(
                    f"{option} {text!r}: {part.strip()!r} holds before anything is known. Stop where low is above a line, high below "
                    "one, or width below one"
                )
            terms.append(Term(figure, match[2], match[3], threshold, part.strip()))
        ways.append(tuple(terms))
    return StopRule(text.strip(), tuple(ways), option)


def looks(
    metrics: Metrics, figures: Sequence[str], *, ends: Sequence[int], confidence: float
) -> list[dict[str, Interval]]:
    """The figures after so many prompts, with limits that hold at all looks at once.

    Parameters
    ----------
    metrics
        Its prompts in the order in which they were drawn.
    ends
        Prompts of each look, the last of them all.
    """
    found: list[dict[str, Interval]] = [{} for _ in ends]
    for figure in figures:
        values = _values(metrics, figure)
        known = np.cumsum([value is not None for value in values])
        series = np.array([value for value in values if value is not None], dtype=np.float64)
        sequence = betting_sequence(series, confidence=confidence)
        for look, end in zip(found, ends, strict=True):
            number = int(known[end - 1])
            low, high = (float(sequence.low[number - 1]), float(sequence.high[number - 1])) if number else (0.0, 1.0)
            value = float(series[:number].mean()) if number else None
            look[figure] = Interval(value=value, low=low, high=high, method="betting")
    return found


def _values(metrics: Metrics, figure: str) -> list[float | None]:
    """One per prompt, in order; None for a share where no image has a label, and of a prompt that asks for one."""
    return [None if metrics.headline in p.expect else _value(p, metrics, figure) for p in metrics.prompts]


def _value(prompt: Prompt, metrics: Metrics, figure: str) -> float | None:
    if figure == HEADLINE:
        return float(prompt.unanimous is not None)
    if figure == ALL_IMAGES:
        return _over_sets(prompt, metrics)
    share = prompt.share.get(figure.removeprefix(SHARE))
    return None if share is None else share.value


def _over_sets(prompt: Prompt, metrics: Metrics) -> float | None:
    counts = [prompt.counts.get(label, 0) for label in metrics.headline_labels]
    unresolved = max(prompt.images - sum(counts), 0)
    found = subset_unanimity([counts], set_size=metrics.summary.set_size, unresolved=[unresolved])
    return None if math.isnan(found[0]) else float(found[0])
