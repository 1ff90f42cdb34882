"""`--fail-if`: a threshold on a value of metrics.json that fails the command, for continuous integration."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import ConfigError

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_EXPRESSION = re.compile(
    r"\s*([A-Za-z_][\w.\-+ ]*?)\s*(>=|<=|==|!=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(%?)\s*"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """One parsed expression."""

    text: str
    path: str
    comparison: str
    threshold: float


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
    ConfigError
        The text is no comparison of a path with a number.
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"--fail-if {text!r}: write it as PATH OPERATOR NUMBER, such as 'unanimity > 0.5' or 'unanimity.low >= 60%'; the path is one "
            "of metrics.json, and a name alone is looked up in its summary"
        )
    threshold = float(match[3]) / (100 if match[4] else 1)
    return Gate(text=text.strip(), path=match[1], comparison=match[2], threshold=threshold)


def evaluate(gate: Gate, metrics: Mapping[str, Any]) -> GateResult:
    """Compare. A value that is null cannot be told, and a gate that cannot be told is hit: it must not let a run pass.

    Raises
    ------
    ConfigError
        There is no such path, or it does not lead to a number.
    """
    value = _look_up(gate, metrics)
    if value is None:
        return GateResult(gate, None, True, f"{gate.path} is null in metrics.json, so the gate cannot be passed")
    hit = _OPERATORS[gate.comparison](value, gate.threshold)
    return GateResult(gate, value, hit, f"{gate.path} is {value:.6g}")


def _look_up(gate: Gate, metrics: Mapping[str, Any]) -> float | None:
    parts = gate.path.split(".")
    start: Any = metrics if parts[0] in metrics else metrics.get("summary", {})
    node: Any = start
    for depth, part in enumerate(parts):
        if isinstance(node, Sequence) and not isinstance(node, str):
            found = [item for item in node if isinstance(item, Mapping) and part in (item.get("id"), item.get("name"))]
            if not found:
                raise ConfigError(f"--fail-if {gate.text!r}: no entry {part!r} in {'.'.join(parts[:depth])}")
            node = found[0]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        elif node is None:
            return None
        else:
            there = ", ".join(node) if isinstance(node, Mapping) else "a single value"
            raise ConfigError(
                f"--fail-if {gate.text!r}: metrics.json has no {'.'.join(parts[: depth + 1])!r}; there: {there}"
            )
    if isinstance(node, Mapping) and "value" in node:
        node = node["value"]
    if node is None:
        return None
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise ConfigError(
            f"--fail-if {gate.text!r}: {gate.path} is no number"
            + (f"; there: {', '.join(node)}" if isinstance(node, Mapping) else "")
        )
    return float(node)
