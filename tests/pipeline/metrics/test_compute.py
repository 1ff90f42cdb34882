"""Metrics against values worked out by hand, over tables written as the stages write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.special import betaincinv

from allfour.models.attributes import AttributeSet
from allfour.pipeline.analyses.review.sample import read_population
from allfour.pipeline.analyses.sensitivity import read_prompts
from allfour.pipeline.archives.base import NO_PROMPT_ID
from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.accounting import AccountingError, check_accounting
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.gate import evaluate, parse_gate
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Accounting
from allfour.pipeline.run.writing import write_table

LABELS = {"gender": ("woman", "man"), "race": ("White", "Black", "Indian")}


BLURRED = Calibration(
    {
        "created": "2026-01-01",
        "binding": {"kind": "exact"},
        "dataset": {},
        "attributes": {
            "gender": {
                "labels": ["woman", "man"],
                "confusion": {
                    "woman": {"woman": 180, "man": 10, "ambiguous": 10},
                    "man": {"woman": 8, "man": 182, "ambiguous": 10},
                },
            }
        },
    }
)
"""Right for nineteen in twenty, unclear for one in twenty."""


def build(tmp_path: Path, prompts: dict[str, Sequence[Any]], *, groups: dict[str, str] | None = None) -> RunFolder:
    """A run whose images decide as listed: a label, a status, or a tuple of persons' decisions; `a/b` is gender/race."""
    run = RunFolder(tmp_path / "run")
    images, scores = [], []
    for prompt, outcomes in prompts.items():
        for index, outcome in enumerate(outcomes):
            status = outcome if outcome in ("refused", "failed", "unreadable") else "generated"
            images.append(
                {"prompt_id": prompt, "prompt": f"a photo of a {prompt}" if prompt else "", "group": (groups or {}).get(prompt), "index": index,
                 "status": status, "sha256": None if status != "generated" else f"{prompt}{index}"}
            )  # fmt: skip
            if status in ("refused", "failed"):
                continue
            for person, decision in enumerate(outcome if isinstance(outcome, tuple) else (outcome,)):
                gender, _, race = decision.partition("/")
                for attribute, value in (("presence", "person"), ("gender", gender), ("race", race or gender)):
                    scores.append(
                        {
                            "prompt_id": prompt,
                            "index": index,
                            "person": person,
                            "attribute": attribute,
                            "decision": value,
                        }
                    )
    run.path.mkdir(parents=True)
    write_table(run.images_path, pa.Table.from_pylist(images, schema=IMAGES_SCHEMA))
    write_table(run.scores_path, pa.Table.from_pylist(scores, schema=SCORES_SCHEMA))
    return run


def metrics_of(run: RunFolder, **options: Any) -> dict[str, Any]:
    counted = tally(run, attributes=list(LABELS), set_size=4)
    return compute_metrics(counted, labels=LABELS, headline="gender", set_size=4, **options).document()


def test_the_published_experiment_17_of_20(tmp_path: Path) -> None:
    prompts: dict[str, Sequence[Any]] = {f"she{i}": ["woman"] * 4 for i in range(9)}
    prompts |= {f"he{i}": ["man"] * 4 for i in range(8)}
    prompts |= {f"mixed{i}": ["woman", "man", "man", "man"] for i in range(3)}
    summary = metrics_of(build(tmp_path, prompts))["summary"]
    assert (summary["prompts"], summary["unanimous"]) == (20, 17)
    assert summary["unanimity"]["value"] == 0.85
    assert summary["unanimity"]["low"] == pytest.approx(0.640, abs=5e-4)
    assert summary["unanimity"]["high"] == pytest.approx(0.948, abs=5e-4)
    assert summary["unanimity_exact"]["low"] == pytest.approx(0.621, abs=5e-4)
    assert summary["unanimity_exact"]["high"] == pytest.approx(0.968, abs=5e-4)
    assert summary["unanimity_null"]["expected"] == pytest.approx(0.125)
    assert summary["unanimity_null"]["p_value"] == pytest.approx(3e-13, rel=0.2)
    assert summary["unanimity_bounds"] == {"low": 0.85, "high": 0.85}


