"""`--fail-if`: a threshold on a value of metrics.json that fails the command, for continuous integration."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allfour.errors import UsageError
from allfour.pipeline.metrics.gate_schema import Place, find_place, is_of_summary, suggestion

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_EXPRESSION = re.compile(
    r"\s*([A-Za-z_][\w.\-+ ]*?)\s*(>=|<=|==|!=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(%?)\s*"
)
_ENDS = ("low", "high")
_COUNTED = ("unanimous", "unanimous_by_label")
"""Counts of sets of one label, which are 0 also where no set was read."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One parsed expression."""

    text: str
    path: str
    comparison: str
    threshold: float
    percentage: bool = False
    """Whether the threshold was written with a percent sign."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate against a run's metrics."""

    gate: Gate
    value: float | None
    hit: bool
    reason: str


def parse_gate(text: str) -> Gate:
    """`unanimity > 0.5`, `summary.unanimity.low >= 60%`, `prompts.nurse.share.woman.value > 0.9`.

    Raises
    ------
    UsageError
        The text is no comparison of a path with a number.
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--fail-if {text!r}: write it as PATH OPERATOR NUMBER, such as 'unanimity > 0.5' or 'unanimity.low >= 60%'; the path is one "
            "of metrics.json, and a name alone is looked up in its summary"
        )
    threshold = float(match[3]) / (100 if match[4] else 1)
    if not math.isfinite(threshold):
        raise UsageError(
            f"--fail-if {text!r}: {match[3]} is too large a number, so the gate would say the same of every run"
        )
    return Gate(text.strip(), match[1], match[2], threshold, percentage=bool(match[4]))


def metrics_gates(texts: Sequence[str] | None) -> list[Gate]:
    """Gates on metrics.json, checked as far as its schema tells, so that a mistake is found before an image is made.

    Names that a run gives, such as ids of prompts and labels, are left to `evaluate`.

    Raises
    ------
    UsageError
        A text is not a gate, a name is none of metrics.json, or the threshold is out of what the figure can be.
    """
    return [_checked(parse_gate(text)) for text in texts or ()]


def comparison_gates(texts: Sequence[str] | None) -> list[Gate]:
    """Gates on comparison.json, whose differences of shares lie between -1 and 1.

    Raises
    ------
    UsageError
        A text is not a gate, or the threshold is out of what the figure can be.
    """
    found = [parse_gate(text) for text in texts or ()]
    for gate in found:
        parts = gate.path.split(".")
        if parts[-1] != "prompts" and any(part.endswith(("difference", "_change")) for part in parts):
            _check_threshold(gate, Place(least=-1, most=1, whole=False))
    return found


def _checked(gate: Gate) -> Gate:
    try:
        place = find_place(gate.path)
    except KeyError as error:
        raise UsageError(f"--fail-if {gate.text!r}: {error.args[0]}") from None
    if place is not None:
        _check_threshold(gate, place)
    return gate


def _check_threshold(gate: Gate, place: Place) -> None:
    if gate.percentage and place.whole:
        raise UsageError(
            f"--fail-if {gate.text!r}: {gate.path} is a count, and a percentage of it means nothing. Gate on a share, such as scored_share"
        )
    low, high = place.least, place.most
    within = (low is None or gate.threshold >= low) and (high is None or gate.threshold <= high)
    # nothing lies beyond an end, so that such a gate could stop no run; >= and <= of an end are hit, which nobody takes for a pass
    beyond = (gate.threshold == high and gate.comparison == ">") or (gate.threshold == low and gate.comparison == "<")
    if within and not beyond:
        return
    limits = f"lies between {low:g} and {high:g}" if low is not None and high is not None else f"is {low:g} or more"
    meant = (
        f". Write {gate.threshold / 100:g} or {gate.threshold:g}%"
        if high == 1 and not gate.percentage and 1 < gate.threshold <= 100
        else ""
    )
    raise UsageError(
        f"--fail-if {gate.text!r}: {gate.path} {limits}, so the gate would say the same of every run{meant}"
    )


def evaluate(gate: Gate, metrics: Mapping[str, Any]) -> GateResult:
    """Compare. A value that is null cannot be told, and a gate that cannot be told is hit: it must not let a run pass.

    The ends of an interval without a value, which are as wide as they can be, cannot be told either, nor a count of unanimous sets where
    no set was read.

    Raises
    ------
    UsageError
        There is no such path, or it does not lead to a number.
    """
    value = _look_up(gate, metrics)
    if value is None:
        return GateResult(gate, None, True, f"{gate.path} has no value in this run, so the gate cannot be passed")
    hit = COMPARISONS[gate.comparison](value, gate.threshold)
    return GateResult(gate, value, hit, f"{gate.path} is {value:.6g}")


def _untold(node: Mapping[str, Any], part: str) -> bool:
    """Whether a number stands there for want of data alone: an end of an interval, or a count of unanimous sets, without a value."""
    if part in _ENDS:
        return "value" in node and node["value"] is None
    if part in _COUNTED and isinstance(rate := node.get("unanimity"), Mapping):
        return "value" in rate and rate["value"] is None
    return False


def _look_up(gate: Gate, metrics: Mapping[str, Any]) -> float | None:
    parts = gate.path.split(".")
    node: Any = metrics.get("summary", {}) if is_of_summary(parts[0], metrics) else metrics
    for depth, part in enumerate(parts):
        if isinstance(node, Sequence) and not isinstance(node, str):
            found = [item for item in node if isinstance(item, Mapping) and part in (item.get("id"), item.get("name"))]
            if not found:
                known = [str(item.get("id", item.get("name"))) for item in node if isinstance(item, Mapping)]
                raise UsageError(
                    f"--fail-if {gate.text!r}: no entry {part!r} in {'.'.join(parts[:depth])}{suggestion(part, known)}"
                )
            node = found[0]
        elif isinstance(node, Mapping) and part in node:
            if _untold(node, part):
                return None
            node = node[part]
        elif node is None:
            return None
        else:
            there = list(node) if isinstance(node, Mapping) else []
            raise UsageError(
                f"--fail-if {gate.text!r}: there is no {'.'.join(parts[: depth + 1])!r}{suggestion(part, there)}; "
                f"there: {', '.join(there) or 'a single value'}"
            )
    if isinstance(node, Mapping) and "value" in node:
        node = node["value"]
    if node is None:
        return None
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise UsageError(
            f"--fail-if {gate.text!r}: {gate.path} is no number"
            + (f"; there: {', '.join(node)}" if isinstance(node, Mapping) else "")
        )
    return float(node)
