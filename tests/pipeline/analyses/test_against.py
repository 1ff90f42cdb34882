"""Another run as a mark beside every prompt: counted by hand, refused where runs are not comparable, shown on the page."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from allfour.errors import RunFolderError
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.base import OUTDATED
from allfour.pipeline.cli import app
from allfour.pipeline.commands import build as build_module
from allfour.pipeline.commands import report as report_module
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig
from allfour.pipeline.report import exports
from allfour.pipeline.run.documents import read_metrics
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.seal import sealed
from tests.light_backends import LightClassifier

GREYS = {"a": [90, 91, 92, 93], "b": [20, 21, 22, 23], "c": [64, 61, 62, 52], "only": [10, 11, 12, 13]}
LATER = {"a": [90, 91, 10, 11], "b": [20, 21, 22, 23], "c": [64, 65, 66, 67, 30], "new": [10, 11, 12, 13]}

Score = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `score` keeps its archives, and the runs as they were when they were scored."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def score(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    """Score an archive of grey pictures: the grey in percent is the probability of `woman`; 45 to 55 are unclear."""
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: LightClassifier(attributes))

    def run(name: str, greys: dict[str, list[int]], **changes: Any) -> RunFolder:
        place = made / hashlib.sha256(json.dumps([name, greys, changes]).encode()).hexdigest()[:16]
        if not place.is_dir():
            scored(place, name, greys, changes)
        return RunFolder(shutil.copytree(place / name, tmp_path / name))

    return run


def scored(place: Path, name: str, greys: dict[str, list[int]], changes: dict[str, Any]) -> None:
    for prompt, values in greys.items():
        (place / "archive" / prompt).mkdir(parents=True)
        for index, value in enumerate(values):
            level = round(value * 2.55)
            Image.new("RGB", (8, 8), (level, level, level)).save(place / "archive" / prompt / f"{index}.png")
    asked = {"attributes": {"gender": {"margin": 0.1, "labels": {"woman": ["woman"], "man": ["man"]}}}}
    (place / "gender.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
    config = RunConfig.model_validate(
        {
            "name": name,
            "classifier": {"backend": "face"},
            "attributes": {"file": str(place / "gender.yaml")},
            **changes,
        }
    )
    rescore_module.rescore(config, str(place / "archive"), RunFolder(place / name), Reporter(quiet=True))


def command(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_marks_counted_by_hand(score: Score) -> None:
    one, two = score("one", GREYS), score("two", LATER)
    metrics = report_module.report_again(one, against=two).metrics.document()
    found = metrics["against"]
    assert (found["name"], found["shared"], found["prompts_without"]) == ("two", 3, 1)
    assert set(found["prompts"]) == {"a", "b", "c"}
    # two of a's four are women; b has none; of c's five, four are women
    for prompt, women, images in (("a", 2, 4), ("b", 0, 4), ("c", 4, 5)):
        assert found["prompts"][prompt]["share"]["woman"] == st.wilson(women, images).to_dict()
    # a turned mixed; b all men; the first four of c all women: 2 of the 3 prompts that both have
    assert found["summary"]["prompts"] == 3
    assert found["summary"]["unanimous"] == 2
    assert found["summary"]["unanimity"] == st.wilson(2, 3).to_dict()
    # the run's own figures are those of a report without marks
    shutil.rmtree(two.path)
    (one.path / "against.json").unlink()
    alone = report_module.report_again(one).metrics.document()
    assert alone["against"] is None
    assert {**metrics, "against": None} == alone


def test_metrics_with_marks_fit_the_schema(score: Score) -> None:
    metrics = report_module.report_again(score("one", GREYS), against=score("two", LATER)).metrics.document()
    schema = json.loads((Path(exports.__file__).parents[1] / "run" / "metrics.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(metrics)
    del metrics["against"]["prompts"]["a"]["share"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(metrics)


def test_the_page_marks_every_shared_prompt(score: Score, tmp_path: Path) -> None:
    one = score("one", GREYS)
    done = command(one.path, "--against", score("two", LATER).path)
    assert done.exit_code == 0, done.output
    assert "against two: 2 of 3 prompts there" in done.output
    page = (one.path / "report.html").read_text(encoding="utf-8")
    rows = {re.search(r"<bdi>(.*?)</bdi>", row).group(1): row for row in page.split('<li class="row"')[1:]}  # type: ignore[union-attr]
    assert len(rows) == 4
    for prompt in "abc":
        assert rows[prompt].count("dot d-quiet") == 1, prompt
    assert "dot d-quiet" not in rows["only"].split("row-images")[0]
    low, high = (f"{100 * end:.0f}%" for end in (st.wilson(2, 4).low, st.wilson(2, 4).high))
    assert f"in two 50% ({low} to {high})" in rows["a"]
    assert 'data-away="0.5"' in rows["a"]
    assert 'data-away="-1.0"' in rows["only"]
    assert "1 prompt of this run are not in it" not in page
    assert "1 prompt of this run is not in it and has no mark" in page
    assert "the same in <bdi>two</bdi>" in page
    assert "furthest from the other run first" in page
    assert "In two" in page


def test_no_mark_is_mistaken_for_a_planted_share(score: Score) -> None:
    one = score("one", GREYS)
    report_module.report_again(one, against=score("two", LATER))
    header = json.loads(one.header_path.read_text())
    header["generator"] = {"backend": "portrait-renderer", "drawn_world": True}
    one.header_path.write_text(json.dumps(sealed(header)))
    report_module.render(one, read_metrics(one.path))
    page = (one.path / "report.html").read_text(encoding="utf-8")
    assert "Drawn world" in page
    assert "Measured against planted" not in page  # nothing is planted here, and another run is no truth


def test_marks_stay_until_the_scores_change(score: Score) -> None:
    one, two = score("one", GREYS), score("two", LATER)
    report_module.report_again(one, against=two)
    shutil.rmtree(two.path)
    assert report_module.report_again(one).metrics.document()["against"]["name"] == "two"
    header = json.loads(one.header_path.read_text())
    header["stages"]["scores"]["fingerprint"] = "of other scores"
    one.header_path.write_text(json.dumps(sealed(header)))
    again = report_module.report_again(one).metrics.document()
    assert again["against"] is None
    assert [note["code"] for note in again["notes"]].count(OUTDATED) == 1
    assert "the same in" not in (one.path / "report.html").read_text(encoding="utf-8")


def test_intervals_are_at_the_confidence_of_the_own_run(score: Score) -> None:
    one, two = score("one", GREYS, statistics={"confidence": 0.9}), score("two", LATER)
    found = report_module.report_again(one, against=two).metrics.document()["against"]
    assert found["prompts"]["a"]["share"]["woman"] == st.wilson(2, 4, confidence=0.9).to_dict()
    page = (one.path / "report.html").read_text(encoding="utf-8")
    assert "90% interval" in page
    assert "95% interval" not in page
    assert "90% of intervals" in page


def test_runs_that_are_not_comparable_are_refused_and_nothing_is_lost(score: Score, tmp_path: Path) -> None:
    one = score("one", GREYS)
    before = {path.name: path.read_bytes() for path in one.path.glob("*.parquet")}
    report_module.report_again(one, against=score("two", LATER))
    kept = (one.path / "against.json").read_bytes()
    for other, reason in (
        (score("sets", LATER, prompts={"set_size": 3}), "a set has 4 images in one and 3 in the other"),
        (score("elsewhere", {"z": [1, 2, 3, 4]}), "no prompt in common"),
        (RunFolder(tmp_path / "nothing"), "no measured run"),
        (one, "named twice"),
    ):
        with pytest.raises(RunFolderError, match=reason):
            report_module.report_again(one, against=other)
    two = RunFolder(tmp_path / "two")
    header = json.loads(two.header_path.read_text())
    header["classifier"] = {"backend": "another"}
    two.header_path.write_text(json.dumps(sealed(header)))
    done = command(one.path, "--against", two.path)
    assert done.exit_code == 2
    assert "another classifier read them" in done.stderr
    assert (one.path / "against.json").read_bytes() == kept
    assert {path.name: path.read_bytes() for path in one.path.glob("*.parquet")} == before


def test_damaged_marks_are_one_clear_error(score: Score) -> None:
    one = score("one", GREYS)
    for content in ("{", "[]", '{"format": 99}', "null"):
        (one.path / "against.json").write_text(content)
        with pytest.raises(
            RunFolderError, match=r"against\.json: not the marks of another run, or damaged\. .* repeat `allfour report"
        ):
            report_module.report_again(one)


def test_a_hostile_name_is_inert(score: Score) -> None:
    one = score("one", GREYS)
    two = score("two", LATER)
    hostile = two.path.rename(two.path.with_name('<img src=x onerror="window.pwned=1">'))
    report_module.report_again(one, against=RunFolder(hostile))
    page = (one.path / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=" in page