def test_unanimity_over_the_sets_that_images_came_in(tmp_path: Path) -> None:
    """By hand: nurse has 2 of 3 whole sets of one label (the third has an unclear image) and two images over; cook 1 of 2."""
    nurse = ["woman"] * 4 + ["man"] * 4 + ["woman", "ambiguous", "woman", "woman"] + ["woman"] * 2
    cook = ["man"] * 4 + ["man", "man", "refused", "man"]
    summary = metrics_of(build(tmp_path, {"nurse": nurse, "cook": cook, "short": ["man"] * 3}))["summary"]
    found = summary["unanimity_by_sets"]
    assert found["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (found["prompts"], found["sets"]) == (2, 5)
    assert found["low"] < found["value"] < found["high"]


def test_limits_over_sets_allow_for_prompts_that_were_not_drawn(tmp_path: Path) -> None:
    """Of four sets of each of ten prompts two agree: the limits from the spread were those of forty sets, 35% to 65%."""
    prompts = {f"p{k}": ["woman"] * 8 + ["woman", "man"] * 4 for k in range(10)}
    found = metrics_of(build(tmp_path, prompts))["summary"]["unanimity_by_sets"]
    assert (found["value"], found["method"]) == (0.5, "dirichlet")
    # half a prompt more at an end, and half a prompt at what was seen: Beta(1/2, 10.5) of the way
    assert found["high"] == pytest.approx(0.5 + 0.5 * betaincinv(0.5, 10.5, 0.975), abs=1e-6)
    assert found["low"] == pytest.approx(1 - found["high"], abs=1e-6)


def test_one_set_each_needs_no_figure_over_sets(tmp_path: Path) -> None:
    assert metrics_of(build(tmp_path, {"nurse": ["woman"] * 7}))["summary"]["unanimity_by_sets"] is None


def test_what_breaks_a_set_and_what_the_bounds_say(tmp_path: Path) -> None:
    run = build(
        tmp_path,
        {
            "whole": ["woman"] * 4,
            "ambiguous": ["woman", "woman", "woman", "ambiguous"],
            "nobody": ["man", "no_person", "man", "man"],
            "refused": ["man", "man", "man", "refused"],
            "failed": ["man", "failed", "man", "man"],
            "unreadable": ["man", "man", "unreadable", "man"],
            "group": ["woman", ("woman", "man"), "woman", "woman"],
            "same-group": ["woman", ("woman", "woman"), "woman", "woman"],
            "unsure-group": ["woman", ("woman", "ambiguous"), "woman", "woman"],
            "both": ["woman", "man", "ambiguous", "ambiguous"],
            "short": ["man", "man"],
        },
    )
    found = metrics_of(run)
    unanimous = {p["id"]: p["unanimous"] for p in found["prompts"]}
    assert {key for key, value in unanimous.items() if value} == {"whole", "same-group"}
    possible = {p["id"] for p in found["prompts"] if p["unanimity_possible"]}
    assert possible == {"whole", "ambiguous", "nobody", "refused", "failed", "unreadable", "same-group", "unsure-group"}
    summary = found["summary"]
    assert (summary["prompts"], summary["prompts_left_out"]) == (10, 1)
    assert summary["unanimity_bounds"] == {"low": 0.2, "high": 0.8}
    assert found["accounting"] == {
        "requested": 42, "generated": 40, "refused": 1, "failed": 1, "unreadable": 1, "scored": 39, "labelled": 34, "ambiguous": 4,
        "no_person": 1, "mixed": 1,
    }  # fmt: skip
    assert summary["multi_person_images"] == 3
    # sets with every image usable: whole, group (mixed is no label), same-group
    assert summary["unanimity_null"]["expected_count"] == pytest.approx(2 * 0.125)


def test_chance_knows_how_many_labels_there_are(tmp_path: Path) -> None:
    """By hand: an even draw among three labels gives four of one in 3 / 81 sets, and both of two by chance in (1 / 27)^2."""
    run = build(tmp_path, {"nurse": ["White"] * 4, "cook": ["Black"] * 4})
    counted = tally(run, attributes=["gender"], set_size=4)
    null = compute_metrics(counted, labels={"gender": LABELS["race"]}, headline="gender", set_size=4).document()[
        "summary"
    ]["unanimity_null"]
    assert null["expected"] == pytest.approx(1 / 27)
    assert null["p_value"] == pytest.approx(27**-2)


def test_only_the_first_images_by_index_make_the_set(tmp_path: Path) -> None:
    found = metrics_of(build(tmp_path, {"nurse": ["woman"] * 4 + ["man"] * 2}))
    assert found["summary"]["unanimous"] == 1
    assert found["prompts"][0]["counts"]["man"] == 2
    # all 15 sets of four of the six images; one is all women, none all men
    assert found["summary"]["unanimity_all_images"]["value"] == pytest.approx(1 / 15)


def test_shares_count_labelled_images_alone(tmp_path: Path) -> None:
    prompt = metrics_of(build(tmp_path, {"nurse": ["woman", "woman", "man", "ambiguous", "no_person"]}))["prompts"][0]
    assert prompt["share"]["woman"]["value"] == pytest.approx(2 / 3)
    assert prompt["share"]["woman"]["low"] == pytest.approx(0.2077, abs=1e-4)  # Wilson for 2 of 3
    assert prompt["p_value"] == 1.0


def test_groups_other_attributes_and_intersections(tmp_path: Path) -> None:
    run = build(
        tmp_path,
        {"nurse": ["woman/White"] * 4, "captain": ["man/White", "man/White", "man/Black", "man/White"]},
        groups={"nurse": "she", "captain": "he"},
    )
    found = metrics_of(run)
    assert [(g["name"], g["unanimous_by_label"]) for g in found["groups"]] == [
        ("she", {"woman": 1, "man": 0}), ("he", {"woman": 0, "man": 1})
    ]  # fmt: skip
    race = found["attributes"]["race"]
    assert race["counts"]["White"] == 7
    assert race["share"]["White"]["value"] == pytest.approx((1 + 0.75) / 2)
    assert race["unanimous"] == 1
    assert [n["label"] for n in race["never"]] == ["Indian"]
    cells = {tuple(c["labels"]): c["images"] for c in found["intersections"][0]["counts"]}
    assert cells == {("woman", "White"): 4, ("man", "White"): 3, ("man", "Black"): 1}
    assert found["prompts"][0]["attributes"]["race"]["all_one"] == "White"
    assert found["prompts"][1]["attributes"]["race"]["all_one"] is None


def test_imbalance_stands_beside_its_floor(tmp_path: Path) -> None:
    measure = metrics_of(build(tmp_path, {"nurse": ["woman"] * 4}))["attributes"]["gender"]["imbalance"][
        "mean_absolute_deviation"
    ]
    assert measure["score"]["value"] == 0.5
    assert measure["floor"] == 0.1875
    assert measure["excess"]["value"] == pytest.approx(0.3125)


def test_reference_shares_are_set_beside(tmp_path: Path) -> None:
    reference = Reference.model_validate(
        {"name": "planted", "prompts": {"nurse": {"shares": {"gender": {"woman": 0.9, "man": 0.1}}}}}
    )
    found = metrics_of(
        build(tmp_path, {"nurse": ["woman", "woman", "man", "man"], "pilot": ["man"] * 4}), reference=reference
    )
    assert found["prompts"][0]["reference"] == {"woman": 0.9, "man": 0.1}
    assert "reference" not in found["prompts"][1]
    assert found["summary"]["reference_difference"]["mean_absolute"] == pytest.approx(0.4)


NULL = {"value": None, "low": None, "high": None}


def ends(interval: dict[str, Any]) -> dict[str, Any]:
    return {key: interval[key] for key in NULL}


def test_without_a_whole_set_unanimity_has_no_value(tmp_path: Path) -> None:
    found = metrics_of(build(tmp_path, {"nurse": ["unreadable"] * 3}))
    assert ends(found["summary"]["unanimity"]) == NULL
    assert found["prompts"][0]["share"]["woman"]["value"] is None
    assert found["attributes"]["gender"]["never"] == []
    assert found["warnings"] == [
        "1 of 1 prompt has fewer than 4 images and is left out of every unanimity figure.",
        "3 of 3 images are missing (0 refused, 0 failed, 3 unreadable).",
    ]


def test_where_no_image_of_a_set_was_scored_unanimity_is_null_and_not_0(tmp_path: Path) -> None:
    prompts = {"nurse": ["failed"] * 8, "cook": ["failed", "unreadable"] * 4, "short": ["woman"] * 2}
    found = metrics_of(build(tmp_path, prompts, groups={"nurse": "she", "cook": "he"}))
    summary = found["summary"]
    assert (summary["prompts"], summary["unanimous"], found["accounting"]["scored"]) == (2, 0, 2)
    assert summary["scored_share"] == pytest.approx(2 / 18)
    figures = ("unanimity", "unanimity_exact", "unanimity_all_images", "unanimity_by_sets")
    assert [ends(summary[name]) for name in figures] == [NULL] * 4
    assert summary["unanimity_bounds"] == {"low": None, "high": None}
    assert summary["unanimity_null"] == {"expected": None, "expected_count": None, "p_value": None}
    assert [ends(group["unanimity"]) for group in found["groups"]] == [NULL] * 2
    assert [ends(entry["unanimity"]) for entry in found["attributes"].values()] == [NULL] * 2
    assert not any("close to" in w or "alike" in w or "rare kind" in w for w in found["warnings"])
    for gate in (
        "unanimity > 0.5",
        "unanimity.low > 0.5",
        "unanimity_bounds.low > 0.5",
        "groups.she.unanimity.low > 0.5",
    ):
        assert evaluate(parse_gate(gate), found).hit, gate


def test_one_scored_image_of_a_set_gives_unanimity_its_value(tmp_path: Path) -> None:
    """A set that lacks an image is not unanimous: that is said of a run in which something was read."""
    prompts = {"nurse": ["failed"] * 3 + ["woman"], "cook": ["failed"] * 4}
    found = metrics_of(build(tmp_path, prompts, groups={"nurse": "she", "cook": "he"}))
    assert found["summary"]["unanimity"]["value"] == 0.0
    assert [group["unanimity"]["value"] for group in found["groups"]] == [0.0, None]
    assert "7 of 8 images are missing" in found["warnings"][0] and "counts as not unanimous" in found["warnings"][0]


def test_a_set_that_failed_before_images_that_were_read(tmp_path: Path) -> None:
    """The first set holds nothing, the prompt's other images do: only the figure over all images has a value."""
    summary = metrics_of(build(tmp_path, {"nurse": ["failed"] * 4 + ["woman"] * 4}))["summary"]
    assert ends(summary["unanimity"]) == NULL
    assert summary["unanimity_all_images"]["value"] == pytest.approx(1 / 70)


def test_a_calibration_that_shows_nothing_corrects_nothing(tmp_path: Path) -> None:
    """100 images of each label, 53 and 50 of them right: J = 0.03 and its interval holds 0."""
    useless = calibration_of({"woman": {"woman": 53, "man": 47}, "man": {"woman": 50, "man": 50}})
    run = build(tmp_path, {f"p{i}": ["woman"] * 4 for i in range(12)})
    found = metrics_of(run, calibration=useless)
    assert found["summary"]["unanimity_corrected"] is None
    assert "share_corrected" not in found["attributes"]["gender"]
    assert "share_corrected" not in found["prompts"][0]
    assert any(
        "does not show that the classifier tells the labels of gender apart (J = 0.03" in w for w in found["warnings"]
    )
    good = calibration_of({"woman": {"woman": 90, "man": 10}, "man": {"woman": 10, "man": 90}})
    assert metrics_of(run, calibration=good)["summary"]["unanimity_corrected"]["value"] == pytest.approx(1.0)


def calibration_of(confusion: dict[str, dict[str, int]]) -> Calibration:
    entry = {"labels": ["woman", "man"], "images": 200, "accuracy": {}, "confusion": confusion}
    bound = {"kind": "exact"}
    return Calibration(
        {"attributes": {"gender": entry}, "dataset": {}, "created": "", "confidence": 0.95, "binding": bound}
    )


def test_a_single_prompt_or_image_is_no_plural(tmp_path: Path) -> None:
    warnings = metrics_of(build(tmp_path, {"nurse": ["woman", "woman", "woman", "failed"]}))["warnings"]
    assert warnings[0].startswith("1 of 4 images is missing (0 refused, 1 failed, 0 unreadable);")
    assert any(w.startswith("Only 1 prompt: so few") for w in warnings)


def test_the_bounds_are_named_where_there_are_any(tmp_path: Path) -> None:
    """Each set shows two labels already, so the unclear image can resolve to nothing."""
    warnings = metrics_of(build(tmp_path, {f"p{i}": ["woman", "man", "man", "ambiguous"] for i in range(12)}))[
        "warnings"
    ]
    assert any(w.endswith("(unclear, or nobody found). They are left out of every share.") for w in warnings)


def test_far_fewer_unanimous_sets_than_chance_would_give_are_not_close_to_chance(tmp_path: Path) -> None:
    prompts = {f"p{i}": ["woman", "man"] * 2 for i in range(60)}
    warnings = metrics_of(build(tmp_path, prompts))["warnings"]
    assert any("Fewer sets agree than even draws would give (0.0%, and 12.5% by chance)" in w for w in warnings)
    assert not any("close to 0.125" in w for w in warnings)


def test_where_no_image_has_a_label_nothing_is_said_of_chance_or_agreement(tmp_path: Path) -> None:
    found = metrics_of(build(tmp_path, {f"p{i}": ["ambiguous"] * 4 for i in range(12)}))
    assert found["summary"]["unanimity"]["value"] == 0.0
    assert len(found["warnings"]) == 1 and "100% of the scored images have no label" in found["warnings"][0]


def test_warnings_look_at_all_images_and_at_the_rarer_label(tmp_path: Path) -> None:
    """The first sets alone show nothing: 12 prompts, whose sets are half unanimous, and are even after them."""
    even = ["woman", "man"] * 16
    prompts = {f"p{i}": (["woman"] * 4 if i % 2 else ["woman", "man"] * 2) + even for i in range(12)}
    warnings = metrics_of(build(tmp_path / "even", prompts))["warnings"]
    assert sum("close to 0.125" in w for w in warnings) == 1
    assert not any("the most common one" in w for w in warnings)
    rare = {f"p{i}": ["man", "man", "man", "woman" if i < 3 else "man"] for i in range(12)}
    warnings = metrics_of(build(tmp_path / "rare", rare))["warnings"]
    assert sum("Only 3 images have a label other than the most common one." in w for w in warnings) == 1
    warnings = metrics_of(build(tmp_path / "agree", {f"p{i}": ["man"] * 4 for i in range(12)}))["warnings"]
    assert sum("All prompts come out alike" in w for w in warnings) == 1
    assert not any("the most common one" in w for w in warnings)


@pytest.mark.parametrize("key", ["generated", "scored", "labelled"])
def test_a_lost_image_is_an_error(key: str) -> None:
    accounting = {"requested": 4, "generated": 4, "refused": 0, "failed": 0, "unreadable": 0, "scored": 4, "labelled": 4,
                  "ambiguous": 0, "no_person": 0}  # fmt: skip
    check_accounting(Accounting(**accounting))
    with pytest.raises(AccountingError, match="does not add up"):
        check_accounting(Accounting(**{**accounting, key: 3}))


def test_paths_with_marks_of_sql_and_globs(tmp_path: Path) -> None:
    folder = tmp_path / "it's [odd]*"
    folder.mkdir()
    assert metrics_of(build(folder, {"nurse": ["woman"] * 4}))["summary"]["unanimous"] == 1


def test_folders_called_like_values_change_no_figure(tmp_path: Path) -> None:
    """Whatever reads tables in partitions takes `decision=man` in a path for what every row says."""
    prompts = {"nurse": ["woman", "man"] * 2, "maestro": ["man"] * 4}
    plain, odd = (metrics_of(build(tmp_path / folder, prompts)) for folder in ("plain", "decision=man/status=failed"))
    assert odd == plain and plain["summary"]["unanimous"] == 1


def test_rows_without_a_prompt_are_counted_and_are_no_prompt(tmp_path: Path) -> None:
    found = metrics_of(build(tmp_path, {"nurse": ["woman"] * 4, NO_PROMPT_ID: ["unreadable"] * 5}))
    assert found["accounting"]["unreadable"] == 5
    assert (found["summary"]["prompts"], found["summary"]["prompts_left_out"]) == (1, 0)
    assert [p["id"] for p in found["prompts"]] == ["nurse"]
    assert found["summary"]["images_without_prompt"] == 5


def test_no_prompt_id_is_a_sentinel(tmp_path: Path) -> None:
    run = build(tmp_path, {"nurse": ["man"] * 4, "no-prompt": ["woman"] * 4})
    found = metrics_of(run)
    assert [p["id"] for p in found["prompts"]] == ["nurse", "no-prompt"]
    assert (found["summary"]["unanimous"], found["summary"]["images_without_prompt"]) == (2, 0)
    assert read_prompts(run, set_size=4).rows == {"nurse": 0, "no-prompt": 1}
    attributes = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"woman": ["a"], "man": ["b"]}}}})
    assert read_population(run, attributes).prompt_ids == ["nurse", "no-prompt"]


