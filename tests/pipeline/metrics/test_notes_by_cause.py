"""Notes by cause: each stands in a run that has its cause, and in no run that has not.

A run without any cause has no note; every other run differs from it in one cause, and must have just the notes of that one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import TWICE
from allfour.pipeline.analyses.each import EACH, Asked
from allfour.pipeline.analyses.study.result import study_result
from allfour.pipeline.analyses.until import UNTIL
from allfour.pipeline.metrics.asked_for import asked_notes
from allfour.pipeline.metrics.calibration import run_calibration_of
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.notes import asked_notes as unread_notes
from allfour.pipeline.metrics.notes import gate_notes, left_out_notes, wording_notes
from allfour.pipeline.metrics.scenes import scene_notes
from allfour.pipeline.metrics.tallies import PromptTally, Tallies
from allfour.pipeline.run.asked import AskedPrompt
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Accounting, GroupScenes, Metrics, Scenes
from allfour.pipeline.run.record import Note
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.run.study import StudyCell
from scripts.validation.evidence import (
    ADULTS,
    CHILDREN,
    GROWN,
    LABELS,
    YOUNG,
    calibration_of,
    drawn_cells,
    labels_of,
    measured,
    read_of,
)
from tests.pipeline.analyses.comparison_runs import CLASSIFIER, make_run

PIPELINE = Path(__file__).resolve().parents[3] / "pipeline"

Row = dict[str, int]


def codes(notes: list[Note]) -> set[str]:
    return {note.code for note in notes}


def run(rows: list[Row], **others: Any) -> Metrics:
    """Metrics of prompts with so many images of each reading; `calibrated`: images of a calibration by label and cell."""
    keep = {
        "first": others.pop("first", {}),
        "revised": others.pop("revised", 0),
        "unprompted": others.pop("unprompted", 0),
    }
    prompts = []
    for place, row in enumerate(rows):
        read = {k: n for k, n in row.items() if k not in ("refused", "failed")}
        prompts.append(
            PromptTally(
                id=str(place),
                text=str(place),
                group=None,
                statuses={"generated": sum(read.values()), **{k: row[k] for k in ("refused", "failed") if k in row}},
                labels={"gender": read},
                set_labels={"gender": keep["first"].get(place, first_four(row))},
                revised=keep["revised"] if not place else 0,
            )
        )
    if keep["unprompted"]:
        prompts.append(
            PromptTally(
                id="",
                text="",
                group=None,
                statuses={"generated": keep["unprompted"]},
                labels={"gender": {"woman": keep["unprompted"]}},
                prompted=False,
            )
        )
    tallies = Tallies(tuple(prompts), {}, (), others.pop("duplicates", 0), 0)
    return compute_metrics(tallies, labels={"gender": LABELS}, headline="gender", set_size=4, **others)


def first_four(row: Row) -> Row:
    """Readings of a set, of images in the order of the row."""
    left, found = 4, {}
    for reading, count in row.items():
        taken = min(left, count)
        left -= taken
        if taken and reading not in ("refused", "failed"):
            found[reading] = taken
    return found


def mixed(prompts: int = 40) -> list[Row]:
    """Prompts of four that lean both ways, and some that do not: no cause for any note."""
    kinds: list[Row] = [
        {"woman": 4},
        {"man": 4},
        {"woman": 3, "man": 1},
        {"man": 2, "woman": 2},
        {"woman": 4},
        {"man": 3, "woman": 1},
    ]
    return [dict(kinds[place % len(kinds)]) for place in range(prompts)]


def read_with(
    rates: Any, *, seed: int = 3, prompts: int = 40, images: int = 16, spread: float = 0.0
) -> tuple[list[Row], dict[int, Row], dict[str, Any]]:
    """A run of leaning prompts read with these rates of (woman, man) x (small, large lead) and unclear, and its leads."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    surely: dict[str, Any] = {}
    sets: dict[int, Row] = {}
    for place, share in enumerate(random.beta(0.3, 0.3, prompts)):
        women = random.binomial(images, share)
        cells = random.multinomial(women, rates[0]) + random.multinomial(images - women, rates[1])
        rows.append({"woman": int(cells[0] + cells[2]), "man": int(cells[1] + cells[3]), "ambiguous": int(cells[4])})
        sets[place] = {
            k: int(n)
            for k, n in zip(rows[-1], random.multivariate_hypergeometric([*rows[-1].values()], 4), strict=True)
            if n
        }
        surely[str(place)] = {"woman": (int(cells[2]), int(cells[2])), "man": (int(cells[3]), int(cells[3]))}
    return rows, sets, {"gender": surely}


