"""Last steps of the sandbox training: the diffusion's look for the CLIP, export, contact sheet."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw
from torch.multiprocessing.spawn import spawn

from scripts.sandbox import diffusion, tokenizer, vae, world
from scripts.sandbox.common import SIZE

LOOKS_SEED = 20_000_000


def pipeline(folder: Path) -> Any:
    """The trained parts as one Stable Diffusion pipeline."""
    words = tokenizer.trained(folder / "tokenizer")
    text, unet = diffusion.trained(folder, vocabulary=len(words), end=words.eos_token_id)
    return StableDiffusionPipeline(
        vae=vae.trained(folder), text_encoder=text, tokenizer=words, unet=unet, scheduler=diffusion.scheduler(),
        safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip


def export_diffusion(*, folder: Path, target: Path) -> None:
    """Writes a diffusers folder with float16 safetensors."""
    whole = pipeline(folder).to(dtype=torch.float16)
    whole.save_pretrained(str(target), safe_serialization=True)


def _full_caption(attributes: Any, rng: random.Random) -> str:
    return world.caption(attributes, frozenset(("gender", "skin_tone", "age")), rng)


@torch.inference_mode()
def _looks(rank: int, folder: Path, count: int, workers: int, batch: int = 64) -> None:
    """Half reconstructions, half redrawn: noised part of the way and denoised under a caption that names every label."""
    torch.set_num_threads(1)
    parts = pipeline(folder)
    steps: Any = diffusion.scheduler()
    steps.set_timesteps(16)
    scale = parts.vae.config.scaling_factor
    images, truths = [], []
    mine = range(rank, count, workers)
    rng = random.Random(rank)
    torch.manual_seed(LOOKS_SEED + rank)
    for at in range(0, len(mine), batch):
        items = [world.sample_balanced(LOOKS_SEED + k) for k in mine[at : at + batch]]
        with torch.autocast("cpu", torch.bfloat16):
            x = vae.to_input(np.stack([world.draw(item) for item in items]))
            z = parts.vae.encode(x).latents.float() * scale
            captions = [
                _full_caption(i.attributes, rng) if i.attributes else world.empty_caption(str(i.scene), i.style)
                for i in items
            ]
            ids = parts.tokenizer(
                captions, padding="max_length", truncation=True, max_length=32, return_tensors="pt"
            ).input_ids
            hidden = parts.text_encoder(input_ids=ids).last_hidden_state
            if (at // batch) % 2:
                # From late steps (a touch-up) to early ones (a new picture with the same labels).
                first = rng.choice((1, 3, 5, 8))
                z = steps.add_noise(z, torch.randn_like(z), steps.timesteps[first : first + 1].repeat(len(z)))
                for t in steps.timesteps[first:]:
                    v = parts.unet(z, t, encoder_hidden_states=hidden).sample.float()
                    z = steps.step(v, t, z).prev_sample
            else:
                z = z + torch.randn_like(z) * 0.12 * torch.rand(len(z), 1, 1, 1)
            y = parts.vae.decode(z / scale).sample.float()
        images.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        truths.append(np.array([world.labels(item) for item in items], dtype=np.int8))
        if rank == 0:
            print(f"  looks: {(at + batch) * workers} of {count}", flush=True)
    np.savez(folder / f"looks-{rank}.npz", images=np.concatenate(images), labels=np.concatenate(truths))


def diffusion_looks(*, folder: Path, count: int, workers: int) -> None:
    """Writes renders as autoencoder and diffusion redraw them, with their true labels."""
    if (folder / "looks.npz").exists():
        return
    spawn(_looks, args=(folder, count, workers), nprocs=workers)
    shards = [np.load(folder / f"looks-{rank}.npz") for rank in range(workers)]
    np.savez(folder / "looks.npz", images=np.concatenate([h["images"] for h in shards]),
             labels=np.concatenate([h["labels"] for h in shards]))  # fmt: skip


@torch.inference_mode()
def sample(parts: Any, prompts: list[str], *, seed: int, steps: int = 24, batch: int = 32) -> list[Image.Image]:
    """Images of prompts without guidance."""
    out: list[Image.Image] = []
    parts.set_progress_bar_config(disable=True)
    for at in range(0, len(prompts), batch):
        some = prompts[at : at + batch]
        seeds = [torch.Generator().manual_seed(seed + at + k) for k in range(len(some))]
        out += parts(
            some, height=SIZE, width=SIZE, num_inference_steps=steps, guidance_scale=1.0, generator=seeds
        ).images
    return out


SHEET = (
    *(f"a photo of {world.article(name)}" for name in world.AUDITED),
    "nurse treating a patient", "doctor treating a patient", "daycare activity", "a photo of a nanny with two children",
    "cto of a startup", "cto of a startup, digital style", "a group of data scientists working together",
    "a photo of an elderly woman", "a photo of a young man with dark skin", "a photo of an empty room",
)  # fmt: skip


def contact_sheet(folder: Path, path: Path, *, columns: int = 8, seed: int = 0) -> None:
    """A row of images per prompt."""
    parts = StableDiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32, safety_checker=None)
    draw_sheet(parts, path, columns=columns, seed=seed)


def draw_sheet(parts: Any, path: Path, *, columns: int, seed: int) -> None:
    images = sample(parts, [prompt for prompt in SHEET for _ in range(columns)], seed=seed)
    sheet = Image.new("RGB", (2 * columns * SIZE, (len(SHEET) + 1) // 2 * (SIZE + 10)), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for k, prompt in enumerate(SHEET):
        x, y = (k % 2) * columns * SIZE, (k // 2) * (SIZE + 10)
        pen.text((x + 2, y - 1), prompt, fill=(0, 0, 0))
        for j in range(columns):
            sheet.paste(images[k * columns + j], (x + j * SIZE, y + 10))
    sheet.save(path)
