from __future__ import annotations

import pytest

from pipeline.config import ConfigError
from pipeline.gate import evaluate, parse_gate

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
    with pytest.raises(ConfigError, match="PATH OPERATOR NUMBER"):
        parse_gate(text)


@pytest.mark.parametrize(("text", "part"), [("unanimty > 1", "no 'unanimty'"), ("prompts.pilot.share > 1", "no entry 'pilot'"),
                                            ("summary.text > 1", "no number"), ("prompts > 1", "no number")])  # fmt: skip
def test_paths_that_lead_nowhere(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        evaluate(parse_gate(text), METRICS)