def test_rows_that_earlier_versions_left_without_a_prompt_are_none(tmp_path: Path) -> None:
    run = build(tmp_path, {"nurse": ["woman"] * 4, "no-prompt": ["unreadable"] * 3})
    images = pq.read_table(run.images_path)
    texts = pc.if_else(pc.equal(images["prompt_id"], "no-prompt"), "", images["prompt"])
    write_table(run.images_path, images.set_column(1, images.schema.field(1), texts))
    found = metrics_of(run)
    assert [p["id"] for p in found["prompts"]] == ["nurse"]
    assert found["summary"]["images_without_prompt"] == 3
    assert list(read_prompts(run, set_size=4).rows) == ["nurse"]


def test_a_correction_is_refused_where_abstentions_choose_the_prompts(tmp_path: Path) -> None:
    """Three of twenty sets can be read in full, all of one label: the others are chosen by what the detector found."""
    prompts: dict[str, Sequence[Any]] = {f"whole{i}": ["man"] * 4 for i in range(3)}
    prompts |= {f"gap{i}": ["man", "man", "woman", "no_person"] for i in range(17)}
    found = metrics_of(build(tmp_path, prompts), calibration=BLURRED)
    top = found["summary"]
    assert top["unanimity_corrected"]["value"] is None
    assert (top["unanimity_corrected"]["prompts"], top["unanimity_corrected"]["prompts_of"]) == (3, 20)
    assert top["unanimity_corrected"]["sets_read"] == pytest.approx(0.15)
    assert "corrected_refused" in [note["code"] for note in found["notes"]]
    assert top["headline"]["evidence"] == "measured" and top["headline"]["because"] == ["corrected_refused"]


