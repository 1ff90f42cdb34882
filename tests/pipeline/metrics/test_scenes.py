"""Who is together in an image, against values worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from allfour.pipeline import statistics as st
from allfour.pipeline.archives.base import NO_PROMPT_ID
from allfour.pipeline.metrics.accounting import AccountingError
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.scenes import (
    detector_of,
    group_scenes,
    scene_label,
    scene_notes,
    scenes_of_run,
    tally_scenes,
    within_image_diversity,
)
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import GroupScenes
from allfour.pipeline.run.writing import write_table

LABELS = ("woman", "man")
LETTERS = {"w": "woman", "m": "man", "a": "ambiguous", "n": "no_person"}


def build(tmp_path: Path, prompts: Mapping[str, Sequence[str]], *, asked: Sequence[str] = ()) -> RunFolder:
    """A run whose images show the people listed: `wwm` three faces, `w` one, `-w` none found and the whole reads as a woman."""
    run = RunFolder(tmp_path / "run")
    images, scores = [], []
    for prompt, outcomes in prompts.items():
        for index, outcome in enumerate(outcomes):
            status = outcome if outcome in ("refused", "unreadable") else "generated"
            extra = [("people", "several")] if prompt in asked else [("people", "one")]
            images.append({"prompt_id": prompt, "prompt": prompt, "index": index, "status": status, "extra": extra})
            if status == "refused":
                continue
            people = ["unreadable"] if status == "unreadable" else [LETTERS[c] for c in outcome.lstrip("-")]
            box = [1, 2, 3, 4] if status == "generated" and not outcome.startswith("-") else None
            for person, decision in enumerate(people):
                for attribute, value in (("presence", "person"), ("gender", decision), ("age", "old")):
                    scores.append({"prompt_id": prompt, "index": index, "person": person, "attribute": attribute,
                                   "decision": value, "box": box})  # fmt: skip
    run.path.mkdir(parents=True)
    write_table(run.images_path, pa.Table.from_pylist(images, schema=IMAGES_SCHEMA))
    write_table(run.scores_path, pa.Table.from_pylist(scores, schema=SCORES_SCHEMA))
    run.update_header(classifier={"encoder": {"people": {"detector": "eyes"}}})
    return run


def notes_of(found: dict[str, Any] | None) -> list[str]:
    return [note.text for note in scene_notes(found and GroupScenes.model_validate(found))]


def scenes_of(run: RunFolder) -> dict[str, Any] | None:
    counted = tally(run, attributes=["gender"], set_size=4)
    found = scenes_of_run(run, counted.prompts, headline="gender", labels=LABELS, confidence=0.95)
    return None if found is None else found.document()


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ((1, 1), 1.0),  # the only pair differs
        ((2, 0), 0.0),
        ((2, 1), 2 / 3),  # 2 of 3 pairs
        ((2, 2), 4 / 6),
        ((3, 1), 3 / 6),
        ((1, 1, 1), 1.0),
        ((2, 1, 1), 5 / 6),
        ((1, 0), None),
        ((0, 0), None),
    ],
)
def test_diversity_is_the_share_of_pairs_that_differ(people: tuple[int, ...], expected: float | None) -> None:
    assert within_image_diversity(people) == pytest.approx(expected)


@pytest.mark.parametrize("people", [2, 3, 5])
def test_its_expectation_does_not_depend_on_how_many_people_there_are(people: int) -> None:
    # over all 2^n outcomes of even draws the mean is 1 - 1/2; the plain Gini-Simpson index would give (1 - 1/n) / 2
    outcomes = [bin(bits).count("1") for bits in range(2**people)]
    values = [within_image_diversity((women, people - women)) for women in outcomes]
    assert sum(v for v in values if v is not None) / len(values) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("composition", "label"),
    [
        ((2, 2, 0), "woman"),
        ((3, 0, 3), "man"),
        ((3, 2, 1), "mixed"),
        ((3, 1, 1), "mixed"),  # one is unclear, and two differ already
        ((3, 2, 0), "ambiguous"),  # one is unclear, and could differ
        ((2, 0, 0), "ambiguous"),
    ],
)
def test_the_label_of_an_image_is_that_which_all_its_people_share(composition: tuple[int, ...], label: str) -> None:
    assert scene_label(composition, LABELS) == label


def test_every_figure_by_hand(tmp_path: Path) -> None:
    run = build(
        tmp_path,
        {
            # four scenes: all women, all men, mixed (2 + 1), and two women with one unclear; one face; nobody found; two not there
            "analysts": ["ww", "mmmm", "wwm", "wwa", "m", "-w", "refused", "unreadable"],
            "cooks": ["wm", "wm"],
            "sailor": ["m", "-m", "wmm"],  # asks for one person, and one image shows three
            "nurse": ["w", "-w"],
        },
        asked=["analysts", "cooks"],
    )
    found = scenes_of(run)
    assert found is not None
    assert (found["attribute"], found["detector"], found["even_diversity"]) == ("gender", "eyes", 0.5)
    assert [(p["id"], p["asked"]) for p in found["prompts"]] == [("analysts", True), ("cooks", True), ("sailor", False)]
    analysts = found["prompts"][0]
    assert {key: analysts[key] for key in ("images", "counted", "one_person", "nobody")} == {
        "images": 6, "counted": 4, "one_person": 1, "nobody": 1
    }  # fmt: skip
    assert analysts["read_whole"] == {"man": 1, "woman": 1}
    assert analysts["persons"] == {"total": 12, "median": 3.0, "least": 2, "most": 4}
    assert analysts["counts"] == {"woman": 1, "man": 1, "mixed": 1, "ambiguous": 1}
    assert analysts["share"]["mixed"] == st.wilson(1, 3).to_dict()
    assert analysts["people"] == {"woman": 6, "man": 5, "ambiguous": 1}
    # shares of women within the four: 1, 0, 2/3, 1
    assert analysts["people_share"]["woman"]["value"] == pytest.approx((1 + 0 + 2 / 3 + 1) / 4)
    # pairs that differ: 0, 0, 2 of 3, 0 (of the two with a label)
    assert analysts["diversity"]["value"] == pytest.approx((2 / 3) / 4)
    assert found["prompts"][1]["diversity"]["value"] == 1.0
    asked = found["asked"]
    assert {key: asked[key] for key in ("prompts", "images", "counted", "one_person", "nobody")} == {
        "prompts": 2, "images": 8, "counted": 6, "one_person": 1, "nobody": 1
    }  # fmt: skip
    assert asked["persons"] == {"total": 16, "median": 2.5, "least": 2, "most": 4}
    assert asked["counts"] == {"woman": 1, "man": 1, "mixed": 3, "ambiguous": 1}
    assert asked["share"]["mixed"]["value"] == pytest.approx((1 / 3 + 1) / 2)  # every prompt weighs the same
    assert asked["share"]["woman"]["value"] == pytest.approx((1 / 3 + 0) / 2)
    assert asked["diversity"]["value"] == pytest.approx((1 / 6 + 1) / 2)
    assert asked["diversity"]["low"] < asked["diversity"]["value"] < asked["diversity"]["high"]
    assert asked["diversity"] == st.mean_over_prompts([1 / 6, 1.0], independent=6.0).to_dict()
    other = found["other"]
    assert (other["prompts"], other["images"], other["counted"]) == (1, 3, 1)
    assert other["counts"]["mixed"] == 1
    assert not notes_of(found)  # two of eight is not yet much


def test_the_counts_are_those_of_the_other_metrics(tmp_path: Path) -> None:
    run = build(tmp_path, {"analysts": ["ww", "wm", "wa", "-n", "a", "mm"]}, asked=["analysts"])
    counted = tally(run, attributes=["gender"], set_size=4)
    metrics = compute_metrics(counted, labels={"gender": LABELS}, headline="gender", set_size=4).document()
    found = scenes_of(run)
    assert found is not None
    scene, plain = found["prompts"][0], metrics["prompts"][0]["counts"]
    for key in ("woman", "man", "mixed", "ambiguous", "no_person"):
        assert scene["counts"].get(key, 0) + scene["read_whole"].get(key, 0) == plain[key]
    assert scene["counted"] == sum(scene["counts"].values())
    assert scene["images"] == scene["counted"] + scene["one_person"] + scene["nobody"]
    assert scene["persons"]["total"] == sum(scene["people"].values())
    assert metrics["prompts"][0]["unanimous"] is None  # a mixed image is none of the labels


def test_without_a_detector_the_count_is_unknown_and_said_to_be(tmp_path: Path) -> None:
    run = build(tmp_path, {"analysts": ["-w", "-m", "-a"], "nurse": ["-w"]}, asked=["analysts"])
    run.update_header(classifier={"backend": "clip", "encoder": {"architecture": "x"}})
    found = scenes_of(run)
    assert found == {
        "attribute": "gender",
        "detector": None,
        "even_diversity": 0.5,
        "asked": {"prompts": 1, "images": 3, "counted": None},
        "other": None,
        "prompts": [
            {"id": "analysts", "asked": True, "images": 3, "counted": None,
             "read_whole": {"woman": 1, "man": 1, "ambiguous": 1}},
        ],
    }  # fmt: skip
    (warning,) = notes_of(found)
    assert "people were not counted" in warning
    assert "classifier.people.detector" in warning


def test_groups_that_the_detector_missed_are_warned_of(tmp_path: Path) -> None:
    (warning,) = notes_of(scenes_of(build(tmp_path, {"analysts": ["ww", "-w", "m", "wm"]}, asked=["analysts"])))
    assert "in 2 of 4 images fewer than two were found" in warning


def test_a_run_without_groups_has_none(tmp_path: Path) -> None:
    assert scenes_of(build(tmp_path, {"nurse": ["w", "-w", "a"], NO_PROMPT_ID: ["ww"]})) is None
    assert not notes_of(None)


def test_a_prompt_that_asks_for_a_label_is_in_no_group_scene(tmp_path: Path) -> None:
    run = build(tmp_path, {"couple": ["wm", "mm"], "two women": ["ww", "ww"]})
    assert (scenes_of(run) or {})["other"]["counts"]["woman"] == 2
    run.update_header(asked={"two women": {"expect": {"gender": "woman"}}})
    found = scenes_of(run)
    assert found is not None and [entry["id"] for entry in found["prompts"]] == ["couple"]
    assert (found["other"]["prompts"], found["other"]["counts"]["woman"], found["other"]["counts"]["mixed"]) == (
        1,
        0,
        1,
    )


def test_a_group_in_which_nobody_was_found(tmp_path: Path) -> None:
    found = scenes_of(build(tmp_path, {"analysts": ["-w", "-n"]}, asked=["analysts"]))
    assert found is not None
    assert found["asked"]["persons"] == {"total": 0, "median": None, "least": None, "most": None}
    assert found["asked"]["diversity"]["value"] is None
    assert (found["asked"]["diversity"]["low"], found["asked"]["diversity"]["high"]) == (0.0, 1.0)


def test_a_lost_image_is_a_defect_and_raised(tmp_path: Path) -> None:
    run = build(tmp_path, {"analysts": ["ww", "wm"]}, asked=["analysts"])
    counted = tally(run, attributes=["gender"], set_size=4)
    counted.prompts[0].labels["gender"]["mixed"] = 0
    scenes = tally_scenes(run, headline="gender", labels=LABELS)
    with pytest.raises(AccountingError, match="analysts"):
        group_scenes(scenes, counted.prompts, headline="gender", labels=LABELS, detector="eyes")


def test_the_detector_is_the_classifiers_own_or_its_encoders() -> None:
    assert detector_of({"backend": "face", "detector": "dlib"}) == "dlib"
    assert detector_of({"backend": "clip", "encoder": {"people": {"detector": "eyes"}}}) == "eyes"
    assert detector_of({"backend": "clip", "encoder": {"architecture": "ViT-L-14"}}) is None
    assert detector_of({"backend": "face", "detector": {"detector": "CenterFace", "size": 448}}) == "CenterFace"
    assert detector_of({"backend": "judge", "model": "m"}) == "the judge m"
    assert detector_of({}) is None
