"""The simulation behind docs/validation.md: it must use the estimators as the tool does, and judge them rightly."""

import json

import numpy as np
import pytest

from allfour.pipeline.statistics import Confusion, corrected_share, corrected_unanimity, mean_share, unanimity
from scripts.validate_statistics import Task, as_result, code_fingerprint, run_task, run_tasks, tasks, write_all
from scripts.validation.audits import check_corrected, check_raw, corrected_limits, raw_limits
from scripts.validation.further import (
    abstaining_rates,
    abstention_settings,
    check_abstention,
    check_paired,
    check_review,
    difference_truths,
    paired_settings,
    review_settings,
)
from scripts.validation.page import reason
from scripts.validation.rivals import mixture, plug_in
from scripts.validation.settings import POPULATIONS, Result, Setting, truths


@pytest.mark.parametrize("images", [4, 9])
def test_many_audits_at_once_are_the_public_functions_one_by_one(images):
    random = np.random.default_rng(0)
    women = random.binomial(images, random.beta(0.5, 0.5, size=(6, 15)))
    right = random.binomial(100, 0.9, size=(6, 2))
    raw = raw_limits(women, images)
    corrected = corrected_limits(women, images, right=right, calibrated=100, draws=4000, random=random)
    for audit in range(6):
        rows = np.column_stack([women[audit], images - women[audit]])
        confusion = Confusion.from_rates(sensitivity=(right[audit, 0], 100), specificity=(right[audit, 1], 100))
        expected = {
            ("share", 0): mean_share(rows),
            ("unanimity", 0): unanimity(rows).interval,
            ("share", 1): corrected_share(rows, confusion=confusion),
            ("unanimity", 1): corrected_unanimity(rows, confusion=confusion).interval,
        }
        for (name, after), interval in expected.items():
            ours = [part[audit] for part in (corrected if after else raw)[name]]
            theirs = [interval.value, interval.low, interval.high]
            assert ours == pytest.approx(theirs, abs=0.03 if after else 1e-6)


def test_truth_is_the_mean_over_the_population():
    shares = np.random.default_rng(1).beta(0.3, 0.3, size=400_000)
    truth = truths("mixed (U)")
    assert truth["share"] == pytest.approx(0.5)
    assert truth["unanimity"] == pytest.approx((shares**4 + (1 - shares) ** 4).mean(), abs=2e-3)


def test_a_setting_is_judged():
    random = np.random.default_rng(2)
    results = list(check_raw(Setting("mixed (U)", 9, 20, None, None, None), 200, random))
    results += check_corrected(Setting("mixed (U)", 9, 20, 0.9, 0.9, 200), 60, draws=200, random=random)
    found = {result.estimate: result.coverage for result in results}
    assert min(found["share"], found["unanimity"], found["corrected share"], found["corrected unanimity"]) > 0.85
    assert found["uncorrected unanimity"] < 0.6


def test_every_miss_has_a_reason():
    few = Result(Setting("near 0", 4, 5, None, None, None), "share", 100, 0.03, 0.99, 0.0, 0.01, 0.3, 1.0)
    assert not few.reached
    assert reason(few).startswith("5 prompts")
    apart = Setting("near 0.5", 64, 150, None, None, None, effect="none")
    wide = Result(apart, "share difference", 100, 0.0, 0.99, 0.01, 0.0, 0.3, 1.0)
    assert reason(wide).startswith("limits allow for prompts")


def test_rival_estimators_are_right_without_error_and_with_many_images():
    times = np.zeros((1, 401), dtype=int)
    times[0, [0, 200, 400]] = [1, 2, 1]
    rates = np.array([[1 - 1e-9, 1 - 1e-9]])
    expected = (2 + 2 * 0.125) / 4
    assert plug_in(times, rates)[0] == pytest.approx(expected)
    assert mixture(times, rates, steps=300)[0] == pytest.approx(expected, abs=0.01)


