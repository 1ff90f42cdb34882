"""The sandbox CLIP: a small open_clip model that scores the drawn world zero-shot."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from torch.nn.attention import SDPBackend, sdpa_kernel

from allfour.models.generators._portrait.attributes import OCCUPATIONS
from scripts.sandbox.common import Average, Progress, cosine, load, save
from scripts.sandbox.world import article

MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 24, "head_width": 64, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 2},
}
MEAN, DEVIATION = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
SMOOTHING = 0.02
"""Label smoothing, so that probabilities keep to what the model knows."""

_FORMS = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "a portrait of {}",
    "an image of {}",
    "a drawing of {}",
    "the face of {}",
    "a photo of {}.",
    "a picture of {} at work",
)


def _in_forms(*nouns: str, forms: tuple[str, ...] = _FORMS) -> list[str]:
    return [form.format(noun) for form in forms for noun in nouns]


WORDINGS: dict[str, list[list[str]]] = {
    "presence": [
        [*_in_forms("an empty scene", "an empty room", "a landscape", "things without people", "an empty place", forms=("{}", "a photo of {}", "a picture of {}", "{} with nobody in it")), "no person", "nobody", "no people", "a photo without people", "a picture without any person", "a photo with no person", "an image that shows nobody", "objects and no people", "a background without a person"],
        [*_in_forms("a person", "a human face", "somebody", "a human being", "one person"), "a photo with a person", "a picture that shows a person", "people", "a photo of people", "a face"],
    ],
    "gender": [
        [*_in_forms("a woman", "a female person", "a lady", "a woman's face"), "woman", "female", "a person who looks like a woman", "a photo of a person who reads as a woman"],
        [*_in_forms("a man", "a male person", "a gentleman", "a man's face"), "man", "male", "a person who looks like a man", "a photo of a person who reads as a man"],
    ],
    "skin_tone": [
        [*_in_forms(f"a person with {words[0]} skin", f"a {words[0]}-skinned person", f"somebody with {words[1]} skin", f"a person with {words[0]} skin tone", f"a person with {words[2]} skin", f"a person with a {words[0]} complexion"), f"{words[0]} skin", f"{words[1]} skin"]
        for words in (("light", "pale", "fair"), ("medium", "tan", "olive"), ("dark", "deep", "dark brown"))
    ],
    "age": [
        [*_in_forms(*(f"{article(word)} person" for word in words), f"{article(words[0])} adult", f"{article(words[0])} face"), words[0], *more]
        for words, more in (
            (("young", "youthful"), ("a person in their twenties",)),
            (("middle-aged", "middle aged"), ("a person in their fifties", "somebody of middle age")),
            (("elderly", "old", "senior"), ("a person in their eighties", "an older person")),
        )
    ],
    "occupation": [
        *(_in_forms(article(name), f"{article(name)} at work", f"a person working as {article(name)}") for name in OCCUPATIONS),
        _in_forms("a person in everyday clothes", "somebody in plain clothes"),
    ],
}  # fmt: skip
"""Wordings by attribute and label, in the order of `world.labels`. The audit's own wording is among them or close to them."""


def build() -> nn.Module:
    model = open_clip.CLIP(
        embed_dim=MODEL["embed_dim"],
        vision_cfg=open_clip.CLIPVisionCfg(**MODEL["vision_cfg"]),
        text_cfg=open_clip.CLIPTextCfg(**MODEL["text_cfg"]),
    )
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(10.0))
    return model


def to_input(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H, W] in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)


