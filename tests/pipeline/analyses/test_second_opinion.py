"""A second classifier over the same images: matched by bytes, counted by hand, refused where it is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from allfour.errors import RunFolderError
from allfour.pipeline.analyses import second_opinion
from allfour.pipeline.analyses.base import OUTDATED
from allfour.pipeline.cli import app
from allfour.pipeline.commands import build as build_module
from allfour.pipeline.commands import report as report_module
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.seal import sealed, unsealed
from tests.light_backends import LightClassifier

QUIET = Reporter(quiet=True)


class Reads(LightClassifier):
    """Mean red as the probability of `woman`, which `shift` moves; another identity for another shift."""

    def __init__(self, attributes: Any, shift: float) -> None:
        super().__init__(attributes)
        self._shift = shift

    def identity(self) -> dict[str, Any]:
        return {"backend": "light", "shift": self._shift}

    def classify(self, image: Image.Image) -> Any:
        found = super().classify(image)[0]
        p = min(max(found.probabilities["gender"]["woman"] + self._shift, 0.0), 1.0)
        return [type(found)({"gender": {"woman": p, "man": 1 - p}})]


@pytest.fixture(scope="module")
def made() -> dict[tuple[str, Path, float], Path]:
    """Runs as they were when they were scored, by name, archive and shift."""
    return {}


@pytest.fixture
def score(
    made: dict[tuple[str, Path, float], Path],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Score an archive of grey pictures: grey / 255 is the probability of `woman`."""

    def run(name: str, archive: Path, *, shift: float = 0.0) -> RunFolder:
        if (name, archive, shift) not in made:
            folder = tmp_path_factory.mktemp("made")
            asked = {"attributes": {"gender": {"margin": 0.1, "labels": {"woman": ["woman"], "man": ["man"]}}}}
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
            config = RunConfig.model_validate(
                {"name": name, "classifier": {"backend": "face"}, "attributes": {"file": str(folder / f"{name}.yaml")}}
            )
            monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: Reads(attributes, shift))
            rescore_module.rescore(config, str(archive), RunFolder(folder / name), QUIET)
            made[name, archive, shift] = folder / name
        return RunFolder(shutil.copytree(made[name, archive, shift], tmp_path / name))

    return run


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Greys in percent. The last of `b` is a copy of its first; `short` has no whole set."""
    folder = tmp_path_factory.mktemp("archive")
    greys = {"a": [90, 91, 92, 93], "b": [20, 21, 22, 20], "c": [64, 61, 62, 52], "short": [48, 80]}
    for prompt, values in greys.items():
        (folder / prompt).mkdir()
        for index, value in enumerate(values):
            level = round(value * 2.55)
            Image.new("RGB", (8, 8), (level, level, level)).save(folder / prompt / f"{index}.png")
    return folder


def written(run: RunFolder) -> dict[str, Any]:
    return dict(unsealed(json.loads((run.path / "second-opinion.json").read_text())))


def test_counts_by_hand(score: Any, archive: Path, tmp_path: Path) -> None:
    one = score("one", archive)
    # other names and another order: images are matched by their bytes
    moved = tmp_path / "moved"
    shutil.copytree(archive, moved)
    for number, folder in enumerate(sorted(moved.iterdir())):
        folder.rename(moved / f"z{9 - number}")
    two = score("two", moved, shift=-0.15)
    metrics = report_module.report_again(one, second_opinions=[two]).metrics.document()
    found = written(one)
    assert metrics["second_opinion"] == found
    # 13 different images: b's copy counts once. By the first: a 4 women; b 3 men; c 3 women and 52% unclear; short 48% unclear, a woman.
    # By the second, 15 points lower: a 4 women; b 3 men; c 49, 46, 47, 37: three unclear, a man; short a man, a woman.
    assert found["images"] == {"common": 13, "both_decided": 8, "only_first": 3, "only_second": 2, "neither": 0}
    assert found["confusion"] == {
        "decisions": ["woman", "man", "ambiguous"],
        "counts": [[5, 0, 3], [0, 3, 0], [0, 2, 0]],
    }
    assert found["agreement"]["value"] == 1
    assert found["kappa"]["value"] == 1
    assert found["kappa"]["low"] < 1
    own = found["unanimity"]
    assert (own["prompts"], own["first"]["unanimous"], own["second"]["unanimous"], own["both"]) == (3, 2, 2, 2)
    assert own["first"]["unanimity"] == metrics["summary"]["unanimity"]
    assert not found["same_encoder"]
    assert found["name"] == "two"


def test_a_set_that_the_other_run_has_not_read_whole_is_left_out(score: Any, archive: Path, tmp_path: Path) -> None:
    one = score("one", archive)
    part = tmp_path / "part"
    shutil.copytree(archive, part)
    (part / "a" / "0.png").unlink()
    report_module.report_again(one, second_opinions=[score("two", part, shift=-0.5)])
    found = written(one)
    assert found["images"]["common"] == 12
    assert found["unanimity"]["prompts"] == 2
    assert found["unanimity"]["prompts_left_out"] == 1
    # a 41 to 43, a man each; b below 0.1; c a man but for one that the first left open; short: both men, of which one was open
    assert found["confusion"]["counts"] == [[0, 7, 0], [0, 3, 0], [0, 2, 0]]
    assert found["agreement"]["value"] == 0.3


def test_it_stays_until_the_scores_change(score: Any, archive: Path) -> None:
    one, two = score("one", archive), score("two", archive, shift=-0.15)
    done = CliRunner().invoke(app, ["report", str(one.path), "--second-opinion", str(two.path)])
    assert done.exit_code == 0, done.output
    assert "two agrees on 100.0% of 8 images" in done.output
    assert "This does not show which of the two is right" in done.output
    shutil.rmtree(two.path)
    assert report_module.report_again(one).metrics.document()["second_opinion"]["name"] == "two"
    header = json.loads(one.header_path.read_text())
    header["stages"]["scores"]["fingerprint"] = "of other scores"
    one.header_path.write_text(json.dumps(sealed(header)))
    again = report_module.report_again(one).metrics.document()
    assert again["second_opinion"] is None
    assert OUTDATED in [note["code"] for note in again["notes"]]


def test_the_same_encoder_in_other_words_is_no_second_opinion(score: Any, archive: Path) -> None:
    one, two = score("one", archive), score("two", archive, shift=-0.15)
    for run in (one, two):
        header = json.loads(run.header_path.read_text())
        header["classifier"]["encoder"] = {"weights_sha256": "a" * 64}
        run.header_path.write_text(json.dumps(sealed(header)))
    done = CliRunner().invoke(app, ["report", str(one.path), "--second-opinion", str(two.path)])
    assert done.exit_code == 0, done.output
    assert written(one)["same_encoder"]
    assert "no independent second opinion: two agrees on 100.0% of 8 images" in done.output
    assert "it uses the same encoder (with other words or another head)" in done.output
    page = (one.path / "report.html").read_text()
    assert (
        "with other words or another head on the same encoder" in page
        and "this is not an independent second opinion" in page
    )


def test_a_damaged_file_is_one_plain_error(score: Any, archive: Path) -> None:
    one = score("one", archive)
    for content in ("[]", "{", '{"format": 1}'):
        (one.path / "second-opinion.json").write_text(content)
        done = CliRunner().invoke(app, ["report", str(one.path)])
        assert done.exit_code == 2
        assert "second-opinion.json: not a second opinion, or damaged. Remove it, or repeat" in done.output


def test_refusals_name_the_mend(score: Any, archive: Path, tmp_path: Path) -> None:
    one = score("one", archive)
    with pytest.raises(RunFolderError, match="same classifier in the same words"):
        second_opinion.write_second_opinion(one, one)
    with pytest.raises(RunFolderError, match="same classifier in the same words"):
        second_opinion.write_second_opinion(one, score("copy", archive))
    with pytest.raises(RunFolderError, match="no scored run"):
        second_opinion.write_second_opinion(one, RunFolder(tmp_path / "nothing"))
    other = tmp_path / "other" / "x"
    other.mkdir(parents=True)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(other / "0.png")
    with pytest.raises(RunFolderError, match=r"holds none of the images.*allfour rescore .* --config"):
        second_opinion.write_second_opinion(one, score("elsewhere", other.parent, shift=0.1))
    two = score("two", archive, shift=0.1)
    header = json.loads(two.header_path.read_text())
    labels = header["attributes"]["attributes"]["gender"].pop("labels")
    header["attributes"]["attributes"]["gender"]["labels"] = {"female": labels["woman"], "male": labels["man"]}
    two.header_path.write_text(json.dumps(sealed(header)))
    with pytest.raises(RunFolderError, match="its labels of gender are female, male"):
        second_opinion.write_second_opinion(one, two)
    header["attributes"] = {"headline": "age", "attributes": {"age": {"labels": {"young": ["y"], "old": ["o"]}}}}
    two.header_path.write_text(json.dumps(sealed(header)))
    with pytest.raises(RunFolderError, match="no readings of gender; it was asked for age"):
        second_opinion.write_second_opinion(one, two)
    assert not (one.path / "second-opinion.json").exists()
    assert pq.read_table(one.scores_path).num_rows == 14
