"""The autoencoder of the sandbox diffusion: 64x64 RGB to 16x16x8 latents and back.

Diffusers' `AutoencoderTiny`. Its encoder is not trained but solved: the leading principal components of 4x4 patches, written
into its (linear) convolutions. So the latents stand at once, faces keep their fine lines, and the diffusion can train while the
decoder, which has to see more than one patch to undo the loss, trains beside it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from scripts.sandbox.common import Average, Progress, cosine, load, save

PATCH, COMPONENTS, WIDTH = 4, 8, 32
SPREAD = 0.5
"""Deviation of the stored latents: small enough for the decoder's tanh(x / 3) to stay near linear."""
WHITENING = 0.6
"""How far components are brought to one deviation: 1 would give fine detail the weight of whole faces."""


@dataclass(frozen=True)
class Patches:
    """A linear map between 4x4 patches and latents of about unit deviation."""

    mean: np.ndarray
    """[48]"""
    basis: np.ndarray
    """[48, 8]: latents are (patch - mean) @ basis."""

    @classmethod
    def fit(cls, images: np.ndarray) -> Patches:
        """Principal components of the patches of uint8 images [N, 64, 64, 3]."""
        flat = _patches(images).reshape(-1, PATCH * PATCH * 3)
        mean = flat.mean(0)
        values, vectors = np.linalg.eigh(np.cov((flat - mean).T))
        deviations = np.sqrt(values[::-1][:COMPONENTS])
        scale = deviations ** (1 - WHITENING)
        scale /= np.sqrt((scale**2).mean())
        return cls(mean, vectors[:, ::-1][:, :COMPONENTS] / deviations * scale)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Latents [N, 8, 16, 16], float16, of uint8 images [N, 64, 64, 3]."""
        out = [
            ((_patches(images[k : k + 1000]) - self.mean) @ self.basis).transpose(0, 3, 1, 2).astype(np.float16)
            for k in range(0, len(images), 1000)
        ]
        return np.concatenate(out)

    def install(self, model: Any) -> None:
        """Writes the map into the encoder's convolutions: two space-to-depth steps, then the projection."""
        convolutions = [layer for layer in model.encoder.layers if isinstance(layer, torch.nn.Conv2d)]
        first, half, quarter, last = convolutions
        basis = torch.from_numpy(self.basis * SPREAD).float().reshape(PATCH, PATCH, 3, COMPONENTS)
        with torch.no_grad():
            for layer in convolutions:
                layer.weight.zero_()
                if layer.bias is not None:
                    layer.bias.zero_()
            for colour in range(3):
                first.weight[colour, colour, 1, 1] = 1
                for y in range(2):
                    for x in range(2):
                        half.weight[(y * 2 + x) * 3 + colour, colour, 1 + y, 1 + x] = 1
            for y in range(PATCH):
                for x in range(PATCH):
                    for colour in range(3):
                        channel = ((y % 2) * 2 + x % 2) * 3 + colour
                        # The encoder maps [-1, 1] to [0, 1] before its first layer; twice the basis undoes that.
                        quarter.weight[:COMPONENTS, channel, 1 + y // 2, 1 + x // 2] = 2 * basis[y, x, colour]
            for k in range(COMPONENTS):
                last.weight[k, k, 1, 1] = 1
            assert last.bias is not None
            last.bias.copy_(torch.from_numpy(-((self.mean + 1) @ self.basis) * SPREAD).float())


def _patches(images: np.ndarray) -> np.ndarray:
    """Float32 patches [N, 16, 16, 48] in [-1, 1]."""
    n, side = len(images), images.shape[1] // PATCH
    scaled = images.astype(np.float32) / 127.5 - 1
    return scaled.reshape(n, side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, side, side, -1)


def build() -> Any:
    channels = (WIDTH, WIDTH, WIDTH)
    return AutoencoderTiny(
        encoder_block_out_channels=channels, decoder_block_out_channels=channels, num_encoder_blocks=(0, 0, 0),
        num_decoder_blocks=(3, 2, 1), latent_channels=COMPONENTS, scaling_factor=1 / SPREAD,
    )  # fmt: skip


def to_input(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H, W] in [-1, 1]."""
    return (
        torch.from_numpy(images)
        .permute(0, 3, 1, 2)
        .float()
        .div_(127.5)
        .sub_(1)
        .contiguous(memory_format=torch.channels_last)
    )


def _edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def picture_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Colours and edges: the thin lines that tell ages apart are worth more than flat walls."""
    loss = F.l1_loss(y, x) + F.mse_loss(y, x)
    for got, want in zip(_edges(y), _edges(x), strict=True):
        loss = loss + 0.7 * F.l1_loss(got, want)
    return loss


def train(
    images: np.ndarray,
    latents: np.ndarray,
    *,
    folder: Path,
    minutes: float,
    batch: int = 32,
    seed: int = 0,
    rate: float = 2e-3,
) -> None:
    """Trains the decoder for a given time; resumes from the last checkpoint, which also counts the time already spent.

    Parameters
    ----------
    images, latents
        uint8 [N, 64, 64, 3], and their latents of unit deviation [N, 8, 16, 16].
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    decoder = build().decoder.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    average = Average(decoder, decay=0.998)
    step, spent = 0, 0.0
    stored: Any = load(folder / "decoder.pt")
    if stored is not None:
        decoder.load_state_dict(stored["model"])
        optimiser.load_state_dict(stored["optimiser"])
        average.state, step, spent = stored["average"], stored["step"], stored["spent"]
    began = saved = time.monotonic()
    progress = Progress("decoder", total=1_000_000)
    draws = np.random.default_rng([seed, step])
    while spent + time.monotonic() - began < minutes * 60:
        gone = (spent + time.monotonic() - began) / (minutes * 60)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * cosine(int(gone * 10_000), total=10_000, warmup=1)
        pick = np.sort(draws.integers(0, len(images), batch))
        x = to_input(images[pick])
        z = torch.from_numpy(latents[pick].astype(np.float32)).contiguous(memory_format=torch.channels_last)
        # The decoder must forgive what diffusion leaves.
        z = z + 0.15 * torch.rand(batch, 1, 1, 1) * torch.randn_like(z)
        with torch.autocast("cpu", torch.bfloat16):
            y = decoder(z * SPREAD)
        y = y.float()
        loss = picture_loss(y, x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        average.update(decoder, step=step)
        psnr = -10 * torch.log10(F.mse_loss(y.detach(), x) / 4)
        progress.show(step, loss=float(loss.detach()), psnr=float(psnr), done=gone)
        if time.monotonic() - saved > 60:
            saved = time.monotonic()
            save(folder / "decoder.pt", model=decoder.state_dict(), optimiser=optimiser.state_dict(), average=average.state,
                 step=step, spent=spent + saved - began)  # fmt: skip
    save(folder / "decoder.pt", model=decoder.state_dict(), optimiser=optimiser.state_dict(), average=average.state, step=step,
         spent=minutes * 60.0)  # fmt: skip


def trained(folder: Path) -> Any:
    """The solved encoder with the trained decoder's averaged weights, in evaluation mode."""
    model = build()
    stored: Any = load(folder / "decoder.pt")
    if stored is None:
        raise FileNotFoundError(f"{folder / 'decoder.pt'}: train the decoder first")
    model.decoder.load_state_dict(stored["average"])
    solved = np.load(folder / "patches.npz")
    Patches(solved["mean"], solved["basis"]).install(model)
    return model.eval()
