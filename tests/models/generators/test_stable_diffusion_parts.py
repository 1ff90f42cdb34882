"""What a tiny plain pipeline does not show: two text encoders, adapters, the safety checker, compiling, batches from memory."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from allfour.errors import BackendError
from allfour.models.generators._diffusion import compiling
from allfour.models.generators._diffusion.memory import LARGEST_BATCH, Peak, batch_that_fits
from allfour.models.generators._diffusion.readiness import check
from allfour.models.generators.base import AheadGenerator, Failed, Generated, GenerationRequest, Outcome, Refused
from allfour.models.generators.stable_diffusion import StableDiffusion
from allfour.pipeline.commands.build import build_generator
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.folder import RunFolder
from tests.tiny_diffusion import save_lora, save_sdxl, save_stable_diffusion

REQUESTS = [
    GenerationRequest(name, k, f"a photo of a {name}", seed=1000 * len(name) + k)
    for name in ("nurse", "captain")
    for k in range(4)
]
LORA = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs PEFT: pip install 'allfour[lora]'")
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stable_diffusion(tmp_path_factory.mktemp("tiny") / "pipeline", safety_checker=True)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sdxl(tmp_path_factory.mktemp("sdxl") / "pipeline")


def configured(folder: Path, **changes: Any) -> StableDiffusion:
    """The generator as a config gives it."""
    settings = {"backend": "stable-diffusion", "model": str(folder), "device": "cpu", "steps": 2, "guidance_scale": 1.0}
    config = RunConfig.model_validate({"classifier": {"backend": "face"}, "generator": {**settings, **changes}})
    generator = build_generator(config, RunFolder(folder))
    assert isinstance(generator, StableDiffusion)
    return generator


def pixels(outcomes: list[Outcome]) -> dict[tuple[str, int], np.ndarray]:
    assert all(isinstance(o, Generated) for o in outcomes), outcomes
    return {
        o.request.key: np.asarray(Image.open(io.BytesIO(o.data)), int) for o in outcomes if isinstance(o, Generated)
    }


def apart(first: dict[tuple[str, int], np.ndarray], second: dict[tuple[str, int], np.ndarray]) -> int:
    """The largest difference of a pixel."""
    assert first.keys() == second.keys()
    return max(int(np.abs(first[key] - second[key]).max()) for key in first)


# --- Stable Diffusion XL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_sdxl_draws_what_the_plain_pipeline_draws(sdxl: Path, guidance: float) -> None:
    from diffusers import StableDiffusionXLPipeline

    generator = configured(sdxl, guidance_scale=guidance, negative_prompt="grey", batch_size=3)
    assert generator.identity()["pipeline"] == "StableDiffusionXLPipeline"
    four = REQUESTS[::2]  # of both prompts, and more than a batch
    seen = pixels(list(generator.generate(four)))
    plain = StableDiffusionXLPipeline.from_pretrained(sdxl, add_watermarker=False)
    plain.set_progress_bar_config(disable=True)
    for request in four:
        expected = plain(
            request.prompt, negative_prompt="grey", num_inference_steps=2, guidance_scale=guidance,
            generator=torch.Generator().manual_seed(request.seed),
        ).images[0]  # fmt: skip
        assert np.abs(seen[request.key] - np.asarray(expected, int)).max() <= 2, request.key


def test_sdxl_images_hang_on_nothing_but_their_request(sdxl: Path) -> None:
    whole = pixels(list(configured(sdxl, guidance_scale=5.0, batch_size=8).generate(REQUESTS)))
    for batch_size, requests in (
        (1, REQUESTS),
        (3, REQUESTS[::-1]),
        (4, REQUESTS[1::2]),
    ):  # size, order, a rank's share
        part = pixels(list(configured(sdxl, guidance_scale=5.0, batch_size=batch_size).generate(requests)))
        assert apart(part, {key: whole[key] for key in part}) <= 2


def test_sdxl_encodes_a_prompt_once_in_each_encoder(sdxl: Path) -> None:
    generator, calls = configured(sdxl, batch_size=2), []
    for name in ("text_encoder", "text_encoder_2"):
        getattr(generator._pipe, name).register_forward_pre_hook(
            lambda _, args, kwargs, name=name: calls.append(name), with_kwargs=True
        )
    list(generator.generate(REQUESTS))
    assert sorted(calls) == ["text_encoder"] * 2 + ["text_encoder_2"] * 2


# --- adapters --------------------------------------------------------------------------------------------------------


@LORA
def test_an_adapter_changes_images_and_identity(folder: Path, tmp_path: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    first = save_lora(tmp_path / "a" / "one.safetensors", weights)
    second = save_lora(tmp_path / "b" / "one.safetensors", weights, seed=1)
    plain = configured(folder)
    seen = [pixels(list(plain.generate(REQUESTS)))]
    identities = [dict(plain.identity())]
    for lora in ({"path": str(first)}, {"path": str(second)}, {"path": str(first), "weight": 0.5}):
        generator = configured(folder, lora=lora)
        seen.append(pixels(list(generator.generate(REQUESTS))))
        identities.append(dict(generator.identity()))
    assert all(apart(a, b) > 2 for k, a in enumerate(seen) for b in seen[:k])
    assert all(a != b for k, a in enumerate(identities) for b in identities[:k])
    again = configured(folder, lora={"path": str(first.parent), "weight": 1.0})  # a folder of one is that file
    assert dict(again.identity()) == identities[1]
    assert apart(pixels(list(again.generate(REQUESTS))), seen[1]) == 0


@LORA
def test_an_adapter_of_another_model_is_refused(folder: Path, sdxl: Path, tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "x.safetensors", sdxl / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(BackendError, match=r"x\.safetensors does not fit this model"):
        configured(folder, lora={"path": str(lora)})


@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="PEFT is installed")
def test_an_adapter_without_its_package_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "x.safetensors", folder / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(BackendError, match=r"allfour\[lora\]"):
        configured(folder, lora={"path": str(lora)})


# --- the safety checker ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, whose checker flags some of its images and not others."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance

    images = [Image.open(io.BytesIO(o.data)) for o in configured(folder).generate(REQUESTS) if isinstance(o, Generated)]
    assert len(images) == len(REQUESTS)
    pipe = configured(folder)
    assert pipe._checker is not None
    model = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker")
    with torch.no_grad():
        seen = model.vision_model(pipe._checker._prepare(images, return_tensors="pt").pixel_values)[1]
        cosines = cosine_distance(model.visual_projection(seen), model.concept_embeds)[:, 0]
    middle = cosines.sort().values[3:5].mean()
    model.concept_embeds_weights.data[0] = middle
    target = tmp_path_factory.mktemp("strict") / "pipeline"
    shutil.copytree(folder, target)
    model.save_pretrained(target / "safety_checker", safe_serialization=True)
    return target


def test_flagged_images_are_refusals(strict: Path) -> None:
    from diffusers import StableDiffusionPipeline

    outcomes = {o.request.key: o for o in configured(strict, batch_size=3).generate(REQUESTS)}
    assert outcomes.keys() == {r.key for r in REQUESTS}
    refused = {key for key, o in outcomes.items() if isinstance(o, Refused)}
    assert 0 < len(refused) < len(REQUESTS)
    assert {o.code for o in outcomes.values() if isinstance(o, Refused)} == {"safety_checker"}
    plain = StableDiffusionPipeline.from_pretrained(strict)
    plain.set_progress_bar_config(disable=True)
    flagged = set()
    for request in REQUESTS:
        noise = torch.Generator().manual_seed(request.seed)
        made = plain(request.prompt, num_inference_steps=2, guidance_scale=1.0, generator=noise)
        flagged |= {request.key} if made.nsfw_content_detected[0] else set()
    assert refused == flagged
    assert all(isinstance(o, Generated) for key, o in outcomes.items() if key not in flagged)


def test_a_checker_that_fails_on_a_batch_is_asked_image_by_image(strict: Path) -> None:
    expected = {o.request.key: type(o) for o in configured(strict).generate(REQUESTS)}
    generator = configured(strict)
    assert generator._checker is not None

    def small_device(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(kwargs["clip_input"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = generator._checker._model.register_forward_pre_hook(small_device, with_kwargs=True)
    assert {o.request.key: type(o) for o in generator.generate(REQUESTS)} == expected
    hook.remove()

    def broken(*_: Any) -> None:
        raise ValueError("no checker today")

    generator._checker._model.register_forward_pre_hook(broken)
    for outcome in generator.generate(REQUESTS):  # what was not checked is not let through
        assert isinstance(outcome, Failed)
        assert outcome.error == "the safety checker failed: ValueError: no checker today"


# --- compiling -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A network of few layers, whose loops go to the compiler as one file: its time goes by headers, which each file reads again."""
    import torch._inductor.compile_fx
    import torch._inductor.config

    gc.collect()
    gc.freeze()  # the compiler stays: whoever frees memory from here on need not look through it
    folder = save_stable_diffusion(tmp_path_factory.mktemp("shallow") / "pipeline", one_level=True)
    with torch._inductor.config.patch(cpp_wrapper=True, cpp_cache_precompile_headers=False):
        yield folder


