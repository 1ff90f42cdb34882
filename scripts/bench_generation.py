"""How fast images are generated, beside plain diffusers and what the hardware allows.

    python scripts/bench_generation.py --model sd15 --out bench.json      Stable Diffusion 1.5's sizes
    python scripts/bench_generation.py --model sdxl --batch 4             Stable Diffusion XL's sizes
    python scripts/bench_generation.py --model tiny                       some channels, 64 px: a check of this script, on any CPU

Interleaved in one process, round after round on the same prompts and seeds, so that whatever else the machine does meets all alike:

- ours             stage 1 of `allfour audit`: prompts to committed PNG files, with the network compiled or not
- ours_eager       the same without the compiled network; only where `ours` compiles
- diffusers_one    a plain diffusers call for each image, as in its README, saved as PNG
- diffusers_batch  the same in batches of `ours`' size, eager

Speeds are images per second by the clock, PNG encoding and writing included, medians over rounds after one that warms up. What that
first round and the compiler take is told apart. FLOPs are those of the denoising steps (with guidance, two passes each) and of the
decoder, counted by torch, attention's products included; the text encoder is left out. The device's matrix rate is that of one large product in the same
number format, the best of several.

Weights are random, which is allowed in benchmarks alone: nothing in this file says what an image shows. The modules have the published
sizes of the models and so their arithmetic; the pictures are noise, so PNG encoding costs other than that of photographs, and prompts
are spelled out letter by letter by a tokenizer that needs no download.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.measured import put_out  # noqa: E402

GUIDANCE = 7.5
"""Of every contender: above 1, so each step denoises an image twice, with the prompt and without it."""
PROMPTS = ("a photo of a nurse", "a photo of a pilot", "a photo of a judge", "a photo of a baker")

_KL = {"act_fn": "silu", "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2,
       "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}  # fmt: skip
_LARGE_KL = _KL | {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32}
_CLIP_L = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
           "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 768}  # fmt: skip
_CLIP_BIG_G = {"vocab_size": 49408, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
               "num_attention_heads": 20, "max_position_embeddings": 77, "hidden_act": "gelu", "projection_dim": 1280}  # fmt: skip
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_THREE_DOWN_ONE = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
_ONE_UP_THREE = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")

MODELS: dict[str, dict[str, Any]] = {
    "sd15": {
        "unet": {"sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "attention_head_dim": 8,
                 "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768,
                 "down_block_types": _THREE_DOWN_ONE, "up_block_types": _ONE_UP_THREE},
        "vae": _LARGE_KL | {"sample_size": 512, "scaling_factor": 0.18215},
        "text": _CLIP_L, "size": 512, "steps": 50,
    },
    "sdxl": {
        "unet": {"sample_size": 128, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "attention_head_dim": (5, 10, 20),
                 "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048,
                 "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                 "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                 "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True,
                 "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
                 "projection_class_embeddings_input_dim": 6 * 256 + 1280},
        "vae": _LARGE_KL | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
        "text": _CLIP_L, "text_2": _CLIP_BIG_G, "size": 1024, "steps": 50,
    },
    "tiny": {
        "unet": {"sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "attention_head_dim": 4,
                 "block_out_channels": (16, 32), "cross_attention_dim": 32, "norm_num_groups": 8,
                 "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")},
        "vae": _KL | {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 8, "layers_per_block": 1, "sample_size": 64},
        "text": _CLIP_L | {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                           "num_attention_heads": 2, "projection_dim": 32},
        "size": 64, "steps": 4,
    },
}  # fmt: skip
"""Name -> settings of its modules as published in the models' own config files, side in pixels, steps."""


def _prompt(position: int, number: int) -> str:
    """Differs from round to round, so that ours, which encodes a prompt once, encodes each round's."""
    return f"{PROMPTS[position]} {number}"


def make_unet(model: str) -> Any:
    """The denoising network with random weights, on torch's current default device."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**MODELS[model]["unet"])


def make_vae(model: str) -> Any:
    """The decoder (and encoder) with random weights, on torch's current default device."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**MODELS[model]["vae"])


