"""`--each`: a question that is asked of every prompt, and which prompts need more images for it.

Limits rest on counts alone and hold at every look, for all prompts at once (Bonferroni). So who gets further images may depend on
everything that was seen before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import special

from allfour.errors import UsageError
from allfour.pipeline.metrics.stopping import EACH_OPTION, SHARE, StopRule, parse_rule
from allfour.pipeline.run.each import EachState
from allfour.pipeline.run.record import Interval
from allfour.pipeline.statistics.arrays import FloatArray
from allfour.pipeline.statistics.planning import Population
from allfour.pipeline.statistics.sequential import binomial_limits

METHOD = "beta_binomial"


@lru_cache(maxsize=4_096)
def _limits(trials: int, confidence: float) -> tuple[FloatArray, FloatArray]:
    return binomial_limits(np.arange(trials + 1), trials, confidence=confidence)


def parse_question(text: str) -> StopRule:
    """An expression over shares of labels, each of one prompt.

    Raises
    ------
    UsageError
        It is none, or names a figure that no single prompt has.
    """
    rule = parse_rule(text, option=EACH_OPTION)
    if other := [figure for figure in rule.figures if not figure.startswith(SHARE)]:
        raise UsageError(
            f"{EACH_OPTION} {text!r}: {other[0]} is a figure of all prompts, and more images of one prompt do not settle it. Ask about "
            "share.LABEL, or use --until, which draws more prompts"
        )
    return rule


@dataclass(frozen=True)
class EachQuestion:
    """A question with all that its limits depend on."""

    rule: StopRule
    labels: Sequence[str]
    """Of the headline's attribute."""
    prompts: int
    """Of which it is asked: the level is divided by their number, fixed before any was looked at."""
    up_to: int
    """Images that a prompt may have."""
    confidence: float = 0.95

    @property
    def level(self) -> float:
        """Of one prompt."""
        return (1 - self.confidence) / max(self.prompts, 1)

    def figures(self, counts: Mapping[str, int]) -> dict[str, Interval]:
        """The shares that the question names, of one prompt."""
        total = sum(counts.get(label, 0) for label in self.labels)
        low, high = _limits(total, 1 - self.level)
        found = {}
        for label in self.rule.labels:
            hits = counts.get(label, 0)
            value = hits / total if total else None
            found[SHARE + label] = Interval(value=value, low=float(low[hits]), high=float(high[hits]), method=METHOD)
        return found

    def settled(self, counts: Mapping[str, int]) -> str | None:
        """The comparisons that hold of one prompt; None where the question is open."""
        return self.rule.way(self.figures(counts))

    def in_reach(self, counts: Mapping[str, int], more: int) -> bool:
        """Whether so many more images of a prompt could settle it; True where that cannot be told."""
        return any(self._in_reach(way, counts, more) for way in range(len(self.rule.ways)))

    def state(self, counts: Mapping[str, int], *, requested: int) -> EachState:
        """Where one prompt stands after so many requested images."""
        if self.settled(counts) is not None:
            return "settled"
        if requested >= self.up_to:
            return "most"
        return "open" if self.in_reach(counts, self.up_to - requested) else "out_of_reach"

    def some_outcome_settles(self) -> bool:
        """Whether any outcome of `up_to` images would; True where that cannot be told from one count."""
        if self.of_one_share is None:
            return True
        return any(self.settled(self._counts(hits, self.up_to)) is not None for hits in range(self.up_to + 1))

    def fewest(self, most: int = 10_000) -> int | None:
        """Images that could settle it if they all spoke for one side; None beyond `most`."""
        low, high = 0, 1
        while not self.in_reach({}, high):
            low, high = high, 2 * high
            if low >= most:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.in_reach({}, middle) else (middle, high)
        return high

    def _in_reach(self, way: int, counts: Mapping[str, int], more: int) -> bool:
        terms = self.rule.ways[way]
        figures, parts = {term.figure for term in terms}, {term.part for term in terms}
        if len(figures) > 1 or len(parts) > 1:
            return True
        label = terms[0].figure.removeprefix(SHARE)
        total, hits = sum(counts.get(name, 0) for name in self.labels) + more, counts.get(label, 0)
        # a lower limit is highest where all images to come are hits, an upper one lowest where none is, a width least at one of these
        ends = {"low": (hits + more,), "high": (hits,), "width": (hits, hits + more)}[terms[0].part]
        low, high = _limits(total, 1 - self.level)
        return any(all(term.holds(Interval(low=float(low[k]), high=float(high[k]))) for term in terms) for k in ends)

    # --- what it will take -------------------------------------------------------------------------------------------

    @cached_property
    def of_one_share(self) -> str | None:
        """The label whose count decides alone, so that what it takes can be expected; None where there is none."""
        named = self.rule.labels
        return named[0] if len(named) == 1 or len(self.labels) == 2 else None

    def expected_more(
        self,
        spread: Population,
        *,
        hits: int,
        trials: int,
        requested: int,
        step: int,
        known: dict[tuple[int, ...], float],
    ) -> float:
        """Images that a prompt with these counts will be given, on average, where all have a label.

        Parameters
        ----------
        spread
            Of prompts' shares of the label `of_one_share`.
        hits, trials
            Of its images so far.
        step
            Images of a round.
        known
            What was found for other prompts of the same spread, kept by the caller.
        """
        at = (hits, trials, requested)
        if at not in known:
            known[at] = 0.0
            if self.state(self._counts(hits, trials), requested=requested) == "open":
                images = min(step, self.up_to - requested)
                a, b = spread.a + hits, spread.b + trials - hits
                new = np.arange(images + 1)
                chances = special.comb(images, new) * np.exp(
                    special.betaln(a + new, b + images - new) - special.betaln(a, b)
                )
                known[at] = images + sum(
                    float(chance)
                    * self.expected_more(
                        spread,
                        hits=hits + int(k),
                        trials=trials + images,
                        requested=requested + images,
                        step=step,
                        known=known,
                    )
                    for k, chance in zip(new, chances, strict=True)
                )
        return known[at]

    def expected_first(self, spread: Population, *, images: int, step: int) -> float:
        """The same of a prompt that has none yet, beyond the `images` that all have."""
        new, known = np.arange(images + 1), dict[tuple[int, ...], float]()
        chances = special.comb(images, new) * np.exp(
            special.betaln(spread.a + new, spread.b + images - new) - special.betaln(spread.a, spread.b)
        )
        return sum(
            float(chance)
            * self.expected_more(spread, hits=int(k), trials=images, requested=images, step=step, known=known)
            for k, chance in zip(new, chances, strict=True)
        )

    def _counts(self, hits: int, trials: int) -> dict[str, int]:
        label = self.of_one_share or self.labels[0]
        other = next((name for name in self.labels if name != label), "")
        return {label: hits, other: trials - hits}
