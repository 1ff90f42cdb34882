"""The local diffusion backend, on a tiny untrained pipeline in diffusers' own format."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from allfour.errors import BackendError
from allfour.models.generators.base import Failed, Generated, GenerationRequest, Generator, Outcome
from allfour.models.generators.stable_diffusion import StableDiffusion
from tests.tiny_diffusion import save_stable_diffusion

ROOT = Path(__file__).parents[3]
SANDBOX = ROOT / "models" / "sandbox" / "diffusion"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stable_diffusion(tmp_path_factory.mktemp("tiny") / "pipeline")


def make(folder: Path, **changes: Any) -> StableDiffusion:
    options: dict[str, Any] = {
        "model": str(folder),
        "device": "cpu",
        "steps": 2,
        "guidance_scale": 1.0,
        "batch_size": 4,
    }
    return StableDiffusion(**{**options, **changes})


REQUESTS = [
    GenerationRequest(name, k, f"a photo of a {name}", seed=1000 * len(name) + k)
    for name in ("nurse", "captain")
    for k in range(3)
]


def pixels(outcomes: list[Outcome]) -> dict[tuple[str, int], np.ndarray]:
    assert all(isinstance(o, Generated) for o in outcomes), outcomes
    return {
        o.request.key: np.asarray(Image.open(io.BytesIO(o.data)), int) for o in outcomes if isinstance(o, Generated)
    }


def test_one_outcome_per_request_across_prompts(folder: Path) -> None:
    generator = make(folder)
    assert isinstance(generator, Generator)
    seen = pixels(list(generator.generate(iter(REQUESTS))))
    assert set(seen) == {r.key for r in REQUESTS}
    assert not np.array_equal(seen["nurse", 0], seen["nurse", 1])
    assert seen["nurse", 0].shape == (16, 16, 3)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_batch_size_and_order_do_not_matter(folder: Path, guidance: float) -> None:
    one = pixels(list(make(folder, batch_size=1, guidance_scale=guidance).generate(REQUESTS)))
    many = pixels(list(make(folder, batch_size=8, guidance_scale=guidance).generate(REQUESTS[::-1])))
    for key, image in one.items():
        assert np.abs(image - many[key]).max() <= 2, key


def test_the_same_seed_gives_the_same_bytes(folder: Path) -> None:
    first, second = ([o.data for o in make(folder).generate(REQUESTS) if isinstance(o, Generated)] for _ in range(2))
    assert first == second and len(first) == len(REQUESTS)


def test_settings_reach_the_pipeline(folder: Path) -> None:
    plain = pixels(list(make(folder).generate(REQUESTS[:1])))
    for changes in ({"steps": 4}, {"guidance_scale": 9.0}, {"scheduler": "euler-ancestral"}):
        other = pixels(list(make(folder, **changes).generate(REQUESTS[:1])))
        assert not np.array_equal(plain["nurse", 0], other["nurse", 0]), changes
    tall = pixels(list(make(folder, height=32, width=16).generate(REQUESTS[:1])))
    assert tall["nurse", 0].shape == (32, 16, 3)


def test_negative_prompt_works_with_guidance(folder: Path) -> None:
    plain = pixels(list(make(folder, guidance_scale=6.0).generate(REQUESTS[:2])))
    other = pixels(list(make(folder, guidance_scale=6.0, negative_prompt="grey").generate(REQUESTS[:2])))
    assert not np.array_equal(plain["nurse", 0], other["nurse", 0])


def test_embeddings_are_computed_once_per_prompt(folder: Path) -> None:
    generator, texts = make(folder, batch_size=2), []
    generator._pipe.text_encoder.register_forward_pre_hook(lambda _, args, kwargs: texts.append(1), with_kwargs=True)
    list(generator.generate(REQUESTS))
    assert len(texts) == 2  # prompts, not images


def test_out_of_memory_halves_the_batch(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = pixels(list(make(folder, batch_size=1).generate(REQUESTS)))
    generator, sizes = make(folder, batch_size=4), []

    def small_device(_: Any, args: tuple[Any, ...]) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    generator._pipe.unet.register_forward_pre_hook(small_device)
    with caplog.at_level(logging.WARNING):
        seen = pixels(list(generator.generate(REQUESTS)))
    assert seen.keys() == plain.keys()
    assert all(np.abs(seen[key] - plain[key]).max() <= 2 for key in plain)
    assert "out of memory with 4 images at a time; continuing with 2" in caplog.text
    assert sizes == [4, 2, 2, 2, 2, 2, 2]  # three batches of two, of two steps each
    assert generator.facts()["batch_size"] == 2


def test_out_of_memory_of_a_single_image_is_a_failure_of_that_image(folder: Path) -> None:
    generator = make(folder, batch_size=4)

    def no_device(_: Any, args: tuple[Any, ...]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    generator._pipe.unet.register_forward_pre_hook(no_device)
    outcomes = list(generator.generate(REQUESTS))
    assert [o.request for o in outcomes] == REQUESTS
    assert all(isinstance(o, Failed) and o.error.startswith("OutOfMemoryError") for o in outcomes)


def test_one_bad_request_fails_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make(folder, batch_size=6)
    run = generator._run

    def picky(batch: Any, pipe: Any) -> Any:
        if any(r.key == ("captain", 1) for r in batch):
            raise ValueError("no captains\nwith details")
        return run(batch, pipe)

    monkeypatch.setattr(generator, "_run", picky)
    outcomes = list(generator.generate(REQUESTS))
    failed = [o for o in outcomes if isinstance(o, Failed)]
    assert [o.request.key for o in failed] == [("captain", 1)] and failed[0].error == "ValueError: no captains"
    assert len(outcomes) == len(REQUESTS)


def test_an_overflowing_decoder_is_a_failure(folder: Path) -> None:
    generator = make(folder)
    with torch.no_grad():
        next(generator._pipe.vae.decoder.parameters()).fill_(float("nan"))
    outcomes = list(generator.generate(REQUESTS))
    assert len(outcomes) == len(REQUESTS)
    assert all(isinstance(o, Failed) and "float32" in o.error for o in outcomes)


def test_identity_names_weights_and_settings_but_no_folder(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "pipeline"
    shutil.copytree(folder, copy)
    first, second = make(folder).identity(), make(copy).identity()
    assert first == second and json.dumps(first)
    assert str(folder) not in json.dumps(first)
    assert make(folder, steps=3).identity() != first
    (copy / "scheduler" / "scheduler_config.json").write_text(
        (copy / "scheduler" / "scheduler_config.json")
        .read_text()
        .replace('"num_train_timesteps": 1000', '"num_train_timesteps": 900')
    )
    assert make(copy).identity()["weights_sha256"] != first["weights_sha256"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "no/such/folder"}, "no such model folder"),
        ({"model": "./nothing"}, "no such model folder"),
        ({"model": "tests"}, r"model_index\.json"),
        ({"scheduler": "eulr"}, "Did you mean 'euler'"),
        ({"device": "cuda:99x", "steps": 1}, r"generator\.device"),
        ({"dtype": "float8"}, r"generator\.dtype"),
        ({"lora": {"path": "no/such.safetensors"}}, r"lora\.path"),
    ],
)
def test_what_cannot_be_had_is_one_clear_error(folder: Path, changes: dict[str, Any], message: str) -> None:
    if changes.get("device", "").startswith("cuda") and torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(BackendError, match=message):
        make(folder, **changes)


@pytest.mark.usefixtures("no_connection")
def test_a_hub_model_without_network_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allfour.models.generators._diffusion.loading.hub_answers", lambda: False)
    with pytest.raises(BackendError, match="not in the local cache"):
        StableDiffusion(model="nobody/no-such-model", device="cpu")


def test_pickled_weights_are_not_loaded(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "pickled"
    shutil.copytree(folder, copy)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(BackendError, match="safetensors"):
        make(copy)


def test_importing_settings_and_module_imports_nothing_heavy() -> None:
    """Every command reads the settings of all backends."""
    code = (
        "import sys, allfour.models.generators.stable_diffusion_settings;"
        "print([m for m in sys.modules if '_diffusion.' in m]);"
        "import allfour.models.generators.stable_diffusion; print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.split("\n")[:2] == ["[]", "[]"]


@pytest.mark.skipif(not (SANDBOX / "model_index.json").exists(), reason="the sandbox's weights are not there")
def test_the_sandbox_model_draws_what_the_prompt_says() -> None:
    generator = StableDiffusion(model=str(SANDBOX), device="cpu", steps=12, guidance_scale=1.0, batch_size=4)
    skipper, maestro = (
        GenerationRequest("x", k, f"a photo of a {w}", seed=5) for k, w in enumerate(("skipper", "maestro"))
    )
    seen = pixels(list(generator.generate([skipper, maestro])))
    assert seen["x", 0].shape == (64, 64, 3)
    # A skipper's sky is blue, a maestro's curtain is red.
    assert seen["x", 0][:12].mean((0, 1))[2] > seen["x", 0][:12].mean((0, 1))[0]
    assert seen["x", 1][:12].mean((0, 1))[0] > seen["x", 1][:12].mean((0, 1))[2]
