"""Run local generation and scoring through everything that a first CUDA (or MPS) machine can meet, and say pass or what failed.

    python scripts/gpu_check.py                 # models/sandbox/diffusion alone: some minutes, nothing is downloaded
    python scripts/gpu_check.py --model NAME    # and four images of a real model
    python scripts/gpu_check.py --device cpu    # what of it a CPU can do: a check of this script

One table; exit code 0 where every line passed or had nothing to check, 1 otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from allfour.errors import BackendError
from allfour.models.devices import choose_device
from allfour.models.generators.base import Failed, Generated, GenerationRequest, Outcome
from allfour.models.generators.stable_diffusion import StableDiffusion

SANDBOX = "models/sandbox/diffusion"
_PROMPTS = ("a photo of a nurse", "a photo of a captain", "a photo of a maestro", "a photo of a nanny")


class NothingToCheck(Exception):  # noqa: N818 (no error: a line of the table)
    """This machine has nothing of the kind; the message says of what."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    name: str
    result: str
    seconds: float
    details: str


def requests(count: int) -> list[GenerationRequest]:
    return [GenerationRequest("check", k, _PROMPTS[k % len(_PROMPTS)], seed=k) for k in range(count)]


def sandbox(device: str, **settings: Any) -> StableDiffusion:
    return StableDiffusion(
        **{"model": SANDBOX, "device": device, "steps": 4, "compile": False, "batch_size": 4, **settings}
    )


def made(outcomes: Sequence[Outcome]) -> str:
    """Raise AssertionError unless every outcome is an image."""
    failed = [o for o in outcomes if not isinstance(o, Generated)]
    assert not failed, f"{len(failed)} of {len(outcomes)} are no images: {failed[0]}"
    return f"{len(outcomes)} images"


def on_accelerator(device: str) -> None:
    if device == "cpu":
        raise NothingToCheck("no accelerator")


def on_cuda(device: str) -> None:
    if not device.startswith("cuda"):
        raise NothingToCheck("no CUDA device")


# --- the checks ------------------------------------------------------------------------------------------------------


def device_and_versions(device: str) -> str:
    import diffusers
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return f"{name}; torch {torch.__version__}, diffusers {diffusers.__version__}"


def every_dtype(device: str) -> str:
    from allfour.models.generators._diffusion.loading import pick_dtype

    details = []
    for dtype in ("float32", "float16", "bfloat16") if device != "cpu" else ("float32",):
        details.append(f"{dtype} {made(list(sandbox(device, dtype=dtype).generate(requests(4))))}")
    import torch

    return f"{', '.join(details)}; auto is {pick_dtype(torch, 'auto', device)}"


def batches_and_seeds(device: str) -> str:
    """The same images alone and in a batch, up to rounding."""
    import io

    import numpy as np
    from PIL import Image

    def pixels(outcomes: Sequence[Outcome]) -> dict[int, Any]:
        return {
            o.request.index: np.asarray(Image.open(io.BytesIO(o.data)), dtype=np.int16)
            for o in outcomes
            if isinstance(o, Generated)
        }

    one = pixels(list(sandbox(device, dtype="float32", batch_size=1).generate(requests(4))))
    four = pixels(list(sandbox(device, dtype="float32", batch_size=4).generate(requests(4))))
    assert one.keys() == four.keys() == set(range(4)), "images are missing"
    far = max(int(np.abs(one[k] - four[k]).max()) for k in one)
    assert far <= 8, f"an image differs by {far} of 255 with its batch"
    return f"differ by {far} of 255 at most"


def memory_meter(device: str) -> str:
    on_cuda(device)
    generator = sandbox(device, batch_size="auto")
    made(list(generator.generate(requests(16))))
    return f"batches of {generator.facts()['batch_size']}"