def test_abstentions_are_part_of_the_rates():
    rates = abstaining_rates(0.9, 0.8, 0.2)
    assert rates == pytest.approx(np.array([[0.72, 0.08, 0.20], [0.18, 0.72, 0.10]]))
    setting = abstention_settings(quick=True)[1]
    for result in check_abstention(setting, 40, draws=150, random=np.random.default_rng(3)):
        assert result.coverage >= 0.85, result


@pytest.mark.parametrize("unit", ["image", "set"])
def test_people_s_labels_cover_whatever_the_classifier_says(unit):
    setting = next(s for s in review_settings(quick=True) if s.unit == unit and s.prompts == 20)
    results = list(check_review(setting, 30, np.random.default_rng(4)))
    assert len(results) == 2
    assert min(result.coverage for result in results) >= 0.85


@pytest.mark.parametrize("population", POPULATIONS)
def test_true_differences_are_those_of_a_large_simulation(population):
    assert difference_truths(Setting(population, 9, 20, None, None, None, effect="none")) == (0.0, 0.0)
    share = np.random.default_rng(5).beta(*POPULATIONS[population], size=400_000)
    moved = (share + 0.5) / 2
    unanimous = (moved**4 + (1 - moved) ** 4 - share**4 - (1 - share) ** 4).mean()
    found = difference_truths(Setting(population, 9, 20, None, None, None, effect="evened"))
    assert found == pytest.approx(((moved - share).mean(), unanimous), abs=2e-3)


def test_paired_differences_cover_and_see_a_large_effect():
    setting = next(
        s for s in paired_settings(quick=True) if s.prompts == 20 and s.images == 64 and s.effect == "evened"
    )
    found = {result.estimate: result for result in check_paired(setting, 40, np.random.default_rng(6))}
    assert found["unanimity difference"].rejected > 0.9
    assert min(result.coverage for result in found.values()) >= 0.85


def test_a_stopped_run_goes_on_and_gives_the_same(tmp_path):
    todo = [task for task in tasks(quick=True, seed=1) if task.name == "raw"][:3]
    whole = run_tasks(todo, jobs=1, path=tmp_path / "whole.jsonl", code="x")
    path = tmp_path / "done.jsonl"
    run_tasks(todo[:1], jobs=1, path=path, code="x")
    kept = path.read_text()
    path.write_text(kept + json.dumps({"code": "old", "key": todo[1].key, "rows": []}) + '\n{"code": "x", "key"\n')
    assert run_tasks(todo, jobs=1, path=path, code="x") == whole
    assert path.read_text().startswith(kept)
    assert len(path.read_text().splitlines()) == 5
    assert as_result(whole[todo[0].key][0]).setting == todo[0].setting


def test_a_section_that_was_not_run_stays_on_the_page_and_in_the_numbers(tmp_path):
    result = Result(Setting("near 0", 4, 20, None, None, None), "share", 100, 0.95, 0.0, 0.0, 0.05, 0.3, 1.0)
    rest = ("estimators", "bootstraps", "fixed", "evidence", "cleam", "faults", "differences")
    extra = {key: [] for key in rest} | {"seven_labels": {"unanimity": 0.95, "share": 0.95, "audits": 2}}
    header = {"audits": 100, "draws": 40, "seed": 0}
    of_images = {"calibrated_on": "White", "run_on": "Asian", "audits": 400, "refused": 0.98, "corrected": 0.67}
    photographs = [of_images | {"covered_before": 0.96, "wrong_now": 0.003, "truth": 0.659}]
    write_all(tmp_path, [result], extra | {"images": photographs}, header)
    write_all(tmp_path, [result], extra, header)
    assert "| White | Asian | 400 |" in (tmp_path / "validation.md").read_text()
    assert json.loads((tmp_path / "validation.json").read_text())["images"] == photographs


def test_pieces_have_random_numbers_of_their_own():
    one, two = tasks(quick=True, seed=0)[:2]
    assert one.random().random() != two.random().random()
    assert one.random().random() == Task(**vars(one)).random().random()
    assert run_task(one) == run_task(one)
    assert len(code_fingerprint()) == 16