def known(rates: Any, images: int = 200) -> Any:
    return calibration_of(np.round(np.asarray(rates) * images).astype(int))


def calibrated(rates: Any, by: Any, *, images: int = 200) -> Metrics:
    rows, sets, surely = read_with(rates)
    return run(rows, first=sets, calibration=known(by, images), surely=surely)


def looked_at(rates: Any, by: Any, part: float = 0.5) -> Metrics:
    """A calibrated run of which people labelled half of the images, or another part, as they were drawn."""
    random = np.random.default_rng(8)
    women = random.random((60, 24)) < random.beta(0.3, 0.3, size=(60, 1))
    cells = drawn_cells(women, np.asarray(rates), np.zeros(60), random)
    read, leads = read_of(cells, 5)
    return measured(read, calibration=known(by), leads=leads, labelled=labels_of(women, read, part, random))


def of_groups(rates: Any, seed: int = 3) -> Metrics:
    """A run of these people, and a calibration of grown and of young ones."""
    random = np.random.default_rng(seed)
    women = random.random((40, 16)) < random.beta(0.3, 0.3, size=(40, 1))
    read, leads = read_of(drawn_cells(women, np.asarray(rates), np.zeros(40), random), 7)
    groups = {"grown": np.round(GROWN * 800).astype(int), "young": np.round(YOUNG * 800).astype(int)}
    return measured(read, leads=leads, calibration=calibration_of(groups["grown"] + groups["young"], groups))


PERFECT = np.array([[0.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]])
GUESSING = np.array([[0.2, 0.2, 0.29, 0.27, 0.04], [0.2, 0.2, 0.27, 0.29, 0.04]])
WEAK = np.array([[0.1, 0.15, 0.66, 0.05, 0.04], [0.15, 0.1, 0.05, 0.66, 0.04]])
WEAK_BUT_NEVER_UNCLEAR = np.array([[0.1, 0.15, 0.66, 0.09, 0.0], [0.15, 0.1, 0.09, 0.66, 0.0]])
NEVER_UNCLEAR = np.array([[0.04, 0.03, 0.88, 0.05, 0.0], [0.03, 0.05, 0.02, 0.9, 0.0]])
BOTH_WORSE = np.array([[0.05, 0.02, 0.68, 0.21, 0.04], [0.02, 0.06, 0.16, 0.72, 0.04]])
SPREAD = "error_may_differ_by_prompt"
"""Stands wherever equal error rates are assumed and would matter, or are one of the ways in which a calibration does not fit."""

