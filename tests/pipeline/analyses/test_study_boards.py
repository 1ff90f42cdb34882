"""Boards: pairing by subject, ranks as intervals, and one adjustment over every pair of a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import LoadedRun
from allfour.pipeline.analyses.study.boards import Placed, boards_of
from allfour.pipeline.analyses.study.units import measured_units
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Accounting, Metrics, Prompt, Summary
from allfour.pipeline.run.study import Board

LABELS = ("woman", "man")
CLASSIFIER = {"backend": "clip", "weights": "one"}


def run(
    name: str, women: list[int], *, images: int = 8, variant: str = "", subjects: list[str] | None = None
) -> LoadedRun:
    prompts = [
        Prompt(
            id=f"p{k}{variant}", text=f"text {k}{variant}", subject=subjects[k] if subjects else f"subject {k}", images=images,
            counts={"woman": w, "man": images - w}, unanimous="woman" if w == images else "man" if w == 0 else None,
        )
        for k, w in enumerate(women)
    ]  # fmt: skip
    asked = images * len(women)
    metrics = Metrics(
        format=1, labels={"gender": list(LABELS)}, prompts=prompts, summary=Summary(set_size=4, prompts=len(women)),
        accounting=Accounting(requested=asked, generated=asked, scored=asked, labelled=asked),
    )  # fmt: skip
    return LoadedRun(name, Path(name), Header(format=1, classifier=CLASSIFIER), metrics, None)


def first_board(*members: Placed, pair_by: str = "id") -> Board:
    (board,), notes, _ = boards_of(list(members), pair_by=pair_by, confidence=0.95)
    assert not notes
    return board


def placed(**runs: tuple[LoadedRun, str]) -> list[Placed]:
    return [
        Placed(name, {"generator": name.split("_")[0], "prompts": where, "classifier": ""}, found)
        for name, (found, where) in runs.items()
    ]


def test_a_unit_of_several_prompts_is_their_mean_and_counts_by_subject() -> None:
    found = measured_units(run("a", [8, 4, 2], subjects=["x", "x", "y"]).metrics, by="subject")
    assert list(found) == ["x", "y"]
    # of 8 images, 4 of each label: 2 C(4,4) / C(8,4) = 2 / 70 of all sets of four agree
    assert found["x"].unanimous == pytest.approx((1 + 2 / 70) / 2)
    assert (found["x"].share, found["y"].share) == (0.75, 0.25)
    assert (found["x"].images, found["x"].sets) == (16, 4)
    assert found["x"].label is None


def test_variants_of_one_subject_are_paired_and_the_difference_has_its_sign() -> None:
    """Baseline and mitigated: other texts, other ids, the same subjects."""
    base, less = run("m", [8] * 12), run("m", [8, 4] * 6, variant="-diverse")
    boards, notes, tests = boards_of(
        placed(m_a=(base, "plain"), m_b=(less, "diverse")), pair_by="subject", confidence=0.95
    )
    assert (notes, tests) == ([], 1)
    (board,) = boards
    (pair,) = board.pairs
    assert (board.axis, pair.first, pair.second) == ("prompts", "plain", "diverse")
    assert pair.unanimity.value == pytest.approx((2 / 70 - 1) / 2)
    assert pair.p_value == pytest.approx(2 / 2**6)  # six subjects moved, all one way
    assert [entry.level for entry in board.runs] == ["diverse", "plain"]
    assert board.units[1].texts == ["text 1", "text 1-diverse"]


def test_subjects_with_other_numbers_of_images_are_not_tested_by_flips_of_signs() -> None:
    """Of 20 subjects of two prompts, four in five always of one label and the others even, flips called 24% of equal runs different."""
    random = np.random.default_rng(5)
    subjects = [f"s{k // 2}" for k in range(40)]
    called = flipped = 0
    for _ in range(40):
        share = np.where(random.random(40) < 0.2, 0.5, 1.0)
        few, many = (
            run("m", random.binomial(n, share).tolist(), images=n, variant=f"-{n}", subjects=subjects) for n in (4, 16)
        )
        boards, _, _ = boards_of(placed(m_a=(few, "a"), m_b=(many, "b")), pair_by="subject", confidence=0.95)
        units = [list(measured_units(r.metrics, by="subject").values()) for r in (few, many)]
        flipped += (
            st.sign_flip_test([b.unanimous - a.unanimous for a, b in zip(*units, strict=True)], draws=999) <= 0.05
        )
        called += (boards[0].pairs[0].p_value or 0.0) <= 0.05
    assert flipped >= 5 and called <= 3


def test_prompts_that_are_not_paired_by_anything_are_told_of_and_nothing_is_compared() -> None:
    boards, notes, tests = boards_of(
        placed(m_a=(run("m", [8] * 6), "a"), m_b=(run("m", [8] * 6, variant="-b"), "b")), pair_by="id", confidence=0.95
    )
    assert (boards, tests) == ([], 0)
    assert "no prompt in common" in notes[0].text


def test_pairs_of_all_boards_are_adjusted_together_and_ranks_follow() -> None:
    rng = np.random.default_rng(3)
    much, little = [int(k) for k in rng.choice([0, 8], 24)], [4] * 24
    some = [*much[:12], *little[:12]]
    boards, _, tests = boards_of(
        placed(
            even=(run("even", little), "x"), half=(run("half", some), "x"), all=(run("all", much), "x"),
            even_2=(run("even", little), "y"), half_2=(run("half", little), "y"),
        ),
        pair_by="id", confidence=0.95,
    )  # fmt: skip
    generators = [board for board in boards if board.axis == "generator"]
    every = [pair for board in boards for pair in board.pairs]
    assert tests == len(every) == 6  # 3 + 1 between generators, 2 between prompt sets
    assert [p.adjusted for p in every] == pytest.approx(list(st.holm([p.p_value for p in every])))
    first = {entry.level: entry for entry in generators[0].runs}
    assert first["even"].rank_high < 3 <= first["all"].rank_low
    same = generators[1]
    assert [(entry.rank, entry.rank_low, entry.rank_high) for entry in same.runs] == [(1, 1, 2), (1, 1, 2)]
    assert same.alike == [["even", "half"]]


def test_a_prompt_that_one_run_lacks_is_in_no_figure_of_the_board() -> None:
    (board,), _, _ = boards_of(
        placed(a=(run("a", [8] * 8), "x"), b=(run("b", [8] * 7), "x")), pair_by="id", confidence=0.95
    )
    assert (len(board.units), board.units_left_out) == (7, 1)


def test_subjects_with_several_prompts_are_on_a_board_by_their_means() -> None:
    """`compare` refuses such runs and says that a study takes their mean."""
    subjects = [f"s{k // 2}" for k in range(16)]
    board = first_board(
        *placed(a=(run("a", [8] * 16, subjects=subjects), "x"), b=(run("b", [4, 8] * 8, subjects=subjects), "x")),
        pair_by="subject",
    )
    assert [unit.unanimous for unit in board.units] == [[1.0, pytest.approx((1 + 2 / 70) / 2)]] * 8
    assert board.pairs[0].p_value == pytest.approx(2 / 2**8)


def test_runs_with_different_numbers_of_images_are_tested_like_a_comparison_of_two() -> None:
    """Under no change their differences are not symmetric: flips of signs called 20 equal prompts different in up to 9.7% of pairs."""
    few, many = run("few", [0] * 6 + [1] * 4 + [2] * 2, images=4), run("many", [1] * 5 + [3] * 7, images=16)
    board = first_board(*placed(few=(few, "x"), many=(many, "x")))
    sides = [st.ReadImages([list(p.counts.values()) for p in found.metrics.prompts], 2) for found in (few, many)]
    found = st.unanimity_difference(*sides).measured
    assert found.test == "dealt"
    assert (board.pairs[0].p_value, board.pairs[0].unanimity.low) == (found.p_value, found.interval.low)


def test_near_copies_are_in_no_figure_of_a_board() -> None:
    one, two = placed(one=(run("one", [6] * 6), "x"), two=(run("two", [4] * 6), "x"))
    copied = {f"p{k}": ({"woman": 1}, {"woman": 4}) for k in range(3)}
    board = first_board(Placed(one.cell, one.place, one.run, copied), two)
    assert board.notes[-1].text == "Near-copies of an earlier image of their prompt are left out: 12 images."
    assert [unit.shares for unit in board.units] == [[0.5, 0.5]] * 3 + [[0.75, 0.5]] * 3
    assert board.units[0].unanimous[0] == 0  # two and two are left, of which no set agrees
    gone = {f"p{k}": ({"woman": 4}, {"woman": 5}) for k in range(2)}
    fewer = first_board(Placed(one.cell, one.place, one.run, gone), two)
    assert (len(fewer.units), fewer.units_left_out) == (4, 2)  # three pictures are no set


def test_labels_that_stand_in_another_order_in_another_run_are_matched_by_name() -> None:
    one, two = run("one", [8, 6] * 4), run("two", [8, 6] * 4)
    turned = two.metrics.model_copy(update={"labels": {"gender": ["man", "woman"]}})
    board = first_board(*placed(one=(one, "x"), two=(replace(two, metrics=turned), "x")))
    assert board.pairs[0].share.value == 0


def test_a_board_says_where_runs_differ_in_how_many_images_have_no_label() -> None:
    """A run in which nobody was found would have the lowest rank without showing anything."""
    one, two = run("one", [8] * 8), run("two", [0] * 8)
    blank = [
        prompt.model_copy(update={"counts": {"no_person": 8}, "unanimous": None}) for prompt in two.metrics.prompts
    ]
    unread = replace(two, metrics=two.metrics.model_copy(update={"prompts": blank}))
    board = first_board(*placed(one=(one, "x"), two=(unread, "x")))
    assert board.runs[0].cell == "two"
    assert board.notes[-1].text.startswith("100% of the images of two and 0% of those of one have no label.")
    assert not first_board(*placed(one=(one, "x"), two=(two, "x"))).notes


@pytest.mark.parametrize("subjects", [None, ["x", "x", "y", "y", "z", "z"]])
def test_an_interval_counts_images_without_a_label_either_way(subjects: list[str] | None) -> None:
    blind, seen = (run(name, [4] * 6, images=4, subjects=subjects) for name in "ab")
    prompts = [prompt.model_copy(update={"counts": {}, "unanimous": None}) for prompt in blind.metrics.prompts]
    blind = replace(blind, metrics=blind.metrics.model_copy(update={"prompts": prompts}))
    (board,), _, _ = boards_of(
        placed(a=(blind, ""), b=(seen, "")), pair_by="subject" if subjects else "id", confidence=0.95
    )
    low, high = (next(one.unanimity for one in board.runs if one.level == level) for level in "ab")
    assert (low.value, low.low, low.high) == (0.0, 0.0, 1.0)
    assert high.value == 1.0
    assert 0.2 < high.low < 0.8