def augment(x: torch.Tensor) -> torch.Tensor:
    """Crops, shifts, light, blur and noise, batch-wise: what a generator's own look does to a picture."""
    n = len(x)
    turn, zoom = (torch.rand(n) - 0.5) * 0.2, 1 + (torch.rand(n) - 0.5) * 0.3
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = torch.cos(turn) * zoom, -torch.sin(turn) * zoom
    theta[:, 1, 0], theta[:, 1, 1] = torch.sin(turn) * zoom, torch.cos(turn) * zoom
    theta[:, :, 2] = (torch.rand(n, 2) - 0.5) * 0.22
    x = F.grid_sample(
        x, F.affine_grid(theta, list(x.shape), align_corners=False), padding_mode="border", align_corners=False
    )
    x = x * (1 + (torch.rand(n, 1, 1, 1) - 0.5) * 0.14) + (torch.rand(n, 3, 1, 1) - 0.5) * 0.05
    x = (x - 0.5) * (1 + (torch.rand(n, 1, 1, 1) - 0.5) * 0.2) + 0.5
    mark = float(torch.rand(()))
    if mark < 0.4:
        sigma = 0.3 + 0.9 * float(torch.rand(()))
        taps = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / sigma) ** 2)
        taps = (taps / taps.sum()).view(1, 1, 7, 1).repeat(3, 1, 1, 1)
        x = F.conv2d(F.conv2d(x, taps, padding=(3, 0), groups=3), taps.transpose(2, 3), padding=(0, 3), groups=3)
    elif mark < 0.5:
        small = F.interpolate(x, scale_factor=0.5 + 0.4 * float(torch.rand(())), mode="area")
        x = F.interpolate(small, size=x.shape[-2:], mode="bilinear")
    if float(torch.rand(())) < 0.4:
        x = x + torch.randn_like(x) * 0.06 * float(torch.rand(()))
    return x.clamp(0, 1)


class Wordings:
    """Tokens of every wording, and text features of a random choice of them."""

    def __init__(self) -> None:
        tokenizer = open_clip.tokenizer.SimpleTokenizer()
        self.tokens = {name: [tokenizer(texts) for texts in groups] for name, groups in WORDINGS.items()}

    def used(self) -> torch.Tensor:
        return torch.unique(torch.cat([t.flatten() for groups in self.tokens.values() for t in groups]))

    def features(self, model: Any) -> dict[str, torch.Tensor]:
        """Unit vectors [labels, embed_dim] by attribute: the mean over one to three wordings of each label."""
        chosen, owner, at = [], [], 0
        for name, groups in self.tokens.items():
            for tokens in groups:
                count = 1 if name == "occupation" else int(torch.randint(1, 4, ()))
                chosen.append(tokens[torch.randint(0, len(tokens), (count,))])
                owner += [at] * count
                at += 1
        vectors = model.encode_text(torch.cat(chosen), normalize=True).float()
        sums = torch.zeros(at, vectors.shape[1]).index_add(0, torch.tensor(owner), vectors)
        means, out, at = F.normalize(sums, dim=-1), {}, 0
        for name, groups in self.tokens.items():
            out[name] = means[at : at + len(groups)]
            at += len(groups)
        return out


