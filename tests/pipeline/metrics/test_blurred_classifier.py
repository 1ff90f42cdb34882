"""A planted unanimity through a classifier that sees badly: the plain interval misses it, the corrected one holds it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from allfour.models.generators.base import Generated, GenerationRequest, image_seed
from allfour.models.generators.portrait_renderer import PortraitRenderer
from allfour.pipeline.commands.audit import audit
from allfour.pipeline.commands.calibrate import run_calibration
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig, load_config
from allfour.pipeline.run.folder import RunFolder
from tests.places import REPOSITORY

QUIET = Reporter(quiet=True)
SANDBOX_CLIP = REPOSITORY / "models/sandbox/clip"
LEANING_TO_WOMAN, LEANING_TO_MAN = 18, 6
LEAN = 0.97
PLANTED = LEAN**4 + (1 - LEAN) ** 4
"""Chance that four images of one prompt show one presentation; the same for every prompt of this world."""
TEXT = "a photo of a person"
"""No occupation: every prompt is drawn alike, so that one calibration describes them all (docs/limits.md)."""


def blurred_clip(folder: Path) -> Path:
    """The sandbox CLIP with its first convolution averaged over the kernel: a blur of its input, in its own weights."""
    shutil.copytree(SANDBOX_CLIP, folder)
    file = folder / "open_clip_model.safetensors"
    weights = load_file(file)
    kernel = weights["visual.conv1.weight"]
    mean = kernel.float().mean((2, 3), keepdim=True)
    weights["visual.conv1.weight"] = mean.expand(kernel.shape).to(kernel.dtype).contiguous()
    save_file(weights, file)
    return folder


def labelled_renders(folder: Path, *, images: int, seed: int) -> Path:
    """A folder per drawn presentation, of people as the audit's prompts draw them, about half of each."""
    requests = (GenerationRequest("calibration", i, TEXT, image_seed(seed, "calibration", i)) for i in range(images))
    for outcome in PortraitRenderer(planted={"prompts": {}}).generate(requests):
        assert isinstance(outcome, Generated) and outcome.truth is not None
        path = folder / outcome.truth["gender"] / f"{outcome.request.index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(outcome.data)
    return folder


def planted_config(folder: Path, *, clip: Path, seed: int) -> RunConfig:
    """An audit of the renderer in which every prompt leans as planted; JSON is YAML too."""
    shares = {
        f"sitter-{i}": LEAN if i < LEANING_TO_WOMAN else 1 - LEAN for i in range(LEANING_TO_WOMAN + LEANING_TO_MAN)
    }
    planted = {name: {"shares": {"gender": {"woman": share, "man": 1 - share}}} for name, share in shares.items()}
    prompts = [{"id": name, "text": f"{TEXT}, {name}"} for name in shares]
    folder.mkdir()
    (folder / "planted.yaml").write_text(json.dumps({"prompts": planted}))
    (folder / "prompts.yaml").write_text(json.dumps({"name": "sitters", "prompts": prompts}))
    settings = {
        "seed": seed,
        "prompts": {"file": str(folder / "prompts.yaml"), "images_per_prompt": 16, "set_size": 4},
        "generator": {"backend": "portrait-renderer", "planted": str(folder / "planted.yaml")},
        "classifier": {"backend": "clip", "pretrained": str(clip), "device": "cpu"},
        "attributes": {"file": "configs/attributes/sandbox.yaml"},
    }
    (folder / "config.yaml").write_text(json.dumps(settings))
    return load_config(folder / "config.yaml")


def audited(
    folder: Path, *, clip: Path, seed: int, labelled: Path | None = None, drawn: Path | None = None
) -> tuple[dict[str, Any], dict[str, int]]:
    """Audit, with a calibration of the classifier on other renders where there are any: the summary of metrics.json, and what was done.

    `drawn` is a run whose images are those that are asked for.
    """
    config = planted_config(folder, clip=clip, seed=seed)
    calibration = None
    if labelled is not None:
        calibration = folder / "calibration.json"
        run_calibration(config, labelled, calibration, None, QUIET)
    run = RunFolder(folder / "run")
    if drawn is not None:
        shutil.copytree(drawn, run.path)
    work = audit(config, run, QUIET, calibration).work
    summary: dict[str, Any] = json.loads((folder / "run" / "metrics.json").read_text())["summary"]
    return summary, dict(work)


def holds(interval: Mapping[str, float], value: float) -> bool:
    return interval["low"] <= value <= interval["high"]


@pytest.mark.slow
def test_only_the_corrected_unanimity_holds_the_planted_value_of_a_blurred_classifier(tmp_path: Path) -> None:
    sharp, work = audited(tmp_path / "sharp", clip=SANDBOX_CLIP, seed=0)
    assert work == {"generated": 384, "scored": 384}
    assert holds(sharp["unanimity_all_images"], PLANTED)

    labelled = labelled_renders(tmp_path / "labelled", images=500, seed=1)
    blurred, work = audited(
        tmp_path / "blurred", clip=blurred_clip(tmp_path / "clip"), labelled=labelled, seed=0, drawn=tmp_path / "sharp" / "run"
    )  # fmt: skip
    assert work == {"generated": 0, "scored": 384}
    assert blurred["unanimity_all_images"]["high"] < PLANTED - 0.1
    assert holds(blurred["unanimity_corrected"], PLANTED)
    # It says something: an interval that leaves out what the classifier reads, plain
    assert blurred["unanimity_corrected"]["low"] > blurred["unanimity_all_images"]["value"]