@COMPILER
@pytest.mark.slow
def test_a_compiled_network_draws_the_same_but_for_rounding(shallow: Path) -> None:
    eager = configured(shallow, batch_size=4)
    compiled = configured(shallow, batch_size=4, compile=True)
    assert compiled.identity() == {**eager.identity(), "compiled": "inductor"}
    six = REQUESTS[:6]
    seen = pixels(list(compiled.generate(six)))
    assert apart(seen, pixels(list(eager.generate(six)))) <= 2
    facts = compiled.facts()
    assert facts["compiled"] is True
    assert facts["compile_seconds"] > 0
    assert compiled._compiled is not None
    assert list(compiled._compiled.seconds) == [4]  # the last batch of two was filled up to four


def test_a_network_that_cannot_be_compiled_stops_the_run(
    shallow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing that was compiled before
    torch._dynamo.reset()
    generator = configured(shallow, compile=True, batch_size=1)
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(BackendError) as stopped,
    ):
        list(generator.generate(REQUESTS[:1]))
    torch._dynamo.reset()  # a compiler that failed once is remembered
    assert "generator.compile: the network cannot be compiled here" in str(stopped.value)
    assert "generator.compile=false" in str(stopped.value)


def test_compiling_is_settled_by_the_plan_and_by_what_stands(folder: Path) -> None:
    assert not compiling.pays("auto", device="cpu", images=10**9, steps=50, pixels=512**2)
    assert compiling.pays("auto", device="cuda", images=compiling.BREAK_EVEN, steps=1, pixels=512**2)
    assert not compiling.pays("auto", device="cuda", images=compiling.BREAK_EVEN - 1, steps=1, pixels=512**2)
    assert compiling.work(images=834, steps=30, pixels=1024**2) == pytest.approx(100_080)
    generator = configured(folder)
    assert generator._cost() == (2, 16 * 16)
    generator.plan_for(10**9, None)
    assert "compiled" not in generator.identity()
    again = configured(folder)
    again.plan_for(1, {**generator.identity(), "compiled": "inductor"})  # its images were made by a compiled network
    assert again.identity()["compiled"] == "inductor"
    other = configured(folder, steps=3)
    other.plan_for(1, {**generator.identity(), "compiled": "inductor"})  # those are other images
    assert "compiled" not in other.identity()


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "images", "free", "expected"),
    [
        (2 << 30, 2, 80 << 30, 64),  # 1 GiB each, 64 of them in 80% of 80
        (2 << 30, 2, 79 << 30, 32),
        (2 << 30, 2, 1 << 30, 1),
        (1, 2, 1 << 40, LARGEST_BATCH),
        (0, 1, 1 << 30, LARGEST_BATCH),
        (3 << 30, 1, 40 << 30, 8),
    ],
)
def test_the_batch_follows_free_memory(need: int, images: int, free: int, expected: int) -> None:
    assert batch_that_fits(need=need, images=images, free=free) == expected


