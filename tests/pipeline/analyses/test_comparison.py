"""Runs against runs and references: values by hand, and refusals with their mend."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import ComparisonError, check_comparable, load_runs
from allfour.pipeline.analyses.comparison.prompts import two_shares
from allfour.pipeline.analyses.comparison.reference import UNIFORM
from allfour.pipeline.commands.compare import run_comparison
from allfour.pipeline.config import load_prompts, load_reference
from tests.pipeline.analyses.comparison_runs import ATTRIBUTES, SIX, compared, make_run

# --- values by hand --------------------------------------------------------------------------------------------------


def test_unanimity_is_paired_and_tested_by_mcnemar(turned: tuple[Path, Path]) -> None:
    found = compared(turned)["summary"]
    moves = found["unanimous"]
    assert {key: moves[key] for key in ("prompts", "first", "second", "both", "gained", "lost", "turned")} == {
        "prompts": 6, "first": 6, "second": 0, "both": 0, "gained": 0, "lost": 6, "turned": 0,
    }  # fmt: skip
    assert moves["moves"] == [{"first": "woman", "second": None, "prompts": 6}]
    difference = found["unanimity_difference"]
    assert difference["value"] == -1.0
    assert difference["p_value"] == pytest.approx(2 * 0.5**6)  # six prompts changed, all one way
    # mean -1, variance (0 + 2) / 7, t(5) = 2.5706: -1 + 2.5706 * sqrt(2 / 7 / 6)
    assert (difference["low"], difference["high"]) == (-1.0, pytest.approx(-1 + 2.5706 * (2 / 42) ** 0.5, abs=1e-4))
    assert difference["first"], difference["second"] == (1.0, 0.0)


def test_shares_are_means_over_prompts_with_a_sign_flip_test(turned: tuple[Path, Path]) -> None:
    shares = compared(turned)["summary"]["share_difference"]
    assert shares["woman"]["value"] == -0.5
    assert shares["man"]["value"] == 0.5
    assert (shares["woman"]["first"], shares["woman"]["second"]) == (1.0, 0.5)
    assert shares["woman"]["p_value"] == pytest.approx(2 / 2**6)  # all signs alike, of 64 ways to flip them
    # no further than of runs that share no prompts: Wilson's limits of 6 of 6 prompts, and those of half of the images of each of six
    first, second = 1 - st.wilson(6, 6).low, st.rate_over_prompts([2] * 6, trials=[4] * 6).high - 0.5
    assert shares["woman"]["high"] == pytest.approx(-0.5 + math.hypot(first, second), abs=1e-6)


def test_each_prompt_has_fisher_and_benjamini_hochberg(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", {"x": "WWWW", "y": "WWWW", "z": "WWMM"})
    second = make_run(tmp_path / "b", {"x": "MMMM", "y": "WWWM", "z": "WWMM"})
    rows = compared([first, second])["comparisons"][0]["prompts"]
    assert [(row["rank"], row["id"], row["change"]) for row in rows] == [(1, "x", 1.0), (2, "y", 0.25), (3, "z", 0.0)]
    assert rows[0]["p_value"] == pytest.approx(2 / 70)  # 4 of 4 against 0 of 4
    assert rows[0]["q_value"] == pytest.approx(3 * 2 / 70)  # the smallest of three
    assert rows[1]["p_value"] == pytest.approx(1.0)
    assert rows[0]["difference"]["woman"]["value"] == -1.0
    assert (rows[0]["first"]["unanimous"], rows[0]["second"]["unanimous"]) == ("woman", "man")


def test_newcombe_interval_of_the_published_example() -> None:
    found = two_shares(np.array([48, 32]), np.array([56, 14]), 0, 0.95)  # 48 of 80, then 56 of 70
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_moves_that_cancel_out_show_in_the_mean_absolute_change(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", {name: "WWWW" if place % 2 else "MMMM" for place, name in enumerate(SIX)})
    second = make_run(tmp_path / "b", {name: "MMMM" if place % 2 else "WWWW" for place, name in enumerate(SIX)})
    found = compared([first, second])["summary"]
    assert found["share_difference"]["woman"]["value"] == 0.0
    assert found["unanimity_difference"]["value"] == 0.0
    assert found["unanimous"]["turned"] == 6
    change = found["mean_absolute_change"]
    assert change["value"] == 1.0
    # 4 of 8 women are dealt to a run of 4: E |2x - 4| / 4 = (2 * 4 + 32 * 2) / 70 / 4
    assert change["floor"] == pytest.approx(72 / 280, abs=0.01)
    assert change["p_value"] < 0.001


def test_two_equal_runs_are_not_declared_equal_for_certain(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, dict.fromkeys(SIX, "WWWW")) for name in ("a", "b")]
    difference = compared(runs)["summary"]["unanimity_difference"]
    assert (difference["value"], difference["p_value"]) == (0.0, 1.0)
    assert difference["low"] < -0.3 < 0.3 < difference["high"]


def test_images_without_a_label_are_in_no_share_and_break_sets(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", {"x": "WWWW", "y": "WWWW"})
    second = make_run(tmp_path / "b", {"x": "WWWA", "y": "WWRW"})
    found = compared([first, second])["comparisons"][0]
    assert found["summary"]["share_difference"]["woman"]["value"] == 0.0
    assert found["summary"]["unanimous"]["lost"] == 2
    assert any("b lacks 1 of 8 images" in warning for warning in found["warnings"])
    assert any("have no label" in warning for warning in found["warnings"])


def test_images_that_both_runs_hold_are_told(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", {"x": "WWWW"})
    shutil.copytree(first, tmp_path / "b")
    warnings = compared([first, tmp_path / "b"])["comparisons"][0]["warnings"]
    assert any("4 images of b are byte for byte images of a" in warning for warning in warnings)


def test_further_runs_are_compared_with_the_first(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, {"x": letters}) for name, letters in (("a", "WWWW"), ("b", "MMMM"), ("c", "WWWM"))
    ]
    found = compared(runs)
    assert [(pair["first"], pair["second"]) for pair in found["comparisons"]] == [("a", "b"), ("a", "c")]
    assert [pair["summary"]["share_difference"]["woman"]["value"] for pair in found["comparisons"]] == [-1.0, -0.25]


def test_labels_of_two_files_are_no_other_classifier_s_but_not_known_to_be_one_s(tmp_path: Path) -> None:
    runs = [
        make_run(
            tmp_path / name,
            {"x": "WWWW"},
            classifier={"backend": "recorded", "made_by": "us", "records_sha256": name * 64},
        )
        for name in ("a", "b")
    ]
    with pytest.raises(ComparisonError, match="put the lines of both into one file"):
        compared(runs)


# --- references ------------------------------------------------------------------------------------------------------


def reference_file(folder: Path, text: str) -> str:
    path = folder / "reference.yaml"
    path.write_text(text)
    return str(path)


def test_a_reference_has_exact_tests_and_the_distance_of_chance(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"nurse": "MMMM", "doctor": "WWMM", "other": "WWWW"})
    shares = "{nurse: {shares: {gender: {woman: 0.867, man: 0.133}}}, doctor: {shares: {gender: {woman: 0.5}}}}"
    found = compared([run], reference=reference_file(tmp_path, f"name: r\nyear: 2021\nprompts: {shares}\n"))
    entry = found["references"][0]
    assert entry["reference"] == {"name": "r", "source": "", "year": 2021}
    assert (entry["summary"]["prompts"], entry["summary"]["prompts_without"]) == (2, 1)
    rows = {row["id"]: row for row in entry["prompts"]}
    assert rows["nurse"]["p_value"] == pytest.approx(0.133**4)  # nothing is as unlikely as no woman of four
    assert rows["nurse"]["q_value"] == pytest.approx(2 * 0.133**4)
    assert rows["doctor"]["p_value"] == pytest.approx(1.0)
    assert entry["summary"]["mean_absolute_difference"]["value"] == pytest.approx(0.867 / 2)
    assert entry["summary"]["share_difference"]["woman"]["value"] == pytest.approx(-0.867 / 2)
    assert entry["summary"]["differing_prompts"] == 1
    assert entry["summary"]["further_from_even"] == 1


def test_uniform_needs_no_file_and_its_floor_is_that_of_four_images(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"x": "WWMM", "y": "WWWW"})
    entry = compared([run], reference=UNIFORM)["references"][0]
    assert entry["summary"]["mean_absolute_difference"]["value"] == 0.25
    distance = entry["summary"]["mean_absolute_difference"]
    assert distance["floor"] == pytest.approx(0.1875)
    # distances 0 and 0.5: 0.25 - 0.1875; of 16 x 16 even draws those as far away on average have p, which 1,999 draws estimate
    assert distance["excess"] == pytest.approx(0.0625)
    ways = [(math.comb(4, a) * math.comb(4, b), abs(a - 2) + abs(b - 2)) for a in range(5) for b in range(5)]
    assert distance["p_value"] == pytest.approx(sum(n for n, far in ways if far >= 2) / 256, abs=0.05)
    # variance (2 * 0.25^2 + 2 * 0.25^2) / 3 with one unseen pair of an image of four: t(1) = 12.706 leaves everything open
    assert (distance["excess_low"], distance["excess_high"]) == (-1.0, 1.0)
    assert {row["id"]: row["p_value"] for row in entry["prompts"]} == {"x": pytest.approx(1.0), "y": 0.125}


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ("{x: {shares: {gender: {female: 0.5, male: 0.5}}}}", "no shares of gender"),
        ("{x: {shares: {gender: {woman: 0.5, female: 0.5}}}}", "'female' is no label of the run"),
        ("{x: {shares: {gender: {woman: 0.5, man: 0.2}}}}", "add up to 0.700"),
        ("{nobody: {shares: {gender: {woman: 0.5}}}}", "the reference knows: nobody"),
    ],
)
def test_references_that_do_not_fit_are_refused(tmp_path: Path, shares: str, reason: str) -> None:
    run = make_run(tmp_path / "a", {"x": "WWMM"})
    with pytest.raises(ComparisonError, match=reason):
        compared([run], reference=reference_file(tmp_path, f"name: r\nprompts: {shares}\n"))


@pytest.mark.parametrize("name", ["us-labour", "us-labour-2019", "sandbox-planted"])
def test_bundled_references_are_read_and_add_up(name: str) -> None:
    reference = load_reference(f"configs/references/{name}.yaml")
    assert reference.source
    for prompt in reference.prompts.values():
        assert prompt.source
        for shares in prompt.shares.values():
            assert sum(shares.values()) == pytest.approx(1.0, abs=1e-9)


def test_labour_figures_are_the_published_ones() -> None:
    prompts = load_reference("configs/references/us-labour.yaml").prompts
    published = {
        "accountant": 62.0,
        "ceo": 29.1,
        "doctor": 39.7,
        "manicurist": 83.0,
        "nurse": 86.7,
        "social_worker": 83.6,
    }
    assert {key: round(100 * prompts[key].shares["gender"]["woman"], 1) for key in published} == published
    assert prompts["cto"].source.startswith("nearest occupation")


def test_labour_figures_of_2019_say_their_year_and_their_row() -> None:
    reference = load_reference("configs/references/us-labour-2019.yaml")
    assert reference.year == 2019
    listed = {
        "nurse": 88.9,
        "librarian": 79.9,
        "architect": 24.5,
        "ceo": 27.6,
        "lawyer": 36.4,
        "doctor": 40.8,
        "nanny": 93.4,
    }
    found = {key: round(100 * reference.prompts[key].shares["gender"]["woman"], 1) for key in listed}
    assert found == listed
    for prompt in reference.prompts.values():
        assert prompt.source.startswith(("same occupation: ", "nearest occupation: "))
    asked = {prompt.id for prompt in load_prompts("configs/prompts/bolukbasi-extremes.yaml").prompts}
    assert len(asked & set(reference.prompts)) == 12


# --- refusals --------------------------------------------------------------------------------------------------------


def changed(section: str, key: str, value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(ATTRIBUTES))
    (copy["attributes"]["gender"] if section == "gender" else copy[section])[key] = value
    return copy


@pytest.mark.parametrize(
    ("options", "reason", "mend"),
    [
        ({"classifier": {"backend": "clip", "encoder": {"weights_sha256": "cd" * 32, "dtype": "float32"}}},
         r"encoder\.weights_sha256 abababababab\.\.\. and cdcdcdcdcdcd", "allfour rescore"),
        ({"classifier": None}, "does not say which classifier", "allfour rescore"),
        ({"attributes": changed("gender", "labels", {"woman": ["a lady"], "man": ["a man"]})},
         "other words for gender", "allfour relabel"),
        ({"attributes": changed("gender", "margin", 0.3)}, "margin of gender 0.1 and 0.3", "allfour relabel"),
        ({"attributes": changed("presence", "threshold", 0.7)}, "threshold of presence 0.5 and 0.7", "allfour relabel"),
        ({"attributes": changed("gender", "labels", {"female": ["a woman"], "male": ["a man"]})},
         "labels of gender differ", "allfour relabel"),
        ({"texts": {"x": "x, digital style"}}, "one id and two texts", "generate one of them again"),
    ],
)  # fmt: skip
def test_what_differs_is_refused_with_its_mend(tmp_path: Path, options: Any, reason: str, mend: str) -> None:
    first = make_run(tmp_path / "a", {"x": "WWMM"})
    second = make_run(tmp_path / "b", {"x": "WWMM"}, **options)
    with pytest.raises(ComparisonError, match=reason) as error:
        compared([first, second])
    assert mend in str(error.value)


def test_a_run_of_which_nothing_was_read_is_refused(tmp_path: Path) -> None:
    """It would seem to have no unanimous prompt, and a gate on the difference would pass."""
    runs = [make_run(tmp_path / "a", dict.fromkeys(SIX, "WWWW")), make_run(tmp_path / "b", dict.fromkeys(SIX, "RRRR"))]
    with pytest.raises(ComparisonError, match="no image of b could be read"):
        compared(runs)
    partly = make_run(tmp_path / "c", {**dict.fromkeys(SIX, "RRRR"), "one": "RRRW"})
    assert compared([runs[0], partly])["comparisons"][0]["summary"]["unanimous"]["lost"] == 6


def test_runs_of_other_confidence_are_compared_at_the_first_s_and_it_is_said(tmp_path: Path) -> None:
    prompts = dict.fromkeys(SIX, "WWWM")
    runs = [make_run(tmp_path / "a", prompts), make_run(tmp_path / "b", prompts, confidence=0.8)]
    done = run_comparison(runs, out=tmp_path / "out")
    (pair,) = done.comparison["comparisons"]
    message = "a was measured at 95% confidence and b at 80%. Every interval here is computed at 95%"
    assert message in pair["warnings"][0] and message in done.page_path.read_text()
    assert done.comparison["confidence"] == 0.95
    for row in pair["prompts"]:
        assert row["first"]["share"] == row["second"]["share"]
    one, two = (load_runs(runs)[number].metrics.summary.unanimity for number in (0, 1))
    assert one is not None and two is not None and one.high is not None and two.high is not None and two.high < one.high
    same = compared([runs[0], make_run(tmp_path / "c", prompts)])
    assert not any("confidence" in warning for warning in same["comparisons"][0]["warnings"])


def test_other_prompts_are_refused_or_left_out(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", {"x": "WWMM", "y": "WWMM"})
    second = make_run(tmp_path / "b", {"x": "WWWW", "z": "WWMM"})
    with pytest.raises(ComparisonError, match=r"1 only in a \(y\); 1 only in b \(z\)\. Add --shared-prompts"):
        compared([first, second])
    found = compared([first, second], shared_only=True)["comparisons"][0]
    assert (found["summary"]["prompts"], found["summary"]["prompts_left_out"]) == (1, 2)
    assert "2 prompts are in one run only" in found["warnings"][0]


def test_nothing_in_common_is_refused_even_then(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", {"x": "WWMM"}), make_run(tmp_path / "b", {"y": "WWMM"})]
    with pytest.raises(ComparisonError, match="no prompt in common"):
        compared(runs, shared_only=True)


def test_every_reason_is_named_at_once(tmp_path: Path) -> None:
    one, two = load_runs(
        [make_run(tmp_path / "a", {"x": "WWMM"}), make_run(tmp_path / "b", {"y": "WWMM"}, set_size=2, classifier=None)]
    )
    with pytest.raises(ComparisonError) as error:
        check_comparable(one, two)
    assert str(error.value).count("\n  - ") == 3


def test_one_run_twice_no_run_and_one_run_alone_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"x": "WWMM"})
    with pytest.raises(ComparisonError, match="named twice"):
        compared([run, tmp_path / "." / "a"])
    with pytest.raises(ComparisonError, match="no measured run"):
        compared([run, tmp_path / "nowhere"])
    with pytest.raises(ComparisonError, match="--reference uniform"):
        compared([run])
