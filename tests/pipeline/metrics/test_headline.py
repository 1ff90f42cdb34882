"""The first line takes the best evidence there is, and says why it is no better."""

from __future__ import annotations

from typing import Any

import pytest

from allfour.pipeline.metrics.headline import (
    BECAUSE,
    EVIDENCE,
    VERDICTS,
    headline_of,
    pick,
    verdict_words,
    with_headline,
)
from allfour.pipeline.report import estimates, lead
from allfour.pipeline.run.metrics import Headline, Metrics
from allfour.pipeline.run.record import Note


def metrics(unanimous: int = 17, prompts: int = 20, *, most: float | None = None, **others: Any) -> Metrics:
    value = unanimous / prompts
    summary = {
        "prompts": prompts,
        "set_size": 4,
        "unanimous": unanimous,
        "unanimity": {"value": value, "low": max(value - 0.2, 0), "high": min(value + 0.1, 1)},
        "unanimity_identified": {
            "least": value,
            "most": value if most is None else most,
            "low": max(value - 0.2, 0),
            "high": min((most or value) + 0.1, 1),
            "prompts": prompts,
        },
        **others.pop("summary", {}),
    }
    return Metrics.model_validate({"format": 1, "labels": {"gender": ["woman", "man"]}, "summary": summary, **others})


CORRECTED = {"value": 0.63, "low": 0.55, "high": 0.71, "prompts": 20, "prompts_of": 20, "sets_read": 1.0}


def corrected(**others: Any) -> Metrics:
    summary = {"unanimity_corrected": CORRECTED, **others}
    return metrics(summary=summary, calibration={"binding": "exact"})


def reviewed(*, labelled: int = 20, unit: str = "set") -> dict[str, Any]:
    powered = {"this_run": {"value": 0.4, "low": 0.3, "high": 0.5}, "prompts_like_these": {"value": 0.4, "low": 0.2, "high": 0.6}}  # fmt: skip
    sample = {"unit": unit, "attribute": "gender", "units_labelled": labelled, "labelled": 4 * labelled}
    return {"samples": [{**sample, "unanimity": powered if unit == "set" else None}]}


def test_measured_without_a_calibration() -> None:
    found = pick(metrics())
    assert (found.evidence, found.value, found.verdict) == ("measured", 0.85, "above_chance")
    assert found.because == ["no_calibration"]


def test_a_calibration_that_fits_leads_over_what_was_measured() -> None:
    found = pick(corrected(calibration_fit={"fits": True, "p_value": 0.4}))
    assert (found.evidence, found.value, found.low, found.prompts) == ("corrected", 0.63, 0.55, 20)


def test_one_that_does_not_fit_never_leads() -> None:
    found = pick(corrected(calibration_fit={"fits": False, "p_value": 1e-9}))
    assert found.evidence == "measured" and found.because == ["calibration_unlike_run"]
    assert found.verdict == "errors_unknown"  # 17 of 20, and yet no ground for a verdict


def test_what_is_read_by_a_classifier_that_errs_otherwise_is_said_to_be_no_more_than_that() -> None:
    unlike = corrected(calibration_fit={"fits": False, "p_value": 1e-9})
    assert (
        lead.headline(unlike) == "For 17 of 20 prompts, the classifier reads all four images as one perceived gender."
    )
    assert lead.verdict(unlike).startswith("Cannot be told: the classifier's errors on these images")
    assert "may differ from it by more than this interval" in (lead.standfirst(unlike) or "")
    fits = corrected(calibration_fit={"fits": True, "p_value": 0.4})
    assert "not known" not in f"{lead.headline(fits)} {lead.verdict(fits)} {lead.standfirst(fits)}"


def test_a_calibration_whose_groups_were_weighted_says_so() -> None:
    found = pick(
        corrected(calibration_fit={"fits": True, "p_value": 0.4, "by": "age", "mix": {"woman": {"young": 1.0}}})
    )
    assert found.evidence == "corrected" and found.because == ["calibration_reweighted"]


def test_published_rates_and_refusals_do_not_lead() -> None:
    published = corrected().model_copy(update={"calibration": corrected().calibration.model_copy(update={"binding": "published"})})  # type: ignore[union-attr]  # fmt: skip
    assert pick(published).because == ["published_rates"]
    refused = corrected(unanimity_corrected={"value": None, "low": None, "high": None}).noted(
        Note(code="corrected_refused", text="")
    )
    assert pick(refused).because == ["corrected_refused"]


