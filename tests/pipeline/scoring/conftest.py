"""Runs in half precision, on whatever processor: pictures, and a config that asks for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers._clip import encoder as encoder_module
from allfour.models.classifiers.base import TWICE
from allfour.models.classifiers.clip import ClipClassifier
from allfour.pipeline.commands import build
from allfour.pipeline.commands import relabel as relabel_module
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig, load_attributes
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.scoring import precision
from scripts.sandbox import world
from tests.pipeline.scoring.halves import IMAGES, SANDBOX, SHARD, in_precision
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


@pytest.fixture(scope="session")
def _half_config(drawn_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
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


@pytest.fixture(scope="module")
def half_config(half_on_few: None, _half_config: RunConfig) -> RunConfig:
    """A margin that lies amid the images' leads, so that some are in doubt."""
    return _half_config


@pytest.fixture(scope="session")
def full(_half_config: RunConfig, drawn_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run of that config in float32."""
    run = RunFolder(tmp_path_factory.mktemp("full") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rescore_module, "finish_run", lambda job, work: None)
        rescore_module.rescore(in_precision(_half_config, "float32"), str(drawn_archive), run, Reporter(quiet=True))
    return run


@pytest.fixture(scope="module")
def loaded_once() -> Iterator[None]:
    """A classifier is loaded once for every precision and wording, and begins as if just loaded."""
    build_anew, loaded = build.build_classifier, dict[tuple[str, str], ClipClassifier]()

    def built(config: RunConfig, attributes: AttributeSet, *, half: bool = False) -> ClipClassifier:
        asked = config.classifier.model_dump()["dtype"], attributes.model_dump_json()
        if asked not in loaded:
            clip = build_anew(config, attributes)
            assert isinstance(clip, ClipClassifier)
            loaded[asked] = clip
        if loaded[asked].precision_open:
            loaded[asked].settle(half=half)
        return loaded[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build_classifier", built)
        yield