class SmallDevice:
    """A meter of a device on which an image needs 1 MiB."""

    def __init__(self, free: int, *, images: int = 2) -> None:
        self._free, self._images = free, images

    def free(self) -> int:
        return self._free

    @contextlib.contextmanager
    def peak(self) -> Iterator[Peak]:
        peak = Peak()
        yield peak
        peak.bytes = self._images << 20


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[tuple[str, int], np.ndarray]:
    """What is drawn in one batch."""
    return pixels(list(configured(folder, batch_size=8).generate(REQUESTS)))


@pytest.mark.parametrize(("free", "sizes"), [(6 << 20, [2, 4, 2]), (1 << 30, [2, 6]), (1, [2, 1, 1, 1, 1, 1, 1])])
def test_auto_batches_start_with_two_images(
    folder: Path, plain: dict[tuple[str, int], np.ndarray], free: int, sizes: list[int]
) -> None:
    generator = configured(folder)
    generator._batch_size, generator._meter = None, SmallDevice(free)  # as on CUDA
    batches = list(generator.generate_ahead(REQUESTS))
    assert [len(batch) for batch in batches] == sizes
    assert apart(pixels([finish() for batch in batches for _, finish in batch]), plain) <= 2
    assert generator.facts()["batch_size"] == max(sizes[1:])


