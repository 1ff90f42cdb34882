"""What `--until` may say, and the looks that it rests on."""

from __future__ import annotations

import pytest

from allfour.errors import UsageError
from allfour.pipeline.metrics.stopping import looks, parse_rule
from allfour.pipeline.run.metrics import Metrics, Prompt, Summary
from allfour.pipeline.run.record import Interval
from allfour.pipeline.statistics.sequential import betting_sequence


def metrics(*sets: str | None) -> Metrics:
    prompts = [
        Prompt(
            id=f"p{at}", images=4, unanimous=found, counts={"woman": 4 if found == "woman" else 2, "man": 0 if found else 2},
            share={"woman": Interval(value=1.0 if found else 0.5) if at else None},
        )
        for at, found in enumerate(sets)
    ]  # fmt: skip
    return Metrics(format=1, labels={"gender": ["woman", "man"]}, summary=Summary(), prompts=prompts)


def test_a_question_is_settled_where_all_terms_of_one_way_hold() -> None:
    rule = parse_rule("headline.low > 50% or headline.high < 0.5 and share.woman.width <= .2")
    assert rule.figures == ("headline", "share.woman")
    wide, narrow = Interval(value=0.5, low=0.1, high=0.9), Interval(value=0.5, low=0.45, high=0.6)
    low, high = Interval(value=0.2, low=0.1, high=0.3), Interval(value=0.8, low=0.6, high=0.9)
    assert rule.settled({"headline": high, "share.woman": wide})
    assert rule.settled({"headline": low, "share.woman": narrow})
    assert not rule.settled({"headline": low, "share.woman": wide})
    assert not rule.settled({"headline": wide, "share.woman": narrow})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no comparison"),
        ("headline > 0.5", "no comparison"),
        ("headline.low > 1.5", "between 0 and 1"),
        ("headline.low < 0.5", "before anything is known"),
        ("headline.width > 0.2", "before anything is known"),
        ("headline.low > 0.5 or", "no comparison"),
        ("prompts.nurse.low > 0.5", "Figures: headline"),
    ],
)
def test_what_is_no_question_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_rule(text)


def test_labels_are_those_of_the_headline() -> None:
    parse_rule("share.woman.low > 0.5").check_labels(["woman", "man"])
    with pytest.raises(UsageError, match="There: woman, man"):
        parse_rule("share.women.low > 0.5").check_labels(["woman", "man"])


def test_a_look_sees_the_prompts_so_far_and_no_further() -> None:
    sets = ["woman", None, "woman", "woman"]
    found = looks(metrics(*sets), ["headline", "share.woman"], ends=[2, 4], confidence=0.9)
    known = betting_sequence([1, 0, 1, 1], confidence=0.9)
    assert found[0]["headline"] == Interval(value=0.5, low=known.low[1], high=known.high[1], method="betting")
    assert (found[1]["headline"].low, found[1]["headline"].high) == (known.low[3], known.high[3])
    assert found[1]["share.woman"].value == pytest.approx((0.5 + 1 + 1) / 3)  # the first prompt has no share


def test_without_any_value_nothing_is_known() -> None:
    found = looks(metrics("woman"), ["share.woman"], ends=[1], confidence=0.95)
    assert (found[0]["share.woman"].low, found[0]["share.woman"].high) == (0.0, 1.0)