# fmt: off
RUNS: dict[str, tuple[Callable[[], Metrics], set[str]]] = {
    "nothing is the matter": (lambda: run(mixed()), set()),
    "few prompts": (lambda: run(mixed(9)), {"few-prompts", "rare-label"}),
    "all alike": (lambda: run([{"woman": 4}, {"man": 4}] * 20), {"agreement"}),
    "one label is rare": (lambda: run([{"woman": 4}] * 35 + [{"woman": 2, "man": 2}] * 5), {"rare-label"}),
    "made to differ": (lambda: run([{"woman": 4}] + [{"woman": 2, "man": 2}] * 59), {"below-chance"}),
    "made to differ, as all images and not first sets show": (lambda: run([{"woman": 8, "man": 8}] * 30 + [{"woman": 9, "man": 7}] * 10, first={place: {"woman": 4} if place < 5 else {"woman": 2, "man": 2} for place in range(40)}), {"below-chance"}),
    "even draws": (lambda: run([{"woman": 4}] * 3 + [{"man": 4}] * 2 + [{"woman": 2, "man": 2}] * 20 + [{"woman": 3, "man": 1}] * 15), {"near-chance"}),
    "a short prompt": (lambda: run([*mixed(), {"woman": 3}]), {"prompts_left_out"}),
    "images refused": (lambda: run([*mixed(), {"woman": 3, "refused": 1}]), {"images_missing"}),
    "many unclear": (lambda: run([*mixed(30), *[{"woman": 1, "ambiguous": 3}] * 10]), {"images_without_label"}),
    "few unclear": (lambda: run([*mixed(39), {"woman": 3, "ambiguous": 1}]), set()),
    "nobody knows the prompt": (lambda: run(mixed(), unprompted=3), {"images_without_prompt"}),
    "near-copies": (lambda: run(mixed(), copies={"0": ({"woman": 3}, {"woman": 3})}), {"near_copies"}),
    "equal bytes of other prompts": (lambda: run(mixed(), duplicates=2), {"duplicate_images"}),
    "nearly one picture for many prompts": (lambda: run(mixed(), nearly_shared=3), {"nearly_shared_images"}),
    "prompts rewritten": (lambda: run(mixed(), revised=2), {"revised_prompts"}),
    "a calibration without an error": (lambda: calibrated(PERFECT, PERFECT), set()),
    "a calibration that fits": (lambda: calibrated(ADULTS, ADULTS), {SPREAD}),
    "a calibration of others": (lambda: calibrated(CHILDREN, ADULTS), {SPREAD, "calibration_unlike_run", "images_without_label"}),
    "a mix of a calibration's groups": (lambda: of_groups(YOUNG), {SPREAD, "calibration_reweighted", "images_without_label", "weak-classifier"}),
    "another mix of groups than the calibration's": (lambda: of_groups(0.35 * GROWN + 0.65 * YOUNG, 5), {SPREAD, "calibration_reweighted", "images_without_label", "weak-classifier"}),
    "a calibration of groups that fits": (lambda: of_groups((GROWN + YOUNG) / 2), {SPREAD, "images_without_label", "weak-classifier"}),
    "people labelled half of it": (lambda: looked_at(ADULTS, ADULTS), set()),
    "people labelled a little of it": (lambda: looked_at(ADULTS, ADULTS, 0.04), {"error_spread_open"}),
    "people say that it errs more": (lambda: looked_at(BOTH_WORSE, ADULTS), {"labels_contradict_calibration", "near-chance"}),
    "a small calibration": (lambda: calibrated(ADULTS, ADULTS, images=40), {SPREAD, "small-calibration"}),
    "a weak classifier": (lambda: calibrated(WEAK, WEAK), {SPREAD, "weak-classifier"}),
    "a classifier that guesses": (lambda: calibrated(ADULTS, GUESSING), {"labels_not_told_apart"}),
    "unclear where the calibration never is": (lambda: calibrated(ADULTS, NEVER_UNCLEAR), {SPREAD, "unclear_beyond_calibration", "calibration_unlike_run"}),
    "abstentions choose the prompts": (lambda: run([{"woman": 1, "no_person": 3}] * 30 + [{"man": 4}] * 8 + [{"woman": 4}] * 7, calibration=known(NEVER_UNCLEAR)), {"corrected_refused", "images_without_label"}),
    "a correction of few prompts": (lambda: run([{"woman": 4}] * 4 + [{"man": 4}] * 3 + [{"woman": 2, "man": 2}] * 2 + [{"woman": 1, "no_person": 3}] * 3, calibration=known(NEVER_UNCLEAR, 1000)), {SPREAD, "few-prompts", "rare-label", "images_without_label", "corrected_at_its_end"}),
    "more alike than errors allow": (lambda: run([{"woman": 64}, {"man": 64}] * 20, calibration=known(WEAK_BUT_NEVER_UNCLEAR)), {SPREAD, "agreement", "calibration-contradicted", "weak-classifier"}),
    "halves that no errors explain": (lambda: run([{"woman": 4}] * 17 + [{"man": 4}] * 16 + [{"woman": 2, "man": 2}] * 7, calibration=known(WEAK_BUT_NEVER_UNCLEAR)), {SPREAD, "calibration-contradicted", "weak-classifier"}),
    "another attribute": (lambda: run(mixed(), calibration=other_attribute()), {"not_calibrated"}),
}
# fmt: on