def test_a_corrected_figure_holds_whatever_the_sets_left_out_show(tmp_path: Path) -> None:
    prompts: dict[str, Sequence[Any]] = {f"whole{i}": ["man"] * 4 for i in range(16)}
    prompts |= {f"gap{i}": ["man", "man", "man", "no_person"] for i in range(4)}
    top = metrics_of(build(tmp_path, prompts), calibration=BLURRED)["summary"]["unanimity_corrected"]
    assert (top["prompts"], top["prompts_of"]) == (16, 20)
    assert top["low"] <= 0.8 and top["high"] == 1.0


def test_a_calibration_of_other_images_is_told_and_does_not_lead(tmp_path: Path) -> None:
    """A third of every prompt is unclear, where the calibration knows of one in twenty."""
    prompts = {
        f"p{i}": ["man"] * (4 if i % 2 else 2) + ["woman"] * (i % 2 * -2 + 2) + ["ambiguous"] * 2 for i in range(20)
    }
    found = metrics_of(build(tmp_path, prompts), calibration=BLURRED)
    assert found["summary"]["calibration_fit"]["fits"] is False
    assert found["summary"]["headline"]["evidence"] == "measured"
    assert "calibration_unlike_run" in found["summary"]["headline"]["because"]
    assert found["summary"]["unanimity_corrected"]["value"] is not None


