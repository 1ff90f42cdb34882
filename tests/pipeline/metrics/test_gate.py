from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allfour.errors import UsageError
from allfour.pipeline.metrics.gate import comparison_gates, evaluate, metrics_gates, parse_gate
from tests.pipeline.report.full_run import full_run
from tests.places import REPOSITORY

METRICS = {
    "summary": {
        "unanimity": {"value": 0.85, "low": 0.64, "high": 0.948},
        "unanimity_corrected": None,
        "prompts": 20,
        "text": "x",
    },
    "prompts": [{"id": "nurse", "share": {"woman": {"value": 1.0, "low": 0.5, "high": 1.0}}}],
    "accounting": {"refused": 0},
}


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("unanimity > 0.5", True),
        ("unanimity > 85%", False),
        ("unanimity >= 85%", True),
        ("unanimity.low<0.6", False),
        ("summary.unanimity.high > .9", True),
        ("accounting.refused != 0", False),
        ("prompts.nurse.share.woman > 0.9", True),
        ("prompts.nurse.share.woman.low > 0.9", False),
        ("unanimity_corrected > 0.5", True),  # null: cannot be told, so it does not pass
    ],
)
def test_gates(text: str, hit: bool) -> None:
    assert evaluate(parse_gate(text), METRICS).hit is hit


@pytest.mark.parametrize("text", ["unanimity", "unanimity >", "> 3", "unanimity > x", "a; b > 1", "unanimity = 3"])
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(UsageError, match="PATH OPERATOR NUMBER"):
        parse_gate(text)


@pytest.mark.parametrize(("text", "part"), [("unanimty > 1", "no 'unanimty'"), ("prompts.pilot.share > 1", "no entry 'pilot'"),
                                            ("summary.text > 1", "no number"), ("prompts > 1", "no number")])  # fmt: skip
def test_paths_that_lead_nowhere(text: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        evaluate(parse_gate(text), METRICS)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("unanimty > 0.5", "no 'unanimty'; did you mean 'unanimity'?"),
        ("accounting.scord < 80", "no 'accounting.scord'; did you mean 'scored'?"),
        ("prompts.nurse.shar.woman > 0.9", "no 'prompts.nurse.shar'; did you mean 'share'?"),
        ("unanimity.value.x > 0.5", "unanimity.value is a single value"),
        ("unanimity_bounds > 0.5", "no number; there: low, high"),
        ("warnings > 3", "warnings is no number"),
        ("unanimity > 50", "between 0 and 1, so the gate would say the same of every run. Write 0.5 or 50%"),
        ("unanimity.low > 150%", "between 0 and 1, so the gate would say the same of every run$"),
        ("prompts.nurse.share.woman.high < -0.1", "between 0 and 1"),
        ("accounting.failed < -1", "is 0 or more"),
        ("unanimity.low > 1", "between 0 and 1, so the gate would say the same of every run$"),
        ("scored_share < 0%", "between 0 and 1, so the gate would say the same of every run$"),
        ("accounting.failed < 0", "is 0 or more"),
        ("accounting.failed > 1e999", "is too large a number"),
        ("accounting.scored < 80%", "is a count"),
    ],
)
def test_what_the_schema_tells_before_a_run(text: str, part: str) -> None:
    with pytest.raises(UsageError, match=re.escape(part).replace(r"\$", "$")):
        metrics_gates([text])


@pytest.mark.parametrize(
    "text",
    [
        "unanimity > 0.5", "unanimity.low > 50%", "summary.scored_share < 95%", "accounting.scored < 80", "groups.any.unanimity > 0.5",
        "prompts.any-id.share.any label > 0.9", "attributes.race.share.White.low > 0.9", "attributes.race.imbalance.kl_divergence.score > 2",
        "unanimity_null.p_value < 0.05", "calibration.attributes.gender.disparities.race.difference > 0.1", "second_opinion.kappa < -0.5",
    ],
)  # fmt: skip
def test_names_that_a_run_gives_are_left_to_the_end(text: str) -> None:
    (gate,) = metrics_gates([text])
    assert gate == parse_gate(text)


def test_differences_of_a_comparison_lie_between_minus_1_and_1() -> None:
    for text in ("unanimity_difference.low > 0", "share_difference.woman < -10%", "unanimity_difference.prompts < 20"):
        assert comparison_gates([text]) == [parse_gate(text)]
    with pytest.raises(UsageError, match=r"between -1 and 1, so .* the same of every run\. Write 0\.1 or 10%"):
        comparison_gates(["unanimity_difference > 10"])


def test_the_gates_of_the_docs_are_gates() -> None:
    for name in ("README.md", "docs/ci.md", "docs/calibration.md"):
        texts = re.findall(r"--fail-if '([^']+)'", (REPOSITORY / name).read_text())
        assert texts, name
        for text in texts:
            assert comparison_gates([text]) if "difference" in text else metrics_gates([text])


def test_no_gates() -> None:
    assert metrics_gates(None) == metrics_gates([]) == []


def numbers(node: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a document that a gate can name, with its path."""
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from numbers(inner, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for inner in node:
            if isinstance(inner, dict) and (name := inner.get("id", inner.get("name"))) is not None:
                yield from numbers(inner, f"{path}.{name}")
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path, float(node)


def test_the_schema_knows_every_number_of_a_run(tmp_path: Path) -> None:
    """What is refused before a run must not be what a run would have told."""
    run = full_run(tmp_path).parent
    metrics = json.loads((run / "metrics.json").read_text())
    found = dict(numbers({key: value for key, value in metrics.items() if key != "format"}))
    for group in (
        "summary.",
        "groups.",
        "attributes.",
        "prompts.",
        "calibration.",
        "group_scenes.",
        "review.",
        "against.",
    ):
        assert any(path.startswith(group) for path in found), group
    for path, value in found.items():
        (gate,) = metrics_gates([f"{path} >= {value!r}"])
        assert evaluate(gate, metrics).hit, path


def test_the_ends_of_an_interval_without_a_value_cannot_be_told() -> None:
    metrics = {
        "prompts": [{"id": "nurse", "share": {"woman": {"value": None, "low": 0.0, "high": 1.0}}}],
        "summary": {},
    }
    result = evaluate(parse_gate("prompts.nurse.share.woman.low > 0.9"), metrics)
    assert (result.value, result.hit) == (None, True)
    assert "has no value in this run" in result.reason


def test_a_count_of_sets_that_nobody_read_lets_no_run_pass() -> None:
    unread = {"unanimous": 0, "unanimity": {"value": None, "low": None, "high": None}}
    metrics = {"summary": unread, "groups": [{"name": "she", "unanimous_by_label": {"woman": 0}, **unread}]}
    for text in ("unanimous > 15", "groups.she.unanimous > 3", "groups.she.unanimous_by_label.woman > 3"):
        assert evaluate(parse_gate(text), metrics).hit
    read = {"summary": {"unanimous": 0, "unanimity": {"value": 0.0}}}
    assert not evaluate(parse_gate("unanimous > 15"), read).hit