def other_attribute() -> Any:
    found = known(ADULTS)
    entry = found.data["attributes"]["gender"]
    return type(found)({**found.data, "attributes": {"age": entry}})


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_the_notes_of_its_causes_and_no_others(name: str) -> None:
    made, expected = RUNS[name]
    assert codes(made().notes) == expected


def worded(**phrases: list[str]) -> AttributeSet:
    return AttributeSet.model_validate({"attributes": {"gender": {"labels": phrases}}})


def scene(detector: str | None, **counts: int) -> GroupScenes:
    asked = Scenes.model_validate({"prompts": 2, "images": 8, "one_person": 0, "nobody": 0, **counts})
    return GroupScenes(attribute="gender", detector=detector, asked=asked)


def prompt_asking(**expect: str) -> dict[str, AskedPrompt]:
    return {"a": AskedPrompt(expect=expect)}


def read_of_ten(nobody: int) -> Accounting:
    return Accounting(requested=10, generated=10, scored=10, labelled=10 - nobody, no_person=nobody)


GATED = AttributeSet.model_validate(
    {
        "presence": {"labels": {"person": ["a person"], "no_person": ["a thing"]}, "threshold": 0.6},
        "attributes": {"gender": {"labels": {"woman": ["a woman"], "man": ["a man"]}}},
    }
)
PARTS: dict[str, tuple[list[Note], list[Note]]] = {
    "unequal_phrases": (
        wording_notes(worded(woman=["a", "b"], man=["c"])),
        wording_notes(worded(woman=["a"], man=["c"])),
    ),
    "presence_gate": (gate_notes(GATED, read_of_ten(5)), gate_notes(GATED, read_of_ten(4))),
    "asking_stopped": (unread_notes({"stopped": "It costs too much."}), unread_notes({"stopped": None})),
    "images_unread": (unread_notes({"unread": {"no answer": 2}}), unread_notes({"unread": {}})),
    "archive_left_out": (left_out_notes(["1 .zip archives inside the tree, not opened"]), left_out_notes([])),
    "nobody_counted": (scene_notes(scene(None)), scene_notes(None)),
    "few_people_found": (
        scene_notes(scene("centerface", one_person=3)),
        scene_notes(scene("centerface", one_person=2)),
    ),
    "labels_asked_for": (
        asked_notes(prompt_asking(gender="woman"), headline="gender", prompts=["a"]),
        asked_notes(prompt_asking(race="Asian"), headline="gender", prompts=["a"]),
    ),
}


@pytest.mark.parametrize("code", PARTS)
def test_a_part_of_a_run_has_its_note_where_its_cause_is(code: str) -> None:
    present, absent = PARTS[code]
    assert codes(present) == {code} and absent == []


# Of what is laid beside a run, or of several runs: each needs a folder.

FOLDERS = (
    "images_of_some_prompts",
    "calibration_does_not_fit",
    "calibration_in_other_precision",
    "made_in_rounds",
    "outdated",
    "few_units",
    "not_comparable",
    "cells_missing",
    "unlabelled_differ",
)


def study_of(folder: Path, *, prompts: int, others: dict[str, Any] | None = None, states: tuple[str, ...] = ("done", "done")) -> set[str]:  # fmt: skip
    """Codes of a study of two runs, of which the second has other ways and both may stand otherwise."""
    letters = {f"p{n}": "WWWM" if n % 3 else "MMMM" for n in range(prompts)}
    runs = make_run(folder / "a", letters), make_run(folder / "b", **{"prompts": letters, **(others or {})})
    cells = [
        (StudyCell.model_validate({"name": run.name, "path": "", "generator": run.name, "state": state}), run)
        for run, state in zip(runs, states, strict=True)
    ]
    axes = {"generator": ["a", "b"]}
    found = study_result(cells, name="s", pair_by="id", axes=axes, beside=folder)
    return codes([*found.notes, *(note for board in found.boards for note in board.notes)])