def test_people_go_before_everything() -> None:
    both = corrected(calibration_fit={"fits": True, "p_value": 0.4}).model_dump(exclude_unset=True)
    found = pick(Metrics.model_validate({**both, "review": reviewed()}))
    assert (found.evidence, found.value, found.low, found.high) == ("reviewed", 0.4, 0.2, 0.6)
    told = lead.basis(Metrics.model_validate({**both, "review": reviewed(labelled=12)}))
    assert told.startswith("20 prompts, of whose sets people labelled 12")
    assert lead.basis(Metrics.model_validate({**both, "review": reviewed(labelled=20)})).startswith(
        "20 prompts, 80 image"
    )
    few = pick(Metrics.model_validate({**both, "review": reviewed(labelled=3)}))
    assert few.evidence == "corrected" and "review_too_small" in few.because
    images = pick(Metrics.model_validate({**both, "review": reviewed(unit="image")}))
    assert images.evidence == "corrected" and "review_of_images" in images.because


def test_verdicts() -> None:
    assert pick(metrics(3, 33, most=0.6)).verdict == "cannot_be_told"
    assert pick(metrics(3, 33)).verdict == "compatible_with_chance"
    assert pick(metrics(4, 4)).verdict == "too_few_prompts"
    nothing = metrics(0, 4, summary={"unanimity": {"value": None, "low": None, "high": None}})
    assert pick(nothing).verdict == "nothing_read"


def test_an_interval_below_chance_is_not_called_compatible_with_it() -> None:
    """Forty sets of two and two: 0% to 8.8%, and even draws give 12.5%."""
    none = metrics(
        0, 40, summary={"unanimity_identified": None, "unanimity": {"value": 0.0, "low": 0.0, "high": 0.088}}
    )
    assert pick(none).verdict == "compatible_with_chance"
    assert verdict_words(pick(none), set_size=4, labels=2) == "below chance"
    assert verdict_words(pick(none), set_size=4, labels=7) == "compatible with chance"  # 0.3%
    assert lead.verdict(none) == "Below the 12.5% that chance alone would give."
    assert "compatible" not in lead.one_line(none)


def test_many_images_without_a_label_are_named_as_the_cause() -> None:
    assert "images_without_label" in pick(metrics(3, 33, most=0.6)).because


def test_a_document_of_before_gets_its_headline_when_it_is_read() -> None:
    old = metrics()
    assert old.summary.headline is None
    assert headline_of(old) == pick(old)
    assert with_headline(old).document()["summary"]["headline"]["evidence"] == "measured"


@pytest.mark.parametrize("words", [VERDICTS, EVIDENCE, BECAUSE])
def test_words_are_those_of_one_table(words: dict[str, str]) -> None:
    assert all(text and not text.endswith(".") for text in words.values())
    assert set(EVIDENCE) == set(Headline.model_json_schema()["properties"]["evidence"]["enum"])


def test_wording_and_classifier_are_in_the_limits_where_they_are_asked_for_and_known() -> None:
    grid = {"wordings": 9, "wording_sd": 0.1}
    opinion = {"unanimity": {"first": {"unanimity": {"value": 0.85}}, "second": {"unanimity": {"value": 0.65}}}}
    beside = {"sensitivity": grid, "second_opinion": opinion}
    plain = pick(metrics(**beside))
    assert (plain.low, plain.include) == (pytest.approx(0.65), None)  # asked for nothing: limits as they were
    asked = {"include": ["prompts", "wording", "classifier"]}
    found = pick(metrics(summary=asked, **beside))
    by_hand = (
        0.85 - (0.2**2 + (2.306004 * 0.1) ** 2 + (1.959964 * 0.2 / 2**0.5) ** 2) ** 0.5
    )  # t with 8 degrees of freedom
    assert found.low == pytest.approx(by_hand, abs=1e-6)
    assert found.include == ["prompts", "wording", "classifier"] and found.high == 1.0
    nothing = pick(metrics(summary=asked))
    assert nothing.low == plain.low and nothing.include == ["prompts"]
    assert {"no_wording_spread", "no_classifier_spread"} <= {*nothing.because}


def test_errors_that_differ_by_prompt_are_taken_into_a_corrected_figure_s_limits() -> None:
    spread = {"spread": 0.6, "value": 0.6, "low": 0.41, "high": 0.7}
    fits = {"calibration_fit": {"fits": True, "p_value": 0.4}, "include": ["prompts", "classifier"]}
    found = pick(corrected(**fits, unanimity_corrected={**CORRECTED, "error_spread": spread}))
    assert (found.evidence, found.low, found.high) == ("corrected", 0.41, 0.71)
    assert found.include == ["prompts", "classifier"]
    noted = Note(code="error_may_differ_by_prompt", text="")
    alone = {"calibration_fit": {"fits": True, "p_value": 0.4}}
    unheld = corrected(**alone, unanimity_corrected={**CORRECTED, "error_spread": spread}).noted(noted)
    assert pick(unheld).because == ["error_may_differ_by_prompt"]  # on the first screen, with the range
    assert "If some prompts are read worse than others, as is plausible: 41% to 70%." in (lead.standfirst(unheld) or "")
    covered = corrected(**fits, unanimity_corrected={**CORRECTED, "error_spread": spread}).noted(noted)
    assert pick(covered).because == [] and "read worse" not in (lead.standfirst(covered) or "")
    wording = pick(corrected(calibration_fit={"fits": True, "p_value": 0.4}, include=["prompts", "wording"]))
    assert wording.because == ["wording_of_calibration"] and wording.low == CORRECTED["low"]


