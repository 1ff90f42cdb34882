"""Calibration against counts by hand, its binding, and what it does to the metrics."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from allfour.errors import ClassifierError, InputError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.linear_probe import LinearProbeClassifier, Probe
from allfour.pipeline.analyses.calibration import calibrate
from allfour.pipeline.analyses.labelled_images import open_labelled
from allfour.pipeline.cli import app
from allfour.pipeline.commands import report as report_module
from allfour.pipeline.commands.start import start_run
from allfour.pipeline.config import RunConfig, ScoringConfig, load_attributes
from allfour.pipeline.metrics.calibration import UNFIT, Calibration, check_calibration, load_calibration
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.scoring.scorer import score_shard
from tests.light_backends import LightClassifier
from tests.pipeline.metrics.test_compute import build, metrics_of
from tests.places import REPOSITORY

ATTRIBUTES = AttributeSet.model_validate(
    {"attributes": {"gender": {"margin": 0.1, "labels": {"woman": ["a woman"], "man": ["a man"]}}}}
)


def flat(path: Path, red: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (red, 0, 0)).save(path)


@pytest.fixture
def labelled_csv(tmp_path: Path) -> Path:
    """60 pictures: the light classifier reads red as woman. Group b is read wrong one time in three."""
    rows = []
    for i in range(60):
        gender, group = ("Female", "Male")[i % 2], "ab"[i >= 30]
        red = 230 if gender == "Female" else 20
        if group == "b" and i % 3 == 0:
            red = 250 - red
        if i == 7:
            red = 127  # ambiguous
        flat(tmp_path / "img" / f"{i}.png", red)
        rows.append({"file": f"img/{i}.png", "gender": gender, "race": group})
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "gender", "race"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def light_calibration(path: Path, attributes: AttributeSet = ATTRIBUTES) -> dict[str, Any]:
    classifier = LightClassifier(attributes)
    dataset = open_labelled(path, attributes)
    tables = score_shard(dataset.items(), classifier=classifier, config=ScoringConfig())
    return calibrate(dataset, tables, classifier)


def test_confusion_and_groups_against_a_count_by_hand(labelled_csv: Path) -> None:
    entry = light_calibration(labelled_csv)["attributes"]["gender"]
    # i = 30, 33, ..., 57 are wrong: 5 even (women) and 5 odd (men); i = 7, a man, is ambiguous
    assert entry["confusion"] == {"woman": {"woman": 25, "man": 5}, "man": {"woman": 5, "man": 24, "ambiguous": 1}}
    assert entry["accuracy"]["value"] == pytest.approx(49 / 59)
    assert entry["labelled"]["value"] == pytest.approx(59 / 60)
    assert entry["groups"]["race"]["a"]["accuracy"]["value"] == 1.0
    assert entry["groups"]["race"]["b"]["accuracy"]["value"] == pytest.approx(20 / 30)
    disparity = entry["disparities"]["race"]
    assert (disparity["best"], disparity["worst"]) == ("a", "b")
    assert disparity["p_value"] < 0.01
    assert entry["margins"][0] == {"error": 0.01, "margin": None, "labelled": 0.0}
    assert sum(b["images"] for b in entry["reliability"]) == 60


def test_unreadable_and_missing_images_are_counted(labelled_csv: Path) -> None:
    (labelled_csv.parent / "img" / "0.png").unlink()
    (labelled_csv.parent / "img" / "2.png").write_bytes(b"x")
    result = light_calibration(labelled_csv)
    assert result["dataset"]["unreadable"] == 2
    assert result["attributes"]["gender"]["confusion"]["woman"]["unreadable"] == 2


def test_folders_per_class_and_utkface_names(tmp_path: Path) -> None:
    for i in range(3):
        flat(tmp_path / "classes" / "female" / f"{i}.png", 200)
        flat(tmp_path / "classes" / "male" / f"{i}.png", 20)
        flat(tmp_path / "utk" / f"{20 + i}_0_1_2017{i}.jpg", 20)
        flat(tmp_path / "utk" / f"{20 + i}_1_3_2018{i}.jpg.chip.jpg", 200)
    assert light_calibration(tmp_path / "classes")["attributes"]["gender"]["accuracy"]["value"] == 1.0
    result = light_calibration(tmp_path / "utk")
    assert result["dataset"]["layout"] == "utkface"
    assert result["attributes"]["gender"]["groups"]["race"]["Black"]["images"] == 3
    # all are in their twenties: no grouping by age
    assert set(result["attributes"]["gender"]["groups"]) == {"gender", "race"}


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("a.csv", "pfad,gender\nx,Female\n", "needs a column of image paths"),
        ("b.csv", "path\nx\n", "no column with labels"),
        ("c.csv", "path,gender\nx,robot\n", "no attribute could be calibrated"),
    ],
)
def test_unusable_sets_are_one_error(tmp_path: Path, name: str, text: str, part: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=part):
        light_calibration(tmp_path / name)


def test_a_calibration_is_bound_to_its_classifier(labelled_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(light_calibration(labelled_csv)))
    identity = LightClassifier(ATTRIBUTES).identity()
    load_calibration(path, identity, ATTRIBUTES)
    with pytest.raises(InputError, match=r"another classifier.*backend"):
        load_calibration(path, {"backend": "other"}, ATTRIBUTES)
    wider = AttributeSet.model_validate(
        {"attributes": {"gender": {"margin": 0.3, "labels": {"woman": ["w"], "man": ["m"]}}}}
    )
    with pytest.raises(InputError, match="margin of gender"):
        load_calibration(path, identity, wider)
    with pytest.raises(InputError, match="margin of gender"):
        check_calibration(path, wider)
    check_calibration(path, ATTRIBUTES)
    stricter = AttributeSet.model_validate(
        ATTRIBUTES.model_dump() | {"presence": {"threshold": 0.9, "labels": {"person": ["p"], "no_person": ["n"]}}}
    )
    with pytest.raises(InputError, match=r"presence threshold \(None there, 0\.9 here\)"):
        check_calibration(path, stricter)
    bound = '{"format": 1, "attributes": {}, "binding": %s}'
    for text in (
        "{",
        "{}",
        '{"format": 7}',
        bound % "{}",
        bound % '{"kind": "published"}',
        bound % '{"kind": "exact"}',
    ):
        path.write_text(text)
        with pytest.raises(InputError, match="not a calibration"):
            load_calibration(path, identity, ATTRIBUTES)
    with pytest.raises(InputError, match="no such file"):
        load_calibration(tmp_path / "none.json", identity, ATTRIBUTES)


def test_corrected_figures_appear_and_undo_the_error(labelled_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(light_calibration(labelled_csv)))
    calibration = load_calibration(path, LightClassifier(ATTRIBUTES).identity(), ATTRIBUTES)
    # a world in which every prompt is all women or all men, read through this classifier (5 of 30 wrong)
    wrong = np.random.default_rng(0).random((60, 12)) < 5 / 30
    prompts = {f"p{i}": [("woman", "man")[(i + int(w)) % 2] for w in row] for i, row in enumerate(wrong)}
    run = build(tmp_path, prompts)
    plain = metrics_of(run)
    assert plain["summary"]["unanimity_corrected"] is None
    corrected = metrics_of(run, calibration=calibration)["summary"]["unanimity_corrected"]
    assert plain["summary"]["unanimity_all_images"]["high"] < 1.0
    assert corrected["low"] < 1.0 == corrected["high"]
    assert corrected["value"] > 0.85
    assert any("race" in w and "not corrected" in w for w in metrics_of(run, calibration=calibration)["warnings"])


def test_ambiguous_images_that_the_calibration_never_saw_are_named(labelled_csv: Path, tmp_path: Path) -> None:
    data = light_calibration(labelled_csv)
    data["attributes"]["gender"]["confusion"]["man"] = {"woman": 5, "man": 25}
    calibration = Calibration(data)

    def warnings(name: str, last: str) -> list[str]:
        run = build(tmp_path / name, {f"p{i}": ["woman", "man", "woman", "man", last] for i in range(12)})
        return [w for w in metrics_of(run, calibration=calibration)["warnings"] if "ambiguous in gender" in w]

    assert warnings("clear", "man") == []
    (warning,) = warnings("unclear", "ambiguous")
    assert "12 images of this run are ambiguous" in warning and "add up to less than 100%" in warning


BUNDLED = REPOSITORY / "configs" / "calibrations" / "clip-vit-b-16-openai-fairface.json"
VIT_B_16 = {"backend": "clip", "encoder": {"architecture": "ViT-B-16", "pretrained": "openai"}}


def perceived(margin: float) -> AttributeSet:
    """The bundled questions with another margin for gender."""
    data = load_attributes("configs/attributes/perceived.yaml").model_dump()
    data["attributes"]["gender"]["margin"] = margin
    return AttributeSet.model_validate(data)


def test_the_bundled_fairface_counts() -> None:
    # race and age have margins, and no rates here: theirs play no part
    entry = load_calibration(BUNDLED, VIT_B_16, perceived(0.0)).data["attributes"]["gender"]
    assert entry["images"] == 10_954
    assert entry["accuracy"]["value"] == pytest.approx(0.954, abs=5e-4)
    assert entry["groups"]["race"]["Black"]["accuracy"]["value"] == pytest.approx(0.911, abs=5e-4)
    assert entry["groups"]["race"]["Middle Eastern"]["accuracy"]["value"] == pytest.approx(0.978, abs=5e-4)


@pytest.mark.parametrize(
    ("classifier", "found"),
    [
        (VIT_B_16 | {"encoder": {"architecture": "ViT-L-14", "pretrained": "openai"}}, "is ViT-L-14 / openai with the backend 'clip'"),
        (VIT_B_16 | {"encoder": {"architecture": "clip", "pretrained": None}}, "weights from the folder or file 'clip', so nothing"),
        (VIT_B_16 | {"backend": "linear-probe"}, "is ViT-B-16 / openai with the backend 'linear-probe'"),
        ({"backend": "face"}, "has the backend 'face', which is no zero-shot CLIP"),
    ],
)  # fmt: skip
def test_published_counts_are_those_of_one_zero_shot_encoder(classifier: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match="published counts of ViT-B-16 / openai, zero-shot") as error:
        load_calibration(BUNDLED, classifier, perceived(0.0))
    assert found in str(error.value)
    assert "classifier.model=ViT-B-16 and classifier.pretrained=openai" in str(error.value)


def test_published_rates_without_abstention_do_not_fit_a_run_with_a_margin(tmp_path: Path) -> None:
    """One image in five is ambiguous. To rates without abstention such an image is of no label: shares add up to 0.8."""
    run = build(tmp_path, {f"p{i}": ["woman", "man", "woman", "man", "ambiguous"] for i in range(12)})
    unfit = Calibration(json.loads(BUNDLED.read_text()))
    shares = metrics_of(run, calibration=unfit)["attributes"]["gender"]["share_corrected"]
    assert sum(share["value"] for share in shares.values()) == pytest.approx(0.8)

    attributes = perceived(0.2)
    config = RunConfig.model_validate({"classifier": {"backend": "clip", "model": "ViT-B-16", "pretrained": "openai"}})
    start_run(run, config, attributes, kind="rescore")
    run.update_header(classifier=VIT_B_16)
    run.commit_stage("scores", "f", seconds=0)
    with pytest.raises(InputError, match=r"gender were taken with the margin 0 .* this run's margin is 0\.2"):
        report_module.report_again(run, BUNDLED)
    # a copy from before the margin stood in the file
    older = json.loads(BUNDLED.read_text())
    del older["binding"]["margins"]
    (tmp_path / "older.json").write_text(json.dumps(older))
    with pytest.raises(InputError, match="taken with the margin 0"):
        report_module.report_again(run, tmp_path / "older.json")
    with pytest.raises(InputError, match="taken with the margin 0"):
        check_calibration(BUNDLED, attributes)
    check_calibration(BUNDLED, perceived(0.0))
    check_calibration(None, attributes)


def test_relabelling_as_the_refusal_says_mends_it(
    tmp_path: Path, tiny_clip: Path, picture: Callable[..., Image.Image]
) -> None:
    for i in range(12):
        (tmp_path / "archive" / f"p{i % 3}").mkdir(parents=True, exist_ok=True)
        picture(i).save(tmp_path / "archive" / f"p{i % 3}" / f"{i}.png")
    questions = ATTRIBUTES.model_dump(mode="json", exclude_none=True)
    questions["attributes"]["gender"]["margin"] = 0.99  # near everything is ambiguous
    wide, narrow = tmp_path / "wide.yaml", tmp_path / "narrow.yaml"
    wide.write_text(json.dumps(questions))
    questions["attributes"]["gender"]["margin"] = 0.0
    narrow.write_text(json.dumps(questions))
    # as if the counts of the stand-in had been published under its name
    published = json.loads(BUNDLED.read_text())
    published["binding"] |= {"architecture": tiny_clip.name, "pretrained": None}
    file = tmp_path / "published.json"
    file.write_text(json.dumps(published))

    def call(*words: object) -> Any:
        return CliRunner().invoke(app, [str(word) for word in words])

    run = tmp_path / "run"
    options = ["--set", f"classifier.pretrained={tiny_clip}", "--set", f"attributes.file={wide}", "--run", run]
    rescore = ["rescore", tmp_path / "archive", "--config", REPOSITORY / "configs" / "rescore.yaml", *options]
    for ranks in ([], ["--rank", 0, "--world-size", 1]):
        early = call(*rescore, *ranks, "--calibration", file)
        assert early.exit_code == 2
        assert "this run's margin is 0.99" in " ".join(early.output.split())
        assert not run.exists()
    scored = call(*rescore)
    assert scored.exit_code == 0, scored.output
    refused = call("report", run, "--calibration", file)
    assert refused.exit_code == 2
    assert f"`allfour relabel RUN --attributes COPY --calibration {file}`" in " ".join(refused.output.split())

    assert call("relabel", run, "--attributes", wide, "--calibration", file).exit_code == 2
    assert not (tmp_path / "run-relabelled").exists()
    mended = call("relabel", run, "--attributes", narrow, "--calibration", file, "--json")
    assert mended.exit_code == 0, mended.output
    metrics = json.loads((tmp_path / "run-relabelled" / "metrics.json").read_text())
    assert metrics["accounting"]["ambiguous"] == 0
    shares = metrics["attributes"]["gender"]["share_corrected"]
    assert sum(share["value"] for share in shares.values()) == pytest.approx(1.0)
    assert metrics["calibration"]["binding"] == "published"

    # it is kept in the run: a later report corrects as before, without being told
    out = tmp_path / "run-relabelled"
    again = call("report", out)
    assert again.exit_code == 0, again.output
    again = json.loads((out / "metrics.json").read_text())
    assert again["attributes"]["gender"]["share_corrected"] == shares
    assert again["summary"]["unanimity_corrected"] == metrics["summary"]["unanimity_corrected"]
    # one that does not fit any more is left out, and said; without the file nothing is corrected
    kept = json.loads((out / "calibration.json").read_text())
    kept["binding"]["architecture"] = "another"
    (out / "calibration.json").write_text(json.dumps(sealed(kept)))
    again = call("report", out)
    assert again.exit_code == 0, again.output
    unfit = json.loads((out / "metrics.json").read_text())
    assert unfit["calibration"] is None
    assert UNFIT in [note["code"] for note in unfit["notes"]]
    (out / "calibration.json").unlink()
    again = call("report", out)
    assert again.exit_code == 0, again.output
    plain = json.loads((out / "metrics.json").read_text())
    assert plain["calibration"] is None
    assert UNFIT not in [note["code"] for note in plain["notes"]]


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"format": 1, "binding": {}}', '{"format": 1, "binding": NaN}'])
def test_what_is_no_calibration_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=r"c\.json: not a calibration of format 1 \(.*\)\. Make one with") as refused:
        check_calibration(tmp_path / "c.json", ATTRIBUTES)
    assert "Error(" not in str(refused.value)


def test_a_probe_belongs_to_its_encoder(tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(
        labels={"gender": ("woman", "man")},
        weights={"gender": np.zeros((2, 32), np.float32)},
        biases={"gender": np.zeros(2, np.float32)},
        encoder={"architecture": "x", "weights_sha256": "0" * 64},
    )
    monkeypatch.chdir(tmp_path)
    probe.save(tmp_path / "p.safetensors")
    options: dict[str, Any] = {"model": None, "pretrained": str(tiny_clip)}
    with pytest.raises(ClassifierError, match="fitted on embeddings of x with other weights"):
        LinearProbeClassifier(attributes=ATTRIBUTES, probe="p.safetensors", **options)
    with pytest.raises(ClassifierError, match="no such file"):
        LinearProbeClassifier(attributes=ATTRIBUTES, probe="none.safetensors", **options)
    (tmp_path / "bad.safetensors").write_bytes(b"xx")
    with pytest.raises(ClassifierError, match="not a fitted probe"):
        LinearProbeClassifier(attributes=ATTRIBUTES, probe="bad.safetensors", **options)


def test_a_result_that_could_not_be_written_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for out in (tmp_path / "file" / "c.json", tmp_path / "folder"):
        done = CliRunner().invoke(app, ["calibrate", str(tmp_path / "none.csv"), "--out", str(out)])
        assert done.exit_code == 2
        assert "cannot be written there. Name another file" in " ".join(done.output.split())
