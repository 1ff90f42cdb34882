"""Runs in half precision, on whatever processor: pictures, and a config that asks for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from allfour.models.classifiers._clip import encoder as encoder_module
from allfour.models.classifiers.base import TWICE
from allfour.models.classifiers.clip import ClipClassifier
from allfour.pipeline.commands import relabel as relabel_module
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.config import RunConfig, load_attributes
from allfour.pipeline.scoring import precision
from scripts.sandbox import world
from tests.pipeline.scoring.halves import IMAGES, SANDBOX, SHARD
from tests.places import REPOSITORY


@pytest.fixture(scope="module")
def half_on_few() -> Iterator[None]:
    """bfloat16 whatever the processor, and measured on few images."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (rescore_module, relabel_module):
            patch.setattr(module, "finish_run", lambda job, work: None)  # reports are shown elsewhere
        patch.setattr(encoder_module, "has_bfloat16_units", lambda: True)
        patch.setattr(precision, "MEASURED", 24)
        patch.setattr(precision, "FEWEST", 48)
        patch.setattr(precision, "SAFETY", 6.0)
        yield


@pytest.fixture(scope="session")
def drawn_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    for number in range(IMAGES):
        folder = root / f"prompt {number % 3}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(world.draw(world.sample_balanced(810_000_000 + number))).save(folder / f"{number:03d}.png")
    shutil.copy(root / "prompt 0" / "000.png", root / "prompt 0" / "000 copy.png")
    return root


@pytest.fixture(scope="module")
def half_config(half_on_few: None, drawn_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A margin that lies amid the images' leads, so that some are in doubt."""
    attributes = load_attributes(REPOSITORY / "configs" / "attributes" / "sandbox.yaml")
    clip = ClipClassifier(attributes=attributes, model=None, pretrained=str(SANDBOX), device="cpu", dtype="float32")
    pixels = np.stack([clip.prepare(Image.open(path)) for path in sorted(drawn_archive.rglob("*.png"))])
    first, second = np.sort(np.log(clip.probabilities(clip.encode(pixels))["age"]), axis=1)[:, :-3:-1].T
    document = attributes.model_dump(mode="json")
    document["attributes"]["age"] |= {"margin": 0.0, "margin_logit": float(np.quantile(first - second, 0.4))}
    file = tmp_path_factory.mktemp("asked") / "attributes.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return RunConfig.model_validate(
        {
            "classifier": {
                "backend": "clip",
                "pretrained": str(SANDBOX),
                "device": "cpu",
                "dtype": TWICE,
                "people": {"detector": "none"},
            },
            "attributes": {"file": str(file)},
            "archive": {"shard_size": SHARD},
            "scoring": {"workers": 2},
        }
    )