def test_a_spread_that_people_s_labels_measured_leads_and_one_that_they_contradict_does_not() -> None:
    spread = {
        "spread": 0.5,
        "spread_low": 0.1,
        "spread_high": 0.9,
        "source": "labelled images",
        "images": 90,
        "prompts": 30,
    }
    figures = {"value": 0.5, "low": 0.35, "high": 0.66, "agrees": 0.4}
    alone: dict[str, Any] = {"calibration_fit": {"fits": True, "p_value": 0.4}}
    found = corrected(**alone, unanimity_corrected={**CORRECTED, "error_spread": spread | figures})
    top = pick(found)
    assert (top.evidence, top.value, top.low, top.high) == ("corrected", 0.5, 0.35, 0.66)
    assert top.because == ["error_spread_measured"]
    assert "their size per prompt estimated from 90 images that people labelled" in (lead.standfirst(found) or "")
    shown = corrected(**alone, unanimity_corrected={**CORRECTED, "error_spread": spread | figures | {"alike": 0.04}})
    assert (pick(shown).low, pick(shown).high, pick(shown).because) == (0.35, 0.66, ["error_spread_measured"])
    asked = corrected(
        **alone, include=["prompts", "classifier"], unanimity_corrected={**CORRECTED, "error_spread": spread | figures}
    )
    assert (pick(asked).low, pick(asked).include) == (0.35, ["prompts", "classifier"])  # held already
    against = corrected(
        **alone, unanimity_corrected={**CORRECTED, "error_spread": spread | figures | {"agrees": 0.001}}
    )
    assert pick(against).evidence == "measured" and pick(against).verdict == "errors_unknown"
    assert pick(against).because == ["labels_contradict_calibration"] and "should not be quoted" in lead.corrected(
        against
    )


def test_labels_that_show_no_spread_make_no_limit_wider() -> None:
    """They move the figure, and what they leave open stands beside it; with the classifier in the limits it is in them."""
    spread = {"source": "labelled images", "images": 60, "prompts": 30, "agrees": 0.4, "alike": 0.3}
    wide = spread | {"spread": 0.5, "value": 0.5, "low": 0.3, "high": 0.7}
    plain = {**CORRECTED, "low": 0.4, "high": 0.6}
    noted = Note(code="error_spread_open", text="")
    fits: dict[str, Any] = {"calibration_fit": {"fits": True, "p_value": 0.4}}
    found = corrected(**fits, unanimity_corrected=plain | {"error_spread": wide}).noted(noted)
    top = pick(found)
    assert (top.value, top.low, top.high) == (0.5, pytest.approx(0.4), pytest.approx(0.6))
    assert top.because == ["error_spread_open"]
    assert "by as much as these labels allow: 30% to 70%" in (lead.standfirst(found) or "")
    lines = {line.name: line.interval for line in estimates.estimates(found)}
    assert lines["Corrected, prompt by prompt"] == "40% to 60%" and lines["As far as labels allow"] == "30% to 70%"
    within = corrected(**fits, include=["prompts", "classifier"], unanimity_corrected=plain | {"error_spread": wide})
    assert (pick(within.noted(noted)).low, pick(within.noted(noted)).because) == (0.3, [])
    narrow = wide | {"low": 0.45, "high": 0.55}
    assert pick(corrected(**fits, unanimity_corrected=plain | {"error_spread": narrow})).low == 0.45


def test_limits_that_reach_chance_take_the_verdict_back() -> None:
    grid = {"wordings": 4, "wording_sd": 0.3}
    found = pick(metrics(sensitivity=grid, summary={"include": ["prompts", "wording"]}))
    assert pick(metrics()).verdict == "above_chance" and found.verdict == "compatible_with_chance"


def test_what_people_read_has_no_wording() -> None:
    found = pick(metrics(review=reviewed(), summary={"include": ["prompts", "wording"]}))
    assert (found.low, found.include) == (0.2, ["prompts"])
