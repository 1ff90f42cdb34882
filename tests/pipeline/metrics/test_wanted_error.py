"""`max_error` takes its margin from a calibration that was made for it, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from allfour.errors import ConfigError, InputError
from allfour.models.attributes import AttributeSet
from allfour.pipeline.commands import calibrate as calibrate_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig, load_attributes
from allfour.pipeline.metrics.calibration import load_calibration
from allfour.pipeline.metrics.wanted_error import with_margins
from tests.light_backends import LightClassifier

QUIET = Reporter(quiet=True)


def labelled(folder: Path) -> Path:
    """240 grey levels; the light classifier reads the red as `woman`, and errs in half of those near the middle."""
    for number, level in enumerate(np.linspace(0, 255, 240).round().astype(int)):
        near = abs(level - 127.5) < 20
        truth = ("man", "woman")[number % 2] if near else ("woman" if level > 127 else "man")
        path = folder / truth / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (int(level), 0, 0)).save(path)
    return folder


def asking(path: Path, error: float, **more: float) -> RunConfig:
    spec = {"max_error": error, "labels": {"woman": ["w"], "man": ["m"]}, **more}
    path.write_text(yaml.safe_dump({"attributes": {"gender": spec}}))
    return RunConfig.model_validate({"classifier": {"backend": "face"}, "attributes": {"file": str(path)}})


def test_the_margin_is_found_written_down_and_taken_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate_module.build, "build_classifier", lambda config, attributes: LightClassifier(attributes))  # fmt: skip
    config = asking(tmp_path / "asked.yaml", 0.05)
    file = tmp_path / "calibration.json"
    found = calibrate_module.run_calibration(config, labelled(tmp_path / "set"), file, None, QUIET)
    chosen = found["attributes"]["gender"]["max_error"]
    assert chosen["error"]["high"] <= 0.05 and 0 < chosen["margin"] < 0.2
    assert chosen["labelled"] > 0.8
    # the error rates are those of that margin
    unclear = [row["ambiguous"] for row in found["attributes"]["gender"]["confusion"].values()]
    assert sum(unclear) == 240 - chosen["images"]

    wanted = load_attributes(config.attributes.file)
    resolved = with_margins(wanted, file, tmp_path)
    assert resolved.attributes["gender"].margin == chosen["margin"]
    assert with_margins(wanted, None, tmp_path) == resolved  # the one kept in the run folder
    assert load_calibration(file, LightClassifier(resolved).identity(), resolved)
    with pytest.raises(InputError, match="margin of gender"):
        load_calibration(file, LightClassifier(wanted).identity(), wanted)

    with pytest.raises(InputError, match="not shown at any margin"):
        calibrate_module.run_calibration(asking(tmp_path / "b.yaml", 0.005), tmp_path / "set", tmp_path / "b.json", None, QUIET)  # fmt: skip
    assert not (tmp_path / "b.json").exists()


def test_without_a_calibration_for_it_there_is_one_error_that_says_what_to_do(tmp_path: Path) -> None:
    attributes = load_attributes(asking(tmp_path / "a.yaml", 0.05).attributes.file)
    with pytest.raises(ConfigError, match="allfour calibrate LABELLED"):
        with_margins(attributes, None, tmp_path)
    other = {"format": 1, "binding": {"kind": "exact", "classifier": {}, "margins": {"gender": 0.1}}, "attributes": {}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="made with no max_error of gender"):
        with_margins(attributes, tmp_path / "other.json", tmp_path)
    with pytest.raises(ConfigError, match="give one"):
        load_attributes(asking(tmp_path / "c.yaml", 0.05, margin=0.1).attributes.file)
    plain = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"woman": ["w"], "man": ["m"]}}}})
    assert with_margins(plain, None, tmp_path) is plain
