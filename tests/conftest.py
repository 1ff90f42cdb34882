"""Shared fixtures. Nothing here reaches beyond this machine."""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.testing
from hypothesis import HealthCheck, settings
from PIL import Image

from tests import origin

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # processes that compile side by side import torch first
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")  # plain loops: no program is compiled to try what a CPU can do
os.fsync = os.fstat  # type: ignore[assignment]  # no test cuts the power, so nothing waits for a disk; a closed descriptor stays an error

typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]  # an app is the same in every test

# the same examples every time, and no clock on them: an example may take long where a machine is busy
settings.register_profile("allfour", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("allfour")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

TINY_CLIP = {
    "model_cfg": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}


SLOW_FIRST = (
    "tests/models/generators/test_stable_diffusion_parts.py",
    "tests/attack/",
    "tests/pipeline/commands/",
    "tests/pipeline/report/",
    "tests/models/classifiers/",
    "tests/models/generators/",
    "tests/pipeline/analyses/",
    "tests/pipeline/metrics/",
    "tests/pipeline/scoring/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Workers of pytest-xdist are forked from one process that has imported everything."""
    origin.prepare(config, specs)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: two processes then end at about the same time."""
    items.sort(
        key=lambda item: next((n for n, at in enumerate(SLOW_FIRST) if item.nodeid.startswith(at)), len(SLOW_FIRST))
    )


def pytest_collection_finish() -> None:
    """What was imported stays: no search for garbage goes through it again, and those that are left come seldom."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    atexit.register(gc.unfreeze)  # a package may look at the end whether all of it was taken down


def shared_data(name: str) -> Path:
    """A folder of ../shared/data, or a skip with the reason."""
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the data folder shared/data/{name} beside the repository")
    return folder


def write_tiny_clip(folder: Path) -> Path:
    """Write what the fixture `tiny_clip` gives."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    (folder / "open_clip_config.json").write_text(json.dumps(TINY_CLIP))
    torch.manual_seed(0)
    model = open_clip.model.CLIP(
        **{k: v for k, v in TINY_CLIP["model_cfg"].items() if k not in ("vision_cfg", "text_cfg")},
        vision_cfg=open_clip.CLIPVisionCfg(**TINY_CLIP["model_cfg"]["vision_cfg"]),
        text_cfg=open_clip.CLIPTextCfg(**TINY_CLIP["model_cfg"]["text_cfg"]),
    )
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in open_clip's own format with small seeded weights: it knows nothing, and its arithmetic is CLIP's."""
    return write_tiny_clip(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches for a network fails the test: so nothing is waited for either."""
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: pytest.fail(f"connects to {address}"))


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """Seeded pictures with structure, all different."""

    def make(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
        random = np.random.default_rng(seed)
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        return coarse.resize(size, Image.Resampling.BICUBIC)

    return make


@pytest.fixture
def archive(tmp_path: Path, picture: Callable[..., Image.Image]) -> Path:
    """Three prompts of five PNG images each."""
    root = tmp_path / "archive"
    for number, prompt in enumerate(("nurse", "captain", "maestro")):
        (root / prompt).mkdir(parents=True)
        for index in range(5):
            picture(10 * number + index).save(root / prompt / f"{index}.png")
    return root
