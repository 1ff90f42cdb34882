"""Refusals, failures and rewriting as findings."""

from __future__ import annotations

import random

import pytest

from allfour.pipeline.config import WordLists, load_word_lists
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.metrics.withheld import rates, rewriting_of, words_in
from allfour.pipeline.report.withheld import withheld_view
from allfour.pipeline.run.columns import ImageStatus
from allfour.pipeline.run.metrics import Metrics, Prompt, Withheld

LISTS = WordLists(name="words", categories={"gender": ["woman", "man"], "race": ["black", "east asian"]})


def tallies(*refused: int, images: int = 4) -> list[PromptTally]:
    """Prompts of two groups in turn, with so many images refused."""
    return [
        PromptTally(
            id=f"p{k}",
            text=f"prompt {k}",
            group=("named", "plain")[k % 2],
            statuses={"refused": n, "generated": images - n},
        )
        for k, n in enumerate(refused)
    ]


def test_rates_per_run_group_and_prompt() -> None:
    found = rates(tallies(4, 0, 4, 0, 4, 0, 2, 0, 4, 0), ImageStatus.REFUSED, confidence=0.95)
    assert (found.images, found.requested, found.rate.value) == (18, 40, pytest.approx(0.45))
    assert list(found.groups) == ["named", "plain"]
    assert (found.groups["named"].rate.value, found.groups["plain"].rate.value) == (pytest.approx(0.9), 0.0)
    assert found.groups["plain"].rate.high is not None
    assert (
        0 < found.groups["plain"].rate.high < 0.44
    )  # none of five prompts: Wilson's of five, whatever they had of images
    assert found.p_value is not None
    assert found.p_value < 0.05
    assert [p.id for p in found.prompts] == ["p0", "p2", "p4", "p8", "p6"]  # those with any, the highest first


def test_nothing_refused() -> None:
    found = rates(tallies(0, 0), ImageStatus.REFUSED, confidence=0.95)
    assert (found.images, found.p_value, found.prompts) == (0, 1.0, [])
    assert rates([], ImageStatus.REFUSED, confidence=0.95).rate.value is None


@pytest.mark.parametrize(
    ("text", "gender", "race"),
    [
        ("A photo of a WOMAN.", {"woman"}, set()),
        ("womanly human", set(), set()),
        ("an East-Asian man", {"man"}, set()),  # another word than the list's
        ("an east asian man's hat", set(), {"east asian"}),
        ("Black, and a man", {"man"}, {"black"}),
        ("", set(), set()),
    ],
)
def test_whole_words_are_found_whatever_their_case(text: str, gender: set[str], race: set[str]) -> None:
    assert words_in(text, LISTS) == {"gender": gender, "race": race}


def test_words_put_in_and_taken_out_are_counted_once_per_image() -> None:
    rows = [
        ("a", "a doctor", "a Black woman, a woman, as a doctor"),
        ("a", "a doctor", "a doctor"),
        ("b", "a woman nurse", "a nurse"),
        ("b", "a woman nurse", "an East Asian woman nurse"),
    ]
    found = rewriting_of(rows, LISTS, confidence=0.95)
    assert found is not None
    assert (found.images, found.changed, found.prompts) == (4, 3, 2)
    gender, race = found.categories["gender"], found.categories["race"]
    assert (gender.images_added, gender.images_taken, race.images_added, race.images_taken) == (1, 1, 2, 0)
    assert (gender.added.value, race.added.value) == (0.25, 0.5)
    assert [(w.word, w.added, w.taken) for w in gender.words] == [("woman", 1, 1)]


def test_prompts_that_came_back_as_they_were_are_no_finding() -> None:
    assert rewriting_of([("a", "x", "x")], LISTS, confidence=0.95) is None
    assert rewriting_of([], LISTS, confidence=0.95) is None


def test_planted_rewrites_are_recovered_with_intervals_that_cover() -> None:
    draw = random.Random(3)
    runs, hit, rate = 150, 0, 0.3
    for _ in range(runs):
        rows = [
            (f"p{p}", "a doctor", "a woman doctor" if draw.random() < own else "a good doctor")
            for p in range(30)
            for own in [draw.betavariate(rate * 4, (1 - rate) * 4)]
            for _ in range(4)
        ]
        found = rewriting_of(rows, LISTS, confidence=0.95)
        assert found is not None
        share = found.categories["gender"].added
        assert share.low is not None
        assert share.high is not None
        hit += share.low <= rate <= share.high
    assert 0.91 <= hit / runs <= 0.99


def test_the_bundled_lists_are_valid() -> None:
    lists = load_word_lists("configs/rewriting/demographic-words.yaml")
    assert {"gender", "race", "age"} <= set(lists.categories)
    for words in lists.categories.values():
        assert all(isinstance(w, str) for w in words)
        assert len(set(words)) == len(words)


def test_the_report_says_rates_test_and_words() -> None:
    refused = rates(tallies(4, 0, 4, 0, 4, 0, 4, 0, 4, 0), ImageStatus.REFUSED, confidence=0.95)
    rewriting = rewriting_of([("p0", "a doctor", "a woman doctor")], LISTS, confidence=0.95)
    metrics = Metrics(
        format=1,
        prompts=[Prompt(id="p0", text="<b>prompt</b> 0")],
        withheld=Withheld(refused=refused, rewriting=rewriting),
    )
    first, second = withheld_view(metrics)
    assert "A content policy withheld 20 of 40 requested images." in first.sentence
    assert "The lists of prompts differ (p\u00a0" in first.sentence
    assert [line.name for line in first.lines[:4]] == ["All prompts", "named", "plain", "<b>prompt</b> 0"]
    assert second.lines[0].meaning == "woman 1"
    assert withheld_view(Metrics(format=1)) == []