def test_auto_batches_on_a_device_too_small_for_two(folder: Path) -> None:
    generator = configured(folder)
    generator._batch_size, generator._meter = None, SmallDevice(1 << 30)

    def tiny_device(_: Any, args: tuple[Any, ...]) -> None:
        if len(args[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    generator._pipe.unet.register_forward_pre_hook(tiny_device)
    assert pixels(list(generator.generate(REQUESTS))).keys() == {r.key for r in REQUESTS}
    assert generator.facts()["batch_size"] == 1


@COMPILER
def test_with_compiling_the_metered_images_are_not_kept(shallow: Path) -> None:
    generator = configured(shallow, compile=True)
    generator._batch_size, generator._meter = None, SmallDevice(6 << 20)
    batches = list(generator.generate_ahead(REQUESTS))
    assert [len(batch) for batch in batches] == [4, 4]
    assert generator._compiled is not None
    assert list(generator._compiled.seconds) == [4]
    seen = pixels([finish() for batch in batches for _, finish in batch])
    assert apart(seen, pixels(list(configured(shallow).generate(REQUESTS)))) <= 2


def test_on_a_cpu_auto_is_a_fixed_small_number(folder: Path) -> None:
    generator = configured(folder)
    assert isinstance(generator, AheadGenerator)
    assert generator.facts() == {"batch_size": 4, "compiled": False, "compile_seconds": 0.0}


# --- readiness -------------------------------------------------------------------------------------------------------


def test_readiness_counts_weights_without_loading_them(folder: Path, tmp_path: Path) -> None:
    found = check(model=str(folder), device="cpu", dtype="float32")
    assert found.ok
    assert "StableDiffusionPipeline" in found.message
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    broken = check(model=str(copy), device="cpu")
    assert not broken.ok
    assert "'unet' has no .safetensors weights" in broken.message


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "./nothing"}, "no such model folder"),
        ({"scheduler": "eulr"}, "Did you mean 'euler'"),
        ({"device": "no"}, r"generator.device"),
        ({"lora": {"path": "no/such.safetensors"}}, "lora.path"),
        ({"model": "nobody/no-such-model"}, "not in the local cache"),
    ],
)
def test_readiness_says_what_is_missing(folder: Path, changes: dict[str, Any], message: str) -> None:
    found = check(**{"model": str(folder), "device": "cpu", **changes})
    assert not found.ok
    assert message in found.message
