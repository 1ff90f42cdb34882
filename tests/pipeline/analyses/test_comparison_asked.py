"""Prompts that ask for a label: in no figure of a comparison or a study, and listed in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from allfour.pipeline.analyses.comparison.asked import without_asking
from allfour.pipeline.analyses.comparison.comparability import ComparisonError, LoadedRun
from allfour.pipeline.analyses.comparison.compare import compare
from allfour.pipeline.analyses.study import result as study_module
from allfour.pipeline.report.asked import asked_in_runs
from allfour.pipeline.run.metrics import Prompt
from tests.pipeline.analyses.test_study_boards import run


def asking(found: LoadedRun, *ids: str, attribute: str = "gender") -> LoadedRun:
    """The same run, some of whose prompts ask for a woman."""

    def told(prompt: Prompt) -> Prompt:
        return prompt.model_copy(update={"expect": {attribute: "woman"}}) if prompt.id in ids else prompt

    prompts = [told(prompt) for prompt in found.metrics.prompts]
    return replace(found, metrics=found.metrics.model_copy(update={"prompts": prompts}))


def test_a_comparison_is_that_of_the_prompts_that_do_not_ask_and_lists_the_others() -> None:
    one, two = run("one", [8, 4, 2, 8, 6, 1, 3, 0]), run("two", [8, 4, 8, 0, 6, 2, 5, 4])
    whole = compare([asking(one, "p0", "p3"), two])  # the second does not say that they ask
    without = compare([run("one", [8, 4, 2, 8, 6, 1, 3, 0]), two])
    assert [prompt.id for prompt in whole.comparisons[0].prompts] == [
        prompt.id for prompt in without.comparisons[0].prompts if prompt.id not in ("p0", "p3")
    ]
    assert (whole.summary.prompts, whole.summary.prompts_left_out) == (6, 0)
    assert whole.summary.share_difference != without.summary.share_difference
    assert [(p.id, p.label, [(s.run, s.shown, s.images) for s in p.sides]) for p in whole.asked_for] == [
        ("p0", "woman", [("one", 8, 8), ("two", 8, 8)]),
        ("p3", "woman", [("one", 8, 8), ("two", 0, 8)]),
    ]
    assert (
        whole.comparisons[0]
        .warnings[0]
        .startswith("2 prompts ask explicitly for a perceived gender. They are left out of every figure")
    )
    view = asked_in_runs(whole.asked_for)
    assert view is not None
    assert (view.runs, view.totals) == (["one", "two"], ["16 of 16", "8 of 16"])
    assert asked_in_runs(without.asked_for) is None


def test_runs_that_ask_throughout_are_refused_with_what_they_show() -> None:
    everything = [f"p{k}" for k in range(3)]
    with pytest.raises(ComparisonError, match=r"one: woman 18 of 24 images; two: woman 6 of 24 images"):
        compare([asking(run("one", [8, 8, 2]), *everything), asking(run("two", [2, 2, 2]), *everything)])


def test_a_prompt_that_asks_is_no_partner_of_its_neutral_variant() -> None:
    neutral = run("neutral", [8, 4, 2, 8, 6, 1])
    asked = asking(run("asked", [8] * 6, variant="-woman"), *(f"p{k}-woman" for k in range(6)))
    with pytest.raises(ComparisonError, match="every prompt of asked asks explicitly for a perceived gender"):
        compare([neutral, asked], pair_by="subject")


def test_a_study_has_no_board_of_them_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        asking(run("a", [8, 4, 2, 8, 6, 1, 3]), "p0"),
        run("b", [8, 4, 8, 0, 6, 2, 5]),
        asking(run("c", [8] * 3, variant="-w"), *(f"p{k}-w" for k in range(3))),
    ]

    def loaded(paths: Sequence[Path]) -> list[LoadedRun]:
        return runs

    monkeypatch.setattr(study_module, "load_runs", loaded)
    found = study_module.study_of_runs([Path(each.name) for each in runs], pair_by="id", beside=Path())
    (board,) = found.boards
    assert {entry.cell for entry in board.runs} == {"a", "b"}
    assert [unit.key for unit in board.units] == [f"p{k}" for k in range(1, 7)]
    assert [prompt.id for prompt in found.asked_for] == ["p0", "p0-w", "p1-w", "p2-w"]
    assert found.notes[0].text.startswith("4 prompts ask explicitly for a perceived gender")
    assert "On no board: every prompt of c asks" in found.notes[1].text


def test_another_attribute_leaves_out_what_asks_for_its_labels_alone() -> None:
    own, listed = without_asking([asking(run("a", [8, 4]), "p0", attribute="race")])
    assert (len(own[0].metrics.prompts), listed) == (2, [])
