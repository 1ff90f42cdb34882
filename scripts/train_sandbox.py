"""Trains the sandbox from nothing: draws the world, trains the diffusion and the CLIP, writes weights and a contact sheet.

One command, seeded, resumable: each stage keeps its state under build/sandbox/ and is skipped once done. Times are budgets in
minutes of one process (the diffusion: of one process per core), so that a run ends when it says it will.

    python scripts/train_sandbox.py                    # everything
    python scripts/train_sandbox.py --only diffusion   # one stage
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from torch.multiprocessing.spawn import spawn

from scripts.sandbox import clip, diffusion, finish, tokenizer, vae, world
from scripts.sandbox.common import CACHE, PLANTED, WEIGHTS

BALANCED_SEED = 10_000_000


def stage_data(args: argparse.Namespace) -> None:
    for name, count, balanced, first in (
        ("captioned", args.captioned, False, 0),
        ("balanced", args.balanced, True, BALANCED_SEED),
    ):
        path = CACHE / f"{name}.npz"
        if not path.exists():
            world.build(path, count=count, planted=PLANTED, balanced=balanced, first_seed=first, workers=args.workers)


def stage_latents(args: argparse.Namespace) -> None:
    if (CACHE / "latents.npz").exists():
        return
    captions, images = _captions(), _images("captioned")
    tokenizer.train(sorted(set(captions.tolist())), folder=CACHE / "tokenizer")
    words = tokenizer.trained(CACHE / "tokenizer")
    distinct, where = np.unique(captions, return_inverse=True)
    ids = np.array(
        words(distinct.tolist(), padding="max_length", truncation=True, max_length=tokenizer.LENGTH).input_ids
    )
    empty = np.array(words("", padding="max_length", truncation=True, max_length=tokenizer.LENGTH).input_ids)
    patches = vae.Patches.fit(images[:3000])
    np.savez(CACHE / "patches.npz", mean=patches.mean, basis=patches.basis)
    latents = patches.encode(images)
    partial = CACHE / "latents.partial.npz"
    np.savez(partial, latents=latents, tokens=ids[where].astype(np.int16), empty=empty.astype(np.int16))
    partial.rename(CACHE / "latents.npz")
    print(
        f"latents: {latents.shape}, deviation {latents[:5000].astype(np.float32).std():.3f}, {len(distinct)} captions",
        flush=True,
    )


def _diffusion(rank: int, args: argparse.Namespace) -> None:
    arrays = np.load(CACHE / "latents.npz")
    words = tokenizer.trained(CACHE / "tokenizer")
    diffusion.train(
        latents=arrays["latents"], tokens=arrays["tokens"], empty=arrays["empty"], folder=CACHE, minutes=args.diffusion_minutes,
        rank=rank, world=args.workers, vocabulary=len(words), end=words.eos_token_id, seed=args.seed,
    )  # fmt: skip


def stage_diffusion(args: argparse.Namespace) -> None:
    for old in CACHE.glob("rendezvous-*"):
        old.unlink()
    spawn(_diffusion, args=(args,), nprocs=args.workers)


def stage_decoder(args: argparse.Namespace) -> None:
    latents = np.load(CACHE / "latents.npz")["latents"]
    vae.train(_images("captioned"), latents, folder=CACHE, minutes=args.decoder_minutes, seed=args.seed)


def stage_clip(args: argparse.Namespace) -> None:
    arrays = np.load(CACHE / "balanced.npz")
    clip.train([(arrays["images"], arrays["labels"], 1.0)], folder=CACHE, minutes=args.clip_minutes, seed=args.seed)


def stage_looks(args: argparse.Namespace) -> None:
    finish.diffusion_looks(folder=CACHE, count=args.looks, workers=args.workers)


def stage_clip_tuned(args: argparse.Namespace) -> None:
    arrays, looks = np.load(CACHE / "balanced.npz"), np.load(CACHE / "looks.npz")
    sets = [(arrays["images"], arrays["labels"], 0.5), (looks["images"], looks["labels"], 0.5)]
    clip.train(
        sets,
        folder=CACHE,
        minutes=args.tune_minutes,
        name="clip-tuned",
        rate=1e-3,
        seed=args.seed,
        start=CACHE / "clip.pt",
    )


def stage_export(args: argparse.Namespace) -> None:
    finish.export_diffusion(folder=CACHE, target=WEIGHTS / "diffusion")
    tuned = CACHE / "clip-tuned.pt"
    clip.export(tuned if tuned.exists() else CACHE / "clip.pt", WEIGHTS / "clip")
    for path in WEIGHTS.rglob("*.safetensors"):
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors"))
    print(f"weights: {size / 1e6:.1f} MB under {WEIGHTS.relative_to(WEIGHTS.parents[1])}", flush=True)


def stage_sheet(args: argparse.Namespace) -> None:
    finish.contact_sheet(WEIGHTS / "diffusion", CACHE / "contact-sheet.png")


STAGES = {
    "data": stage_data, "latents": stage_latents, "diffusion": stage_diffusion, "decoder": stage_decoder,
    "clip": stage_clip, "looks": stage_looks, "clip-tuned": stage_clip_tuned, "export": stage_export, "sheet": stage_sheet,
}  # fmt: skip


def _images(name: str) -> np.ndarray:
    return np.load(CACHE / f"{name}.npz")["images"]


def _captions() -> np.ndarray:
    return np.load(CACHE / "captioned.npz")["captions"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=STAGES, action="append", help="run this stage alone (repeatable)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--captioned", type=int, default=90_000, help="captioned renders, planted rates")
    parser.add_argument("--balanced", type=int, default=50_000, help="renders with every label equally likely")
    parser.add_argument(
        "--looks", type=int, default=5_000, help="renders redrawn by autoencoder and diffusion, for the CLIP"
    )
    parser.add_argument("--diffusion-minutes", type=float, default=46.0)
    parser.add_argument("--decoder-minutes", type=float, default=11.0)
    parser.add_argument("--clip-minutes", type=float, default=16.0)
    parser.add_argument("--tune-minutes", type=float, default=5.0)
    args = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, stage in STAGES.items():
        if args.only and name not in args.only:
            continue
        began = time.monotonic()
        print(f"== {name}", flush=True)
        stage(args)
        print(f"== {name} done in {(time.monotonic() - began) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