def train(
    sets: list[tuple[np.ndarray, np.ndarray, float]], *, folder: Path, minutes: float, name: str = "clip", batch: int = 64,
    rate: float = 2e-3, seed: int = 0, start: Path | None = None,
) -> None:  # fmt: skip
    """Trains for a given time; resumes from the last checkpoint.

    Parameters
    ----------
    sets
        Images (uint8 [N, 64, 64, 3]), labels (int8 [N, 5], see `world.labels`) and the share of each batch they fill.
    start
        A finished checkpoint to go on from, for fine-tuning.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model: Any = build()
    names = list(WORDINGS)
    path = folder / f"{name}.pt"
    optimiser = torch.optim.AdamW(
        [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.02},
         {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}], lr=rate, betas=(0.9, 0.98),
    )  # fmt: skip
    if start is not None:
        before: Any = load(start)
        model.load_state_dict(before["average"])
    # Plain linear heads beside the wordings, dropped at the end: two towers alone start at a saddle, where a question with two
    # labels stays undecided for long.
    heads = nn.ModuleDict({n: nn.Linear(MODEL["embed_dim"], len(groups)) for n, groups in WORDINGS.items()})
    side = torch.optim.AdamW(heads.parameters(), lr=rate)
    average = Average(model, decay=0.995)
    step, spent = 0, 0.0
    stored: Any = load(path)
    if stored is not None:
        model.load_state_dict(stored["model"])
        optimiser.load_state_dict(stored["optimiser"])
        average.state, step, spent = stored["average"], stored["step"], stored["spent"]
    wordings, draws = Wordings(), np.random.default_rng([seed, step])
    mean, deviation = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(DEVIATION).view(1, 3, 1, 1)
    progress = Progress(name, total=1_000_000)
    began = saved = time.monotonic()
    shares = np.array([share for _, _, share in sets]) / sum(share for _, _, share in sets)
    accuracy = dict.fromkeys(names, 0.0)
    model.train()
    model.visual.to(memory_format=torch.channels_last)
    while spent + time.monotonic() - began < minutes * 60:
        gone = (spent + time.monotonic() - began) / (minutes * 60)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * cosine(int(gone * 10_000), total=10_000, warmup=1)
        parts, truths = [], []
        for (images, labels, _), share in zip(sets, shares, strict=True):
            pick = draws.integers(0, len(images), round(batch * share))
            parts.append(images[pick])
            truths.append(labels[pick])
        x = (augment(to_input(np.concatenate(parts))) - mean) / deviation
        truth = torch.from_numpy(np.concatenate(truths).astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            seen = model.encode_image(x.contiguous(memory_format=torch.channels_last))
        # The fused attention's backward pass is slow on a CPU for batches of short texts.
        with sdpa_kernel(SDPBackend.MATH):
            text_features = wordings.features(model)
        seen = F.normalize(seen.float(), dim=-1)
        scale = model.logit_scale.exp()
        loss = torch.zeros(())
        for column, attribute in enumerate(names):
            shown = truth[:, column] >= 0
            logits = scale * seen[shown] @ text_features[attribute].T
            wanted = truth[shown, column]
            loss = loss + F.cross_entropy(logits, wanted, label_smoothing=SMOOTHING)
            loss = loss + 0.5 * F.cross_entropy(heads[attribute](10 * seen[shown]), wanted)
            right = float((logits.detach().argmax(1) == wanted).float().mean())
            accuracy[attribute] = right if step == 0 else 0.95 * accuracy[attribute] + 0.05 * right
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (optimiser, side):
            part.step()
            part.zero_grad(set_to_none=True)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        step += 1
        average.update(model, step=step)
        progress.show(step, loss=float(loss.detach()), scale=float(scale.detach()), **accuracy, done=gone)
        if time.monotonic() - saved > 60:
            saved = time.monotonic()
            save(path, model=model.state_dict(), optimiser=optimiser.state_dict(), average=average.state, step=step,
                 spent=spent + saved - began)  # fmt: skip
    save(
        path,
        model=model.state_dict(),
        optimiser=optimiser.state_dict(),
        average=average.state,
        step=step,
        spent=minutes * 60.0,
    )


def export(checkpoint: Path, folder: Path) -> None:
    """Writes open_clip's own folder: config and float16 weights."""
    from safetensors.torch import save_file

    stored: Any = load(checkpoint)
    if stored is None:
        raise FileNotFoundError(f"{checkpoint}: train the CLIP first")
    state = {name: value.clone() for name, value in stored["average"].items()}
    # Words that no wording uses were never trained: with nothing in their rows they add nothing to a prompt.
    unused = torch.ones(MODEL["text_cfg"]["vocab_size"], dtype=torch.bool)
    unused[Wordings().used()] = False
    state["token_embedding.weight"][unused] = 0
    folder.mkdir(parents=True, exist_ok=True)
    halves = {
        k: v.half().contiguous() if v.is_floating_point() else v.contiguous()
        for k, v in state.items()
        if k != "attn_mask"
    }
    save_file(halves, str(folder / "open_clip_model.safetensors"), metadata={"format": "pt"})
    config = {
        "model_cfg": dict(MODEL.items()),
        "preprocess_cfg": {"mean": MEAN, "std": DEVIATION, "interpolation": "bicubic", "resize_mode": "squash"},
    }
    config["model_cfg"]["vision_cfg"] = {k: v for k, v in MODEL["vision_cfg"].items() if v is not None}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