def test_a_study_has_its_notes_where_their_causes_are(tmp_path: Path) -> None:
    assert study_of(tmp_path / "whole", prompts=6) == set()
    assert study_of(tmp_path / "few", prompts=5) == {"few_units"}
    assert study_of(tmp_path / "lacking", prompts=6, states=("done", "failed")) == {"cells_missing"}
    unread = {"prompts": {f"p{n}": "NNNN" for n in range(6)}}
    assert study_of(tmp_path / "unread", prompts=6, others=unread) == {"unlabelled_differ"}
    another = {"classifier": {**CLASSIFIER, "backend": "face"}}
    assert study_of(tmp_path / "apart", prompts=6, others=another) == {"not_comparable"}


def test_a_kept_calibration_has_its_note_where_it_is_not_of_the_run_s_classifier(tmp_path: Path) -> None:
    asked = worded(woman=["a"], man=["b"])
    bound = {"kind": "exact", "classifier": {"backend": "face"}, "margins": {}}
    kept = {"format": 1, "created": "", "dataset": {}, "binding": bound, "attributes": {}}
    (tmp_path / "calibration.json").write_text(json.dumps(sealed(kept)))
    assert run_calibration_of(tmp_path, None, {"backend": "face"}, asked)[1] is None
    found = run_calibration_of(tmp_path, None, {"backend": "clip"}, asked)
    assert found[0] is None and found[1] is not None and found[1].code == "calibration_does_not_fit"


@pytest.mark.parametrize(("dtype", "code"), [("float32", None), (TWICE, "calibration_in_other_precision")])
def test_a_calibration_in_float32_is_one_of_a_run_that_decides_as_float32(
    tmp_path: Path, dtype: str, code: str | None
) -> None:
    asked = worded(woman=["a"], man=["b"])
    theirs, ours = (
        {"backend": "clip", "encoder": {"tensors_sha256": "a", "dtype": name}} for name in ("float32", dtype)
    )
    bound = {"kind": "exact", "classifier": theirs, "margins": {}}
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"format": 1, "created": "", "dataset": {}, "binding": bound, "attributes": {}}))
    for path in (given, None):  # and the copy that is kept
        calibration, note = run_calibration_of(tmp_path, path, ours, asked)
        assert calibration is not None and (None if note is None else note.code) == code


def test_a_question_asked_of_each_prompt_has_its_note(tmp_path: Path) -> None:
    run = RunFolder(make_run(tmp_path / "r", {"a": "WWWW", "b": "WMWM"}))
    assert EACH.summary(run) == (None, None)
    Asked("share.woman.low > 0.5 or share.woman.high < 0.5", up_to=8, prompts=2).keep(run)
    note = EACH.summary(run)[1]
    assert note is not None and note.code == "images_of_some_prompts"


def test_an_account_of_rounds_has_its_note_and_one_of_earlier_scores_another(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)

    def scored_as(fingerprint: str) -> None:
        stages = {"scores": {"fingerprint": fingerprint}}
        run.header_path.write_text(json.dumps(sealed({"format": 1, "name": "r", "stages": stages})))

    scored_as("a")
    assert UNTIL.summary(run)[1] is None
    UNTIL.kept.write(run, {"expression": "unanimity > 0.5", "because": "Settled."})
    note = UNTIL.summary(run)[1]
    assert note is not None and note.code == "made_in_rounds"
    scored_as("b")
    note = UNTIL.summary(run)[1]
    assert note is not None and note.code == "outdated"


def test_every_code_there_is_has_a_case() -> None:
    """A note that is added later needs a run with its cause, and one without."""
    named = re.compile(r'^([A-Z_]+) = "([\w-]+)"$', re.MULTILINE)
    texts = [path.read_text(encoding="utf-8") for path in PIPELINE.rglob("*.py")]
    everywhere = dict(pair for text in texts for pair in named.findall(text))
    found = set()
    for text in texts:
        constants = everywhere | dict(named.findall(text))
        for code in re.findall(r'Note\(\s*code=("[\w-]+"|[A-Z_]+|[\w.]+)', text):
            found.add(code.strip('"') if code.startswith('"') else constants.get(code, code))
        found |= set(re.findall(r'\bwarn\(\s*"([\w-]+)"', text))
    found -= {"doubt.code", "reader.code"}  # taken from elsewhere
    cases = set().union(*(expected for _, expected in RUNS.values())) | {*PARTS} | {*FOLDERS}
    assert found == cases
