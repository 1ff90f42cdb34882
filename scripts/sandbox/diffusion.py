"""The sandbox diffusion: a text encoder and a U-Net trained together on latents of the drawn world."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel

from scripts.sandbox.common import Average, Progress, cosine, load, save, share_gradients
from scripts.sandbox.vae import COMPONENTS

WIDTH = 128
LATENT = 16
DROPOUT = 0.06
"""Share of captions that are emptied, so that guidance has something to lean on where somebody asks for it."""


def scheduler() -> Any:
    # Zero terminal SNR with v-prediction: colours of whole backgrounds must be drawn from pure noise.
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=True, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
    )  # fmt: skip


def build(*, vocabulary: int, end: int) -> nn.ModuleDict:
    """The two modules; their sizes are what two CPU cores can train in about an hour."""
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=4 * WIDTH, projection_dim=WIDTH,
            num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=32, hidden_act="quick_gelu",
            bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
        )
    )  # fmt: skip
    unet: Any = UNet2DConditionModel(
        sample_size=LATENT, in_channels=COMPONENTS, out_channels=COMPONENTS, block_out_channels=(64, 96, 160), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=WIDTH,
        attention_head_dim=4, norm_num_groups=16, addition_embed_type="text", addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    return nn.ModuleDict({"text": text, "unet": unet})


def train(
    *, latents: np.ndarray, tokens: np.ndarray, empty: np.ndarray, folder: Path, minutes: float, rank: int, world: int,
    vocabulary: int, end: int, batch: int = 32, rate: float = 1e-3, seed: int = 0,
) -> None:  # fmt: skip
    """Trains for a given time, one process per core; resumes from the last checkpoint.

    Parameters
    ----------
    latents
        [N, 8, 16, 16], scaled to unit deviation.
    tokens, empty
        Caption token ids [N, 32] and those of the empty caption [32].
    batch
        Samples per process and step.
    """
    torch.set_num_threads(1)
    if world > 1:
        store = dist.FileStore(str(folder / f"rendezvous-{os.getppid()}"), world)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    torch.manual_seed(seed)
    model = build(vocabulary=vocabulary, end=end)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    average = Average(model, decay=0.9985)
    step, spent = 0, 0.0
    stored: Any = load(folder / "diffusion.pt")
    if stored is not None:
        model.load_state_dict(stored["model"])
        optimiser.load_state_dict(stored["optimiser"])
        average.state, step, spent = stored["average"], stored["step"], stored["spent"]
    alphas = scheduler().alphas_cumprod
    draws = np.random.default_rng([seed, rank, step])
    torch.manual_seed(seed * 1_000_003 + step * 17 + rank)
    blank = torch.from_numpy(empty.astype(np.int64))
    began = saved = time.monotonic()
    progress = Progress("diffusion", total=1_000_000, every=30)
    running = 0.0
    while True:
        gone = (spent + time.monotonic() - began) / (minutes * 60)
        if world > 1:
            clock = torch.tensor([gone])
            dist.broadcast(clock, 0)
            gone = float(clock)
        if gone >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200) * cosine(int(gone * 10_000), total=10_000, warmup=1)
        pick = np.sort(draws.integers(0, len(latents), batch))
        x = torch.from_numpy(latents[pick].astype(np.float32))
        ids = torch.from_numpy(tokens[pick].astype(np.int64))
        ids[torch.rand(batch) < DROPOUT] = blank
        # Stratified times: lower variance than independent ones.
        t = ((torch.arange(batch) + torch.rand(batch)) / batch * 1000).long().clamp_(0, 999)[torch.randperm(batch)]
        noise = torch.randn_like(x)
        a = alphas[t].view(-1, 1, 1, 1)
        noisy, target = a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x
        # The fused attention's backward pass is slow on a CPU for sequences as short as these.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            words = model["text"](input_ids=ids).last_hidden_state
            guess = model["unet"](noisy, t, encoder_hidden_states=words).sample
        loss = F.mse_loss(guess.float(), target)
        loss.backward()
        share_gradients([model], world=world)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        average.update(model, step=step)
        running = float(loss.detach()) if running == 0.0 else 0.98 * running + 0.02 * float(loss.detach())
        if rank == 0:
            progress.show(step, loss=running, done=gone, minutes_left=(1 - gone) * minutes)
            if time.monotonic() - saved > 120:
                saved = time.monotonic()
                save(folder / "diffusion.pt", model=model.state_dict(), optimiser=optimiser.state_dict(),
                     average=average.state, step=step, spent=spent + saved - began)  # fmt: skip
    if rank == 0:
        save(folder / "diffusion.pt", model=model.state_dict(), optimiser=optimiser.state_dict(), average=average.state,
             step=step, spent=minutes * 60.0)  # fmt: skip
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def trained(folder: Path, *, vocabulary: int, end: int) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Averaged weights, in evaluation mode."""
    stored: Any = load(folder / "diffusion.pt")
    if stored is None:
        raise FileNotFoundError(f"{folder / 'diffusion.pt'}: train the diffusion first")
    model = build(vocabulary=vocabulary, end=end)
    model.load_state_dict(stored["average"])
    return model["text"].eval(), model["unet"].eval()  # type: ignore[return-value]
