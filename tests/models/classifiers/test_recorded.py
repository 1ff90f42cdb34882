"""Labels made elsewhere: every kind of file, what may stand in it, and a run replayed from its own tables."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from allfour.errors import AllfourError, ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.recorded import RecordedClassifier
from allfour.pipeline.analyses.review.sample import read_plan
from allfour.pipeline.commands import rescore as rescoring
from allfour.pipeline.commands.calibrate import run_calibration
from allfour.pipeline.commands.compare import run_comparison
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.report import report_again
from allfour.pipeline.commands.review import import_review
from allfour.pipeline.commands.review_draw import draw
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.folder import RunFolder

SHA = hashlib.sha256(b"picture").hexdigest()
GENDER = AttributeSet.model_validate(
    {"attributes": {"gender": {"margin": 0.2, "labels": {"woman": ["w"], "man": ["m"]}}}}
)
BOTH = AttributeSet.model_validate(
    {
        "attributes": {
            "gender": {"labels": {"woman": ["w"], "man": ["m"]}},
            "age": {"labels": {"young": ["y"], "old": ["o"]}},
        }
    }
)


def recorded(path: Path, text: str, attributes: AttributeSet = GENDER) -> RecordedClassifier:
    path.write_text(text, encoding="utf-8")
    return RecordedClassifier(attributes=attributes, file=path)


def seen(classifier: RecordedClassifier, path: str, sha256: str = "0" * 64) -> Any:
    found = classifier.find(sha256=sha256, path=path)
    return None if found is None else [dict(person.probabilities) for person in found]


def test_rows_are_found_by_hash_or_by_the_end_of_a_path(tmp_path: Path) -> None:
    classifier = recorded(
        tmp_path / "r.csv",
        f"sha256,path,gender\n{SHA.upper()},,woman\n,nurse/0.png,man\n,0.png,woman\n,./a/b.png,man\n",
    )
    woman, man = {"gender": {"woman": 1.0, "man": 0.0}}, {"gender": {"woman": 0.0, "man": 1.0}}
    assert seen(classifier, "anything", SHA) == [woman]
    assert seen(classifier, "/moved/nurse/0.png", "1" * 64) == [man]  # the longest end decides
    assert seen(classifier, "doctor/0.png", "2" * 64) == [woman]
    assert seen(classifier, "a\\b.png", "3" * 64) == [man]
    assert seen(classifier, "doctor/1.png") is None
    with pytest.raises(ClassifierError, match=r"line 4: path 0\.png fits the paths of several different images"):
        classifier.find(sha256="4" * 64, path="pilot/0.png")
    assert seen(classifier, "doctor/0.png", "2" * 64) == [woman]


def test_lines_that_end_in_bare_returns(tmp_path: Path) -> None:
    classifier = recorded(tmp_path / "r.csv", "path,gender\r0.png,woman\r1.png,man\r")
    assert seen(classifier, "1.png", SHA) == [{"gender": {"woman": 0.0, "man": 1.0}}]


def test_probabilities_persons_boxes_and_silence(tmp_path: Path) -> None:
    text = (
        "path,person,box,gender:woman,gender:man,age,note\n"
        'a.png,1,"[30, 0, 50, 20]",0.25,0.75,old,x\n'
        "a.png,0,1 2 3.6 4,,,,y\n"
        "b.png,,,0.333,0.66,ambiguous,z\n"
    )
    classifier = recorded(tmp_path / "r.csv", text, BOTH)
    first, second = classifier.find(sha256=SHA, path="a.png") or []
    assert first.probabilities == {}
    assert first.box == (1, 2, 4, 4)
    assert second.probabilities == {"gender": {"woman": 0.25, "man": 0.75}, "age": {"young": 0.0, "old": 1.0}}
    assert second.box == (30, 0, 50, 20)
    ((answer,),) = (seen(classifier, "b.png"),)
    assert answer["gender"]["woman"] == pytest.approx(0.333 / 0.993)
    assert "age" not in answer


def test_nobody_is_an_answer(tmp_path: Path) -> None:
    assert seen(recorded(tmp_path / "r.csv", "file,gender\nx.png,no_person\ny.png,man\n"), "x.png") == []


def test_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    lines = [
        {"path": "a.png", "people": [{"gender": {"woman": 0.5, "man": 0.5}, "box": [0, 0, 9, 9]}, {"gender": "man"}]},
        {"path": "b.png", "gender": "woman"},
    ]
    by_lines = recorded(tmp_path / "r.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    table = pa.table(
        {
            "path": ["a.png", "a.png", "b.png"],
            "person": [0, 1, None],
            "gender": [None, None, None],
            "gender:woman": [0.5, 0.0, 1.0],
            "gender:man": [0.5, 1.0, 0.0],
        }
    )
    pq.write_table(table, tmp_path / "r.parquet")
    by_table = RecordedClassifier(attributes=GENDER, file=tmp_path / "r.parquet")
    for name in ("a.png", "b.png"):
        assert seen(by_lines, name) == seen(by_table, name)
    assert by_lines.identity() != by_table.identity()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "r.csv",
            "path,gender\na.png,Female\n",
            r"r\.csv: line 2: gender is 'Female', which is not one of its labels: woman, man",
        ),
        ("r.csv", "path,gender:female\na.png,1\n", "gender has no label 'female'"),
        ("r.csv", "path,gender:woman,gender:man\na.png,0.9,0.9\n", "sum to 1.8, not to 1"),
        ("r.csv", "path,gender:woman,gender:man\na.png,nan,1\n", "gender:woman is 'nan', not a probability"),
        ("r.csv", "path,gender:woman,gender:man\na.png,-1,2\n", "not a probability"),
        (
            "r.csv",
            "path,gender\na.png,man\na.png,man\n",
            r"line 3: this is the same image as in .*line 2.*column `person`",
        ),
        ("r.csv", "path,gender,person\na.png,man,0\na.png,man,0\n", "person 0 of the image in .* appears twice"),
        ("r.csv", "path,gender,person\na.png,man,two\n", "person is 'two'"),
        ("r.csv", "path,gender\na.png,no_person\na.png,man\n", "or that nobody is"),
        ("r.csv", "path,gender,box\na.png,man,1 2 3\n", "box is '1 2 3'"),
        ("r.csv", "gender\nman\n", "no image is named"),
        ("r.csv", "sha256,gender\nabc,man\n", "'abc' is not a sha256"),
        ("r.csv", "path,sex\na.png,man\n", "has no answers for gender"),
        ("r.csv", "path,gender\na.png\n", "as many fields as the first line"),
        ("r.csv", "path,gender\n", "holds no records"),
        ("r.jsonl", '{"path": "a.png"\n', r"r\.jsonl: line 1: not JSON"),
        ("r.jsonl", "[1]\n", "line 1: not an object"),
        ("r.txt", "path,gender\n", r"one of these kinds of file: \.csv"),
        ("r.parquet", "path,gender\n", "not a parquet file"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ClassifierError, match=message):
        recorded(tmp_path / name, text)


def test_a_run_replayed_gives_the_same_table(tmp_path: Path, tiny_clip: Path, archive: Path) -> None:
    (archive / "nurse" / "9.png").write_bytes(b"no image")
    (archive / "nurse" / "8.png").write_bytes((archive / "captain" / "0.png").read_bytes())
    attributes = "configs/attributes/perceived.yaml"

    def score(name: str, classifier: dict[str, Any]) -> RunFolder:
        config = RunConfig.model_validate({"classifier": classifier, "attributes": {"file": attributes}})
        run = RunFolder(tmp_path / name)
        rescoring.rescore(config, str(archive), run, Reporter(quiet=True))
        return run

    first = score("first", {"backend": "clip", "pretrained": str(tiny_clip)})
    again = score("again", {"backend": "recorded", "file": str(first.path)})
    assert pq.read_table(again.scores_path).equals(pq.read_table(first.scores_path))
    third = score("third", {"backend": "recorded", "file": str(again.scores_path)})
    assert pq.read_table(third.scores_path).equals(pq.read_table(first.scores_path))
    assert pq.read_table(third.images_path).drop(["path"]).equals(pq.read_table(first.images_path).drop(["path"]))


def test_an_image_without_a_record_is_unreadable_with_the_reason(tmp_path: Path, archive: Path) -> None:
    names = sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.png"))
    (tmp_path / "r.csv").write_text("path,gender\n" + "".join(f"{name},woman\n" for name in names[1:]))
    config = RunConfig.model_validate(
        {
            "classifier": {"backend": "recorded", "file": str(tmp_path / "r.csv")},
            "attributes": {"file": "configs/attributes/face.yaml"},
        }
    )
    with pytest.raises(ClassifierError, match="has no answers for age"):
        rescoring.rescore(config, str(archive), RunFolder(tmp_path / "asked"), Reporter(quiet=True))
    (tmp_path / "a.yaml").write_text(json.dumps(GENDER.model_dump(mode="json")))
    config = config.model_copy(
        update={"attributes": config.attributes.model_copy(update={"file": str(tmp_path / "a.yaml")})}
    )
    run = RunFolder(tmp_path / "run")
    rescoring.rescore(config, str(archive), run, Reporter(quiet=True))
    images = pq.read_table(run.images_path).to_pylist()
    assert [(image["status"], image["error"]) for image in images if image["status"] != "generated"] == [
        ("unreadable", "r.csv has no record of it")
    ]
    decisions = [row["decision"] for row in pq.read_table(run.scores_path).to_pylist()]
    assert sorted(decisions) == ["unreadable"] + ["woman"] * 14


def test_a_copy_has_its_own_record_by_path(tmp_path: Path) -> None:
    """Images with the same bytes, recorded apart: one otherwise, one not at all."""
    images = tmp_path / "images" / "nurse"
    images.mkdir(parents=True)
    Image.new("RGB", (8, 8), (200, 120, 80)).save(images / "1.png")
    for index in (0, 2, 3):
        shutil.copy(images / "1.png", images / f"{index}.png")
    (tmp_path / "r.csv").write_text("path,gender\nnurse/1.png,woman\nnurse/2.png,man\nnurse/3.png,woman\n")
    (tmp_path / "a.yaml").write_text(json.dumps(GENDER.model_dump(mode="json")))
    config = RunConfig.model_validate(
        {
            "classifier": {"backend": "recorded", "file": str(tmp_path / "r.csv")},
            "attributes": {"file": str(tmp_path / "a.yaml")},
        }
    )
    run = RunFolder(tmp_path / "run")
    rescoring.rescore(config, str(images.parent), run, Reporter(quiet=True))
    decisions = [row["decision"] for row in pq.read_table(run.scores_path).to_pylist()]
    assert decisions == ["unreadable", "woman", "man", "woman"]
    assert [row["error"] for row in pq.read_table(run.images_path).to_pylist()] == ["r.csv has no record of it"] + [
        None
    ] * 3


def test_persons_boxes_silence_and_nobody_are_replayed_to_the_last_bit(tmp_path: Path, archive: Path) -> None:
    lines = [
        {
            "path": "nurse/0.png",
            "people": [{"gender": {"woman": 0.31, "man": 0.69}, "box": [1, 2, 30, 40]}, {"gender": "woman"}],
        },
        {"path": "nurse/1.png", "gender": "no_person"},
        {"path": "nurse/2.png", "gender": "ambiguous"},
        {"path": "nurse/3.png", "gender": {"woman": 0.55, "man": 0.45}},
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "a.yaml").write_text(json.dumps(GENDER.model_dump(mode="json")))

    def score(name: str, file: Path) -> tuple[RunFolder, Any]:
        config = RunConfig.model_validate(
            {"classifier": {"backend": "recorded", "file": str(file)}, "attributes": {"file": str(tmp_path / "a.yaml")}}
        )
        run = RunFolder(tmp_path / name)
        metrics = rescoring.rescore(config, str(archive), run, Reporter(quiet=True)).metrics.document()
        return run, {key: value for key, value in metrics.items() if key not in ("notes", "warnings")}

    first, measured = score("first", tmp_path / "r.jsonl")
    again, replayed = score("again", first.path)
    assert pq.read_table(again.scores_path).equals(pq.read_table(first.scores_path))
    assert replayed == measured
    assert measured["accounting"]["mixed"] == 1
    assert measured["accounting"]["unreadable"] == 11


def test_calibrate_review_compare_and_second_opinion_take_recorded_labels(tmp_path: Path, archive: Path) -> None:
    quiet = Reporter(quiet=True)
    (tmp_path / "a.yaml").write_text(json.dumps(GENDER.model_dump(mode="json")))
    names = sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.png"))
    labelled = tmp_path / "labelled"
    for number, name in enumerate(names):
        target = labelled / ("woman", "man")[number % 2] / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((archive / name).read_bytes())

    def config(name: str, wrong: int) -> RunConfig:
        rows = [
            f"{hashlib.sha256((archive / path).read_bytes()).hexdigest()},{('woman', 'man')[(number + (number == wrong)) % 2]}"
            for number, path in enumerate(names)
        ]
        (tmp_path / name).write_text("\n".join(["sha256,gender", *rows]))
        return RunConfig.model_validate(
            {
                "classifier": {"backend": "recorded", "file": str(tmp_path / name), "made_by": name},
                "attributes": {"file": str(tmp_path / "a.yaml")},
            }
        )

    def score(name: str, settings: RunConfig) -> RunFolder:
        run = RunFolder(tmp_path / name)
        rescoring.rescore(settings, str(archive), run, quiet)
        return run

    one, other = config("one.csv", wrong=3), config("other.csv", wrong=8)
    found = run_calibration(one, labelled, tmp_path / "calibration.json", None, quiet)
    accuracy = found["attributes"]["gender"]["accuracy"]
    assert accuracy["value"] == 14 / 15
    first, second = score("first", one), score("second", other)
    metrics = report_again(first, tmp_path / "calibration.json", second_opinions=[second]).metrics
    assert metrics.calibration is not None
    assert metrics.second_opinion is not None
    assert metrics.second_opinion.agreement.value == 13 / 15
    with pytest.raises(AllfourError):
        report_again(second, tmp_path / "calibration.json")  # of other records

    with pytest.raises(AllfourError, match="classifier"):
        run_comparison([first.path, second.path], out=tmp_path / "c.html")
    assert run_comparison([first.path, score("third", one).path], out=tmp_path / "c.html").comparison["summary"]

    drawn = draw(first, sample=15)
    plan = read_plan(first, drawn.id)
    assert plan is not None
    place = {(Path(name).parts[0], int(Path(name).stem)): number for number, name in enumerate(names)}
    review_rows = [
        f"{drawn.id},Ada,{entry['image']},{('woman', 'man')[place[entry['prompt_id'], entry['index']] % 2]}"
        for entry in plan["images"]
    ]
    (tmp_path / "ada.csv").write_text("\n".join(["review,rater,image,label", *review_rows]) + "\n")
    assert import_review(first, [tmp_path / "ada.csv"]).result["agreement"]["agreement"]["value"] == 14 / 15