def out_of_memory(device: str) -> str:
    """A batch that does not fit is halved, by memory that is really taken: half of what the batch needs is left."""
    on_cuda(device)
    import torch

    from allfour.models.generators._diffusion.memory import CudaMeter

    generator, meter = sandbox(device, batch_size=64), CudaMeter(device)
    with meter.peak() as peak:
        made(list(generator.generate(requests(64))))
    hold = torch.empty(max(0, meter.free() - peak.bytes // 2), dtype=torch.uint8, device=device)
    try:
        outcomes = list(generator.generate(requests(64)))
    finally:
        del hold
        torch.cuda.empty_cache()
    lost = sum(isinstance(o, Failed) for o in outcomes)
    assert len(outcomes) == 64 and not lost, f"{lost} of {len(outcomes)} images were lost"
    size = int(generator.facts()["batch_size"])
    assert size < 64, "memory for half a batch was left, and the batch was not halved"
    return f"64 images in batches of {size} where half of a batch's {peak.bytes / 2**20:.0f} MiB are left"


def copying_ahead(device: str) -> str:
    """Pinned copies and events: the bytes are those of plain generation."""
    ahead = [finish() for batch in sandbox(device).generate_ahead(requests(8)) for _, finish in batch]
    plain = list(sandbox(device).generate(requests(8)))
    one, two = ({o.request.key: o.data for o in found if isinstance(o, Generated)} for found in (ahead, plain))
    assert one == two and len(one) == 8, "bytes differ"
    return made(ahead)


def broken_pixels(device: str) -> str:
    """What half precision does when it overflows: no number, and black."""
    import torch

    from allfour.models.generators._diffusion.images import ImageBatch

    images = torch.full((3, 3, 64, 64), 0.5, device=device, dtype=torch.float16 if device != "cpu" else torch.float32)
    images[0] = float("nan")
    images[1] = 0
    outcomes = [finish() for _, finish in ImageBatch(requests(3), images, None, None).finishes()]
    kinds = [type(o).__name__ for o in outcomes]
    assert kinds == ["Failed", "Failed", "Generated"], str(kinds)
    return "failed with a reason, never scored"


def memory_layout(device: str) -> str:
    """Convolutions lie as CUDA's kernels want them."""
    on_cuda(device)
    import torch

    pipe = sandbox(device)._pipe
    weight = pipe.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last), "the network is not laid out channels last"
    return "channels last"


def safety_checker(device: str) -> str:
    """An untrained checker that flags everything, and one that flags nothing."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    from allfour.models.generators._diffusion.images import ImageBatch, SafetyChecker

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config={**size, "image_size": 16, "patch_size": 8}, projection_dim=8)
    pixels = torch.full((2, 3, 64, 64), 0.5, device=device)
    details = []
    for threshold, kind in ((-2.0, "Refused"), (2.0, "Generated")):  # below and above every cosine
        model: Any = StableDiffusionSafetyChecker(config)
        model.to(device)
        torch.nn.init.normal_(model.concept_embeds)
        torch.nn.init.normal_(model.special_care_embeds)
        model.concept_embeds_weights.data.fill_(threshold)
        model.special_care_embeds_weights.data.fill_(2.0)
        pipe = SimpleNamespace(
            safety_checker=model,
            feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
            run_safety_checker=True,
        )
        outcomes = [finish() for _, finish in ImageBatch(requests(2), pixels, None, SafetyChecker.of(pipe)).finishes()]
        assert [type(o).__name__ for o in outcomes] == [kind] * 2, str(outcomes)[:200]
        details.append(kind.lower())
    return " or ".join(details)


def compiled(device: str) -> str:
    on_cuda(device)
    generator = sandbox(device, compile=True)
    made(list(generator.generate(requests(8))))
    return f"{generator.facts()['compile_seconds']} s to compile"


def offloaded(device: str) -> str:
    on_accelerator(device)
    if importlib.util.find_spec("accelerate") is None:
        raise NothingToCheck("accelerate is not installed")
    return ", ".join(
        f"{kind} {made(list(sandbox(device, offload=kind).generate(requests(2))))}" for kind in ("model", "sequential")
    )


def several_gpus(device: str) -> str:
    on_cuda(device)
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        raise NothingToCheck("one GPU")
    for number in range(count):
        made(list(sandbox(f"cuda:{number}").generate(requests(2))))
    return f"{count} GPUs"


def real_model(model: str) -> Callable[[str], str]:
    def check(device: str) -> str:
        generator = StableDiffusion(model=model, device=device, batch_size="auto")
        details = made(list(generator.generate(requests(4))))
        return f"{details} of {generator.identity()['pipeline']}, batches of {generator.facts()['batch_size']}"

    return check


def scoring_by_processes(device: str) -> str:
    """Processes that feed the classifier, and pictures that the device resizes: the tables of one process and of Pillow."""
    import tempfile
    from pathlib import Path

    import numpy as np
    import pyarrow.parquet as pq
    from PIL import Image

    from allfour.models.classifiers.clip import ClipClassifier
    from allfour.pipeline.archives import ArchiveOptions, open_source
    from allfour.pipeline.config import ScoringConfig, load_attributes
    from allfour.pipeline.scoring.engines.base import ScoringJob
    from allfour.pipeline.scoring.engines.local import LocalEngine

    on_cuda(device)
    random = np.random.default_rng(0)
    attributes = load_attributes("configs/attributes/sandbox.yaml")

    def tables(images: Path, run: Path, *, resizes: bool, processes: int) -> Any:
        clip = ClipClassifier(attributes=attributes, model=None, pretrained="models/sandbox/clip", device=device)
        if not resizes:
            clip.takes = lambda height, width: False  # type: ignore[method-assign]
        source = open_source(str(images), options=ArchiveOptions(shard_size=20))
        config = ScoringConfig(batch_size=8, workers=processes, processes=processes)
        job = ScoringJob(run=run, source=source, config=config, build=lambda: clip)
        done = LocalEngine().score(job, list(source.shards()), classifier=clip, advance=lambda count: None)
        assert done == 80, f"{done} of 80 images"
        sizes = clip._encoder._on_device._resizes
        assert not resizes or None not in sizes.values(), "the device's bytes are not Pillow's"
        assert len(sizes) == 2 * resizes, (
            f"{len(sizes)} sizes were resized on the device"
        )  # one is the encoder's own check
        return [pq.read_table(path).to_pylist() for path in sorted(run.rglob("*.parquet"))]

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for k in range(80):
            (root / f"images/p{k // 20}").mkdir(parents=True, exist_ok=True)
            size = (300, 240, 3) if k % 7 != 3 else (150, 200, 3)
            Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(root / f"images/p{k // 20}/{k}.jpg")
        plain = tables(root / "images", root / "plain", resizes=False, processes=1)
        assert tables(root / "images", root / "one", resizes=True, processes=1) == plain, (
            "another table by its resizing"
        )
        assert tables(root / "images", root / "four", resizes=True, processes=4) == plain, (
            "another table by four processes"
        )
    return "80 images; tables equal to those of one process, resized by Pillow"


CHECKS: dict[str, Callable[[str], str]] = {
    "device": device_and_versions,
    "number formats": every_dtype,
    "batches and seeds": batches_and_seeds,
    "copies beside the next batch": copying_ahead,
    "black and broken pixels": broken_pixels,
    "safety checker": safety_checker,
    "memory layout": memory_layout,
    "memory meter": memory_meter,
    "out of memory": out_of_memory,
    "compiling": compiled,
    "offloading": offloaded,
    "several GPUs": several_gpus,
    "scoring": scoring_by_processes,
}


def run(checks: dict[str, Callable[[str], str]], device: str) -> list[Line]:
    """Every check, whatever the others gave."""
    lines = []
    for name, check in checks.items():
        started = time.monotonic()
        try:
            result, details = "pass", check(device)
        except NothingToCheck as reason:
            result, details = "-", str(reason)
        except (AssertionError, BackendError) as error:
            result, details = "FAILED", str(error)
        except Exception as error:
            result, details = "FAILED", f"{type(error).__name__}: {error}"
        lines.append(Line(name, result, time.monotonic() - started, " ".join(details.split())[:160]))
        print(f"{lines[-1].result:7} {name}", file=sys.stderr, flush=True)
    return lines


def table(lines: Sequence[Line]) -> str:
    rows = [f"| {line.name} | {line.result} | {line.seconds:.1f} s | {line.details} |" for line in lines]
    return "\n".join(["| check | result | time | |", "|---|---|---|---|", *rows])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", help="a folder in diffusers format or a hub id")
    options = parser.parse_args(argv)
    device = choose_device(options.device)
    lines = run(CHECKS | ({"real model": real_model(options.model)} if options.model else {}), device)
    failed = [line.name for line in lines if line.result == "FAILED"]
    print(table(lines))
    print(f"\n{'FAILED: ' + ', '.join(failed) if failed else 'pass'} on {device}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