def _tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer of printable characters, which needs no download. The sequence is 77 tokens long all the same."""
    from transformers import CLIPTokenizer

    folder.mkdir()
    letters = [chr(k) for k in range(33, 127)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: k for k, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77)


def save_pipeline(model: str, folder: Path, *, device: str, dtype: str) -> Path:
    """A diffusers pipeline of the model's sizes with random weights, in `dtype`, under `folder`."""
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from allfour.models.generators._diffusion import loading

    loading.quiet(diffusers)
    torch.manual_seed(0)
    sizes: dict[str, Any] = MODELS[model]
    words = _tokenizer(folder / "words")
    special: dict[str, Any] = {
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
        "pad_token_id": len(words) - 1,
    }
    number_format = getattr(torch, dtype)
    with torch.device(device):
        modules = {"unet": make_unet(model).to(number_format), "vae": make_vae(model).to(number_format)}
        modules["text_encoder"] = CLIPTextModel(CLIPTextConfig(**sizes["text"], **special)).to(number_format)
        if "text_2" in sizes:
            config = CLIPTextConfig(**sizes["text_2"], **special)
            modules["text_encoder_2"] = CLIPTextModelWithProjection(config).to(number_format)
    # Both schedulers call the network once per step, so steps times FLOPs is what runs.
    if "text_2" in sizes:
        pipe: Any = diffusers.StableDiffusionXLPipeline(
            **modules, tokenizer=words, tokenizer_2=words, add_watermarker=False,
            scheduler=diffusers.EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading"),
        )  # fmt: skip
    else:
        pipe = diffusers.StableDiffusionPipeline(
            **modules, tokenizer=words, scheduler=diffusers.DDIMScheduler(**_NOISE, clip_sample=False),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    target = folder / model
    pipe.save_pretrained(target, safe_serialization=True)
    return target


def flops_of(model: str, *, size: int, steps: int) -> dict[str, float]:
    """FLOPs (a multiplication and an addition are two) of an image of `size` x `size` pixels; no weights are needed for it.

    Returns
    -------
    unet_forward (one pass of one image), vae_decode, per_image (two passes per step, and the decoder).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad():
        unet, vae = make_unet(model), make_vae(model)
        side = size // 2 ** (len(vae.config.block_out_channels) - 1)
        latents = torch.empty(1, 4, side, side)
        text = torch.empty(1, 77, unet.config.cross_attention_dim)
        added = None
        if unet.config.addition_embed_type == "text_time":
            pooled = MODELS[model]["text_2"]["projection_dim"]
            added = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}
        with FlopCounterMode(display=False) as forward:
            unet(latents, torch.empty(1), encoder_hidden_states=text, added_cond_kwargs=added)
        with FlopCounterMode(display=False) as decode:
            vae.decode(latents)
    one, last = float(forward.get_total_flops()), float(decode.get_total_flops())
    return {"unet_forward": one, "vae_decode": last, "per_image": 2 * steps * one + last}


def synchronize(device: str) -> None:
    """Wait for the device's work to end, so that a clock sees it."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def matrix_rate(device: str, dtype: str, *, tries: int = 5) -> float:
    """FLOP/s of one large square matrix product, the best of several tries."""
    import torch

    side, repeats = (8192, 20) if device.startswith("cuda") else (1024, 4)
    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    torch.mm(left, right)
    best = 0.0
    for _ in range(tries):
        synchronize(device)
        started = time.perf_counter()
        for _ in range(repeats):
            torch.mm(left, right)
        synchronize(device)
        best = max(best, repeats * 2 * side**3 / (time.perf_counter() - started))
    return best


class Bench:
    """The contenders on one pipeline. Each makes the images of a round and gives their files."""

    def __init__(
        self, folder: Path, root: Path, *, device: str, dtype: str, compiled: bool, steps: int, size: int, batch: int, images: int
    ) -> None:  # fmt: skip
        import diffusers
        import torch

        from allfour.models.generators.stable_diffusion import StableDiffusion

        self.root, self.device, self.steps, self.size, self.batch, self.images = (
            root,
            device,
            steps,
            size,
            batch,
            images,
        )
        self.compiled = compiled
        self.ours = StableDiffusion(
            model=str(folder), dtype=dtype, device=device, steps=steps, guidance_scale=GUIDANCE, height=size, width=size,
            batch_size=batch, compile=compiled,
        )  # fmt: skip
        self.ours.identity()  # reads all weights once for their hash, which is no part of an image's cost
        # A pipeline of its own: compiling changes the network in place.
        self.plain = diffusers.AutoPipelineForText2Image.from_pretrained(
            str(folder), dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True
        ).to(device)
        self.plain.set_progress_bar_config(disable=True)

    def contenders(self) -> dict[str, Callable[[int], list[Path]]]:
        """Name -> what makes a round's images."""
        named: dict[str, Callable[[int], list[Path]]] = {"ours": self._ours}
        if self.compiled:
            named["ours_eager"] = self._ours_eager
        return named | {
            "diffusers_one": lambda number: self._diffusers(number, 1),
            "diffusers_batch": lambda number: self._diffusers(number, self.batch),
        }

    def _requests(self, number: int) -> list[Any]:
        """Images of a round: few prompts, many images of each, as an audit has them."""
        from allfour.models.generators.base import GenerationRequest, image_seed

        made = []
        for k in range(self.images):
            prompt = k * len(PROMPTS) // self.images
            key = f"prompt_{prompt}"
            made.append(GenerationRequest(key, k, _prompt(prompt, number), image_seed(number, key, k)))
        return made

    def _ours(self, number: int) -> list[Path]:
        from allfour.pipeline.config import Prompt, PromptSet
        from allfour.pipeline.generation.generate import generate_images
        from allfour.pipeline.generation.plan import Plan
        from allfour.pipeline.run.folder import RunFolder

        prompts = PromptSet(
            name="benchmark",
            prompts=tuple(Prompt(text=_prompt(k, number), id=f"prompt_{k}") for k in range(len(PROMPTS))),
        )
        run = RunFolder(Path(tempfile.mkdtemp(dir=self.root)))
        generate_images(run, Plan(prompts, tuple(self._requests(number))), self.ours)
        return sorted(run.path.rglob("*.png"))

    def _ours_eager(self, number: int) -> list[Path]:
        with self._network_paused():
            return self._ours(number)

    @contextlib.contextmanager
    def _network_paused(self) -> Iterator[None]:
        network = self.ours._compiled
        if network is None:
            raise RuntimeError("ours runs before ours_eager, so that the network is compiled")
        network.paused = True
        try:
            yield
        finally:
            network.paused = False

    def _diffusers(self, number: int, batch: int) -> list[Path]:
        import torch

        requests = self._requests(number)
        folder = Path(tempfile.mkdtemp(dir=self.root))
        files = []
        for first in range(0, len(requests), batch):
            some = requests[first : first + batch]
            images = self.plain(
                [request.prompt for request in some], num_inference_steps=self.steps, guidance_scale=GUIDANCE,
                height=self.size, width=self.size,
                generator=[torch.Generator("cpu").manual_seed(request.seed) for request in some],
            ).images  # fmt: skip
            for request, image in zip(some, images, strict=True):
                files.append(folder / f"{request.index}.png")
                image.save(files[-1])
        return files


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """img/s of every contender, the seconds of the first round, and how many times ours is as fast.

    Raises
    ------
    RuntimeError
        A contender made fewer images than asked for.
    """
    runs = bench.contenders()
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    result: dict[str, Any] = {name: {} for name in runs}
    for number in range(rounds + 1):
        # The first round in this order, since ours_eager needs ours' network.
        for name in list(runs) if number % 2 == 0 else list(reversed(runs)):
            synchronize(bench.device)
            started = time.perf_counter()
            files = runs[name](number)
            synchronize(bench.device)
            seconds = time.perf_counter() - started
            if len(files) != bench.images:
                raise RuntimeError(
                    f"{name} made {len(files)} images of {bench.images}: see outcomes.jsonl for the reason"
                )
            if number:
                speeds[name].append(bench.images / seconds)
            else:
                result[name] = {
                    "warm_up_s": seconds,
                    "png_bytes": float(np.mean([path.stat().st_size for path in files])),
                }
            print(f"round {number} {name}: {bench.images / seconds:.3f} img/s", file=sys.stderr, flush=True)
            for path in files:
                path.unlink()
    for name, values in speeds.items():
        result[name] |= {"img_per_s": float(np.median(values)), "min": min(values), "max": max(values)}
    result["ours_over"] = {
        name: result["ours"]["img_per_s"] / result[name]["img_per_s"] for name in runs if name != "ours"
    }
    return result


def break_even(speeds: dict[str, Any], *, compile_seconds: float, steps: int, size: int) -> float | None:
    """Denoising steps of 512 x 512 pixels that pay for compiling; None where it saves nothing."""
    from allfour.models.generators._diffusion.compiling import work

    saved = 1 / speeds["ours_eager"]["img_per_s"] - 1 / speeds["ours"]["img_per_s"]
    return compile_seconds / saved * work(images=1, steps=steps, pixels=size**2) if saved > 0 else None


def device_name(device: str) -> str:
    """The accelerator's name, or the processor's."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the model's own size and steps where none are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="sd15")
    parser.add_argument("--steps", type=int, help="default: the model's")
    parser.add_argument("--size", type=int, help="side in pixels; default: the model's")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=16, help="per round, a multiple of --batch")
    parser.add_argument("--rounds", type=int, default=3, help="after one that warms up")
    parser.add_argument("--compile", choices=("true", "false"), help="default: true on CUDA, else false")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--flops-only", action="store_true", help="count parameters and FLOPs, and generate nothing")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args(arguments)
    options.size = options.size or MODELS[options.model]["size"]
    options.steps = options.steps or MODELS[options.model]["steps"]
    if min(options.steps, options.size, options.batch, options.images, options.rounds) < 1:
        parser.error("--steps, --size, --batch, --images and --rounds must be at least 1")
    if options.size % 64:
        parser.error(f"--size {options.size}: must be a multiple of 64")
    if options.images % options.batch:
        parser.error(f"--images {options.images}: must be a multiple of --batch {options.batch}")
    return options


def parameters(model: str) -> dict[str, int]:
    """Numbers of weights of the network and the decoder."""
    import torch

    with torch.device("meta"):
        modules = {"unet": make_unet(model), "vae": make_vae(model)}
    return {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured, ready for JSON."""
    import torch

    from allfour.models.generators._diffusion.loading import pick_device, pick_dtype

    device = pick_device(options.device)
    dtype = pick_dtype(torch, options.dtype, device)
    compiled = device.startswith("cuda") if options.compile is None else options.compile == "true"
    flops = flops_of(options.model, size=options.size, steps=options.steps)
    with tempfile.TemporaryDirectory() as name:
        folder = save_pipeline(options.model, Path(name), device=device, dtype=dtype)
        bench = Bench(
            folder, Path(name), device=device, dtype=dtype, compiled=compiled, steps=options.steps, size=options.size,
            batch=options.batch, images=options.images,
        )  # fmt: skip
        speeds = measure(bench, options.rounds)
        facts = bench.ours.facts()
    rate = matrix_rate(device, dtype)
    result = {
        "device": device_name(device), "dtype": dtype, "compiled": facts["compiled"],
        "batch": facts["batch_size"], "compile_s": facts["compile_seconds"], "speeds": speeds, "flops": flops,
        "matrix_flops_per_s": rate, "ours_share_of_rate": speeds["ours"]["img_per_s"] * flops["per_image"] / rate,
    }  # fmt: skip
    if compiled:
        result["break_even"] = break_even(
            speeds, compile_seconds=facts["compile_seconds"], steps=options.steps, size=options.size
        )
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    result: dict[str, Any] = {
        "date": dt.date.today().isoformat(),
        "command": " ".join(["python", "scripts/bench_generation.py", *words]),
        "versions": {name: metadata.version(name) for name in ("torch", "diffusers", "transformers")},
        "model": options.model, "steps": options.steps, "size": options.size, "images": options.images,
        "rounds": options.rounds, "parameters": parameters(options.model),
    }  # fmt: skip
    if options.flops_only:
        result["flops"] = flops_of(options.model, size=options.size, steps=options.steps)
    else:
        result |= benchmark(options)
    put_out(result, options.out)


if __name__ == "__main__":
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # its advice on loading is no result
    main()