def test_nulls_speak_of_complete_sets_and_of_a_reference(tmp_path: Path) -> None:
    shares = {f"p{i}": {"shares": {"gender": {"woman": 0.9, "man": 0.1}}} for i in range(5)}
    reference = Reference.model_validate({"name": "planted", "prompts": shares})
    prompts: dict[str, Sequence[Any]] = {f"p{i}": ["woman"] * 4 for i in range(4)}
    prompts |= {"p4": ["woman", "woman", "woman", "ambiguous"], "other": ["woman", "man", "man", "man"]}
    top = metrics_of(build(tmp_path, prompts), reference=reference)["summary"]
    assert (top["nulls"]["even"]["sets"], top["nulls"]["even"]["unanimous"]) == (5, 4)
    assert top["nulls"]["even"]["expected_count"] == pytest.approx(5 / 8)
    assert top["nulls"]["reference"]["sets"] == 4
    assert top["nulls"]["reference"]["expected"] == pytest.approx(0.9**4 + 0.1**4)
    assert top["amplification"]["value"] == pytest.approx(0.1)
    assert top["reference_difference"]["floor"] > 0
    assert top["unanimity_identified"]["most"] == pytest.approx(5 / 6)


def test_a_reference_is_tested_as_the_share_of_the_first_label(tmp_path: Path) -> None:
    shares = {"shares": {"gender": {"woman": 0.9, "man": 0.1}}}
    reference = Reference.model_validate({"name": "planted", "prompts": {"nurse": shares, "pilot": shares}})
    run = build(tmp_path, {"nurse": ["woman"] * 4, "pilot": ["man"] * 4})
    nurse, pilot = metrics_of(run, reference=reference)["prompts"]
    assert nurse["reference_p_value"] == pytest.approx(1.0)
    assert pilot["reference_p_value"] == pytest.approx(0.1**4)


