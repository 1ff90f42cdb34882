"""Which pipeline a folder is run with, what it may be told, and how it gets onto a device. No weights are needed for any of it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from allfour.errors import BackendError
from allfour.models import devices
from allfour.models.generators._diffusion import loading, pipelines
from allfour.models.generators._diffusion.images import BLACK, ImageBatch
from allfour.models.generators._diffusion.memory import device_lost, out_of_memory
from allfour.models.generators._diffusion.readiness import check
from allfour.models.generators.base import Failed, Generated
from allfour.models.generators.stable_diffusion import StableDiffusion
from tests.models.generators.hosted_helpers import requests

VIDEO_OR_CONTROL = ("ControlNet", "FluxControl", "CogView4Control", "Helios", "Kontext", "Inpaint")


def folder_of(tmp_path: Path, name: Any) -> Path:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name, "_diffusers_version": "0.42.0"}))
    return folder


def whole_folder(tmp_path: Path, name: str) -> Path:
    """A folder of that class with all its parts, each a scheduler, which has no weights; the class alone, where it cannot be imported."""
    folder = folder_of(tmp_path, name)
    try:
        getattr(diffusers, name)
    except RuntimeError:  # OpenCV, say, wants libraries of a desktop
        return folder
    takes = inspect.signature(getattr(diffusers, name).__init__).parameters.values()
    parts = [p.name for p in takes if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    index = {"_class_name": name, **{part: ["diffusers", "DDIMScheduler"] for part in parts}}
    (folder / "model_index.json").write_text(json.dumps(index))
    for part in parts:
        (folder / part).mkdir(exist_ok=True)
    return folder


def test_of_every_class_doctor_says_why_not_or_that_it_was_tried_or_that_it_was_not(tmp_path: Path) -> None:
    """The whole table: no class of which doctor says that it is ready without having been tried, or another thing than an audit."""
    mapped = {c.__name__ for c in diffusers.pipelines.auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
    named = {name for name in dir(diffusers) if name.endswith("Pipeline")}
    # by their name they do something else; importing all of them takes seconds, and every tenth will do
    other = {name for name in named if any(word in name for word in (*pipelines._OTHER_TASKS, "Modular"))} - mapped
    ready: dict[str, bool] = {}
    for name in sorted(named - other) + sorted(other)[::10]:
        folder = whole_folder(tmp_path, name)
        readiness = check(model=str(folder), device="cpu")
        if readiness.ok:
            run_with = pipelines.pipeline_class(diffusers, folder).__name__
            if run_with == name:
                ready[name] = not readiness.warnings
            assert readiness.warnings == () or f"the class {run_with} was never tried" in readiness.warnings[0]
            continue
        with pytest.raises(BackendError) as caught:
            StableDiffusion(model=str(folder), device="cpu")
        assert readiness.message == str(caught.value), name
    assert {name for name, tried in ready.items() if tried} == pipelines.TRIED
    unready = mapped - ready.keys()
    assert [n for n in unready if not any(w in n for w in VIDEO_OR_CONTROL)] == []
    assert [n for n in ready if any(w in n for w in VIDEO_OR_CONTROL)] == []


@pytest.mark.parametrize("name", ["StableCascadeDecoderPipeline", "KandinskyV22Pipeline", "StableDiffusionPipeline"])
def test_a_folder_without_all_the_parts_is_refused_by_both_in_the_same_words(tmp_path: Path, name: str) -> None:
    folder = str(folder_of(tmp_path, name))
    readiness = check(model=folder, device="cpu")
    with pytest.raises(BackendError, match="lacks ") as caught:
        StableDiffusion(model=folder, device="cpu")
    assert (readiness.ok, readiness.message) == (False, str(caught.value))


def test_a_class_of_a_package_that_is_missing_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusers.FluxPipeline, "_backends", ["torch", "nobodys_package"], raising=False)
    readiness = check(model=str(folder_of(tmp_path, "FluxPipeline")), device="cpu")
    assert (
        "FluxPipeline needs nobodys_package, which is not installed: pip install nobodys_package" in readiness.message
    )


def test_a_class_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            missing = ImportError("libxcb.so.1: cannot open shared object file")
            raise RuntimeError(
                "Failed to import it because of the following error (look up to see its traceback):"
            ) from missing

    with pytest.raises(BackendError, match=r"ConsisIDPipeline cannot be imported here: libxcb\.so\.1: cannot open"):
        pipelines.pipeline_class(Broken(), folder_of(tmp_path, "ConsisIDPipeline"))


@pytest.mark.parametrize("name", sorted(pipelines.OF_THEMSELVES))
def test_classes_that_are_not_looked_up_are_what_the_map_gives(name: str) -> None:
    assert pipelines._mapped(name) is getattr(diffusers, name)


def test_a_folder_of_another_task_is_run_with_the_class_that_draws_from_text(tmp_path: Path) -> None:
    found = pipelines.pipeline_class(diffusers, folder_of(tmp_path, "StableDiffusionXLImg2ImgPipeline"))
    assert found is diffusers.StableDiffusionXLPipeline


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (["pipeline", "MyPipeline"], "runs no code from a model folder"),
        (None, "names no pipeline"),
        ("NoSuchPipeline", "has no pipeline 'NoSuchPipeline'"),
        ("UNet2DConditionModel", "has no pipeline"),
        ("WanPipeline", "makes video or sound, not a single image"),
        ("StableDiffusionUpscalePipeline", "needs more than a text"),
        ("DDPMPipeline", "takes no prompt"),
        ("FluxFillPipeline", "its kind is Fill"),
        ("LLaDA2Pipeline", "makes no image"),
    ],
)
def test_folders_that_cannot_be_run(tmp_path: Path, name: Any, message: str) -> None:
    folder = folder_of(tmp_path, name)
    with pytest.raises(BackendError) as caught:
        pipelines.pipeline_class(diffusers, folder)
    assert message in str(caught.value)
    assert not check(model=str(folder), device="cpu").ok
    with pytest.raises(BackendError):
        StableDiffusion(model=str(folder), device="cpu")


def test_settings_that_a_pipeline_does_not_take_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = str(whole_folder(tmp_path, "HunyuanImagePipeline"))
    for settings, message in (
        ({"guidance_scale": 3.0}, "generator.guidance_scale: HunyuanImagePipeline does not take it"),
        ({"pipeline_args": {"true_cfg": 4}}, "does not take 'true_cfg'. It takes: "),
        ({"pipeline_args": {"generator": 1}}, "cannot be set here"),
    ):
        with pytest.raises(BackendError) as caught:
            StableDiffusion(model=folder, device="cpu", **settings)
        assert message in str(caught.value)
        assert check(model=folder, device="cpu", **settings).message == str(caught.value)
    assert check(model=folder, device="cpu", pipeline_args={"distilled_guidance_scale": 3.0}).ok


# --- one file of weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "base", "message"),
    [
        ("x.ckpt", None, "is a pickle"),
        ("x.safetensors", None, "no such file"),
        ("folder", "other", "is only for a single .safetensors file"),
    ],
)
def test_single_files_that_cannot_be(model: str, base: str | None, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        loading.checkpoint_file(model, base)


def test_a_single_file_takes_its_layout_from_a_model_of_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"weights")
    with pytest.raises(BackendError, match=r"generator\.base"):
        loading.checkpoint_file(str(file), None)
    assert loading.checkpoint_file(str(file), "a/b") == file
    arguments: dict[str, Any] = {}

    class Pipeline:
        @classmethod
        def from_single_file(cls, path: str, **options: Any) -> str:
            arguments.update(options, path=path)
            return "pipe"

    assert pipelines.load_single_file(Pipeline, file, config="folder", arguments={"dtype": torch.float16}) == "pipe"
    assert arguments == {"path": str(file), "config": "folder", "local_files_only": True, "dtype": torch.float16}
    assert loading.with_checkpoint("a", file) != loading.with_checkpoint("b", file)


# --- onto a device, faked --------------------------------------------------------------------------------------------


class FakePipe:
    """Notes what is done with it."""

    def __init__(self, conv_dimensions: int = 4) -> None:
        self.done: list[Any] = []
        part = SimpleNamespace(
            parameters=lambda: [SimpleNamespace(ndim=conv_dimensions)], to=lambda **o: self.done.append(o)
        )
        self.unet, self.vae = None, part

    def to(self, device: str) -> None:
        self.done.append(device)

    def enable_model_cpu_offload(self, *, device: str) -> None:
        self.done.append(("model", device))

    def enable_sequential_cpu_offload(self, *, device: str) -> None:
        self.done.append(("sequential", device))


@pytest.mark.parametrize(
    ("placement", "dimensions", "done"),
    [
        (pipelines.Placement("cuda"), 4, ["cuda", {"memory_format": torch.channels_last}]),
        (pipelines.Placement("cuda"), 5, ["cuda"]),  # the autoencoder of a video model
        (pipelines.Placement("cuda:1", "model"), 4, [("model", "cuda:1")]),
        (pipelines.Placement("cuda", "sequential"), 4, [("sequential", "cuda")]),
        (pipelines.Placement("cuda", "none", pipelines.Quantization("torchao")), 4, ["cuda"]),
        (pipelines.Placement("mps"), 4, ["mps"]),
        (pipelines.Placement("cpu"), 4, ["cpu"]),
    ],
)
def test_placement(placement: pipelines.Placement, dimensions: int, done: list[Any]) -> None:
    pipe = FakePipe(dimensions)
    placement.put(pipe)
    assert pipe.done == done


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        (pipelines.Placement("cpu", "model"), "the device is cpu"),
        (pipelines.Placement("cuda", "all"), "not one of none, model, sequential"),  # type: ignore[arg-type]
        (pipelines.Placement("cuda", "none", pipelines.Quantization("bits")), "is not one of bitsandbytes_4bit"),
    ],
)
def test_placements_that_cannot_be(placement: pipelines.Placement, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        placement.check()


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="pip install accelerate"):
        pipelines.Placement("cuda", "model").check()
    with pytest.raises(BackendError, match="pip install bitsandbytes"):
        pipelines.Placement("cuda", "none", pipelines.Quantization("bitsandbytes_8bit")).check()


def test_quantization_is_told_to_diffusers_by_component() -> None:
    arguments: dict[str, Any] = {}
    fake = SimpleNamespace(PipelineQuantizationConfig=lambda **o: arguments.update(o) or "config")
    quantization = pipelines.Quantization(
        "bitsandbytes_4bit", ("transformer", "text_encoder_2"), {"bnb_4bit_quant_type": "nf4"}
    )
    assert pipelines.Placement("cuda", "none", quantization).arguments(fake) == {"quantization_config": "config"}
    assert arguments == {
        "quant_backend": "bitsandbytes_4bit",
        "quant_kwargs": {"bnb_4bit_quant_type": "nf4", "load_in_4bit": True},
        "components_to_quantize": ["transformer", "text_encoder_2"],
    }


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_bfloat16_only_where_the_card_has_it(native: bool, dtype: str) -> None:
    cuda = SimpleNamespace(is_bf16_supported=lambda including_emulation=True: native or including_emulation)
    assert loading.pick_dtype(SimpleNamespace(cuda=cuda), "auto", "cuda") == dtype
    assert loading.pick_dtype(SimpleNamespace(cuda=cuda), "auto", "mps") == "float32"


@pytest.mark.parametrize(
    ("rank", "device"), [("0", "cuda:0"), ("3", "cuda:3"), ("5", "cuda:1"), ("", "cuda"), ("x", "cuda")]
)
def test_ranks_of_one_machine_take_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch, rank: str, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert devices.choose_device("auto") == device
    assert devices.choose_device("cuda:2") == "cuda:2"


# --- pixels ----------------------------------------------------------------------------------------------------------


def test_an_image_with_a_pixel_that_is_no_number_fails_and_its_neighbour_stands() -> None:
    images = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float16)
    images[0, 1, 2, 3] = float("nan")
    batch = ImageBatch(requests(1, 2), images, None, None)
    broken, whole = (finish() for _, finish in batch.finishes())
    assert isinstance(broken, Failed)
    assert broken.error == BLACK
    assert isinstance(whole, Generated)


def test_infinite_pixels_fail_too() -> None:
    images = torch.zeros(1, 3, 4, 4)
    images[0, 0, 0, 0] = float("inf")
    ((_, finish),) = ImageBatch(requests(1, 1), images, None, None).finishes()
    assert isinstance(finish(), Failed)


@pytest.mark.parametrize(
    ("text", "lost", "memory"),
    [
        ("CUDA error: an illegal memory access was encountered", True, False),
        ("CUDA error: no kernel image is available for execution on the device", True, False),
        ("CUDA error: device-side assert triggered", True, False),
        ("CUDA error: out of memory", False, True),
        ("CUDA out of memory. Tried to allocate 2 GiB", False, True),
        ("MPS backend out of memory (MPS allocated: 5 GB)", False, True),
        ("mat1 and mat2 shapes cannot be multiplied", False, False),
    ],
)
def test_what_ends_a_device_and_what_ends_a_batch(text: str, lost: bool, memory: bool) -> None:
    error = RuntimeError(text)
    assert (device_lost(error), out_of_memory(error)) == (lost, memory)


def test_a_distilled_models_scheduler_counts_its_steps_from_the_end() -> None:
    arguments = {"timestep_spacing": "leading", "steps_offset": 1}
    assert loading.scheduler_like(diffusers, "euler", arguments).config.timestep_spacing == "leading"
    assert loading.scheduler_like(diffusers, "euler-trailing", arguments).config.timestep_spacing == "trailing"
    with pytest.raises(BackendError, match="Did you mean 'euler'"):
        loading.scheduler_like(diffusers, "eulr-trailing", arguments)