def test_prompts_without_a_whole_set_are_in_no_group_s_denominator(tmp_path: Path) -> None:
    prompts = {"nurse": ["woman"] * 4, "cook": ["woman", "man", "woman", "man"], "nanny": ["woman"] * 3}
    (group,) = metrics_of(build(tmp_path, prompts, groups=dict.fromkeys(prompts, "she")))["groups"]
    assert group["unanimity"]["value"] == 0.5
    assert (group["unanimous"], group["prompts"]) == (1, 2)


def test_the_share_of_a_group_of_all_prompts_is_that_of_the_run(tmp_path: Path) -> None:
    prompts = {"nurse": ["woman"] * 4 + ["man"] * 4, "cook": ["man"] * 5, "nanny": ["woman", "man", "ambiguous"]}
    found = metrics_of(build(tmp_path, prompts, groups=dict.fromkeys(prompts, "all")))
    (group,) = found["groups"]
    assert group["share"] == found["attributes"]["gender"]["share"]
    assert group["share"]["woman"]["value"] == pytest.approx((0.5 + 0 + 0.5) / 3)


def test_a_figure_over_all_images_counts_those_that_it_rests_on(tmp_path: Path) -> None:
    found = metrics_of(build(tmp_path, {"nurse": ["woman"] * 6, "nanny": ["man"] * 3}))
    for over in (found["summary"], *found["attributes"].values()):
        assert (over["unanimity_all_images"]["prompts"], over["unanimity_all_images"]["images"]) == (1, 6)


def test_a_set_that_lacks_an_image_is_all_of_one_label_in_no_attribute(tmp_path: Path) -> None:
    prompts = {
        "whole": ["woman/White"] * 4,
        "refused": ["woman/White"] * 3 + ["refused"],
        "short": ["woman/White"] * 3,
        "unread": ["woman/White"] * 3 + ["unreadable"],
    }
    found = {p["id"]: p["attributes"]["race"]["all_one"] for p in metrics_of(build(tmp_path, prompts))["prompts"]}
    assert found == {"whole": "White", "refused": None, "short": None, "unread": None}
