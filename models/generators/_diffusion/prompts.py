"""Text embeddings, computed once per prompt where the pipeline takes them, in place of the prompts themselves."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping, Sequence
from typing import Any


class PromptEncoder:
    """Turns prompts into the pipeline's arguments.

    Parameters
    ----------
    pipe
        A diffusers pipeline.
    guidance_scale
        None is the pipeline's default.
    extra
        Further arguments of the pipeline's call; those that encoding takes too, such as max_sequence_length, are given to it.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        device: str,
        guidance_scale: float | None,
        negative_prompt: str | None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._extra = dict(extra or {})
        self._pipe, self._device, self._negative = pipe, device, negative_prompt
        self._accepted = inspect.signature(pipe.__call__).parameters
        default = self._accepted["guidance_scale"].default if "guidance_scale" in self._accepted else 1.0
        self._scale = default if guidance_scale is None else guidance_scale
        self._names, self._options = self._how()
        self._stored: dict[str, dict[str, Any] | None] = {}
        self._one_at_a_time = threading.Lock()
        """A tokenizer is one thread's at a time."""

    @property
    def once(self) -> bool:
        """Whether a prompt is encoded once, here, and not by every call of the pipeline."""
        return bool(self._names)

    def arguments(self, prompts: Sequence[str]) -> dict[str, Any]:
        """What the pipeline is called with for these prompts, one image each."""
        import torch

        if self._names:
            with self._one_at_a_time:
                for prompt in prompts:
                    if prompt not in self._stored:
                        self._stored[prompt] = self._encode(prompt)
            rows = [self._stored[prompt] for prompt in prompts]
            known = [row for row in rows if row is not None]
            if len(known) == len(rows) and len({tuple(v.shape for v in row.values()) for row in known}) == 1:
                arguments: dict[str, Any] = {n: torch.cat([row[n] for row in known]).to(self._device) for n in known[0]}
                default = self._accepted["negative_prompt"].default if "negative_prompt" in self._accepted else None
                # A default that is a text would stand beside the embedding of it, which is an error.
                return arguments | ({} if default is None else {"negative_prompt": None})
        plain: dict[str, Any] = {"prompt": list(prompts)}
        if self._negative is not None and "negative_prompt" in self._accepted:
            plain["negative_prompt"] = [self._negative] * len(prompts)
        return plain

    def forget(self) -> None:
        """Drop what was encoded so far."""
        self._stored.clear()

    def _how(self) -> tuple[list[str], dict[str, Any]]:
        """Names of the embeddings, in the order in which `encode_prompt` gives them, and its options; no names where the pipeline
        does it in a way that we do not know."""
        encode = getattr(self._pipe, "encode_prompt", None)
        if encode is None or any("mask" in name for name in self._accepted):  # such pipelines want masks beside them
            return [], {}
        takes = inspect.signature(encode).parameters
        options: dict[str, Any] = {"device": self._device, "num_images_per_prompt": 1}
        if not {"prompt", *options} <= set(takes):
            return [], {}
        options |= {name: value for name, value in self._extra.items() if name in takes}
        if {"do_classifier_free_guidance", "negative_prompt"} <= set(takes):
            names = ["prompt_embeds", "negative_prompt_embeds"]
            if "pooled_prompt_embeds" in self._accepted:
                names += ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
            options |= {"do_classifier_free_guidance": self._scale > 1, "negative_prompt": self._negative}
        else:  # a pipeline of a distilled model; with guidance it would encode an empty prompt beside each
            if self._negative is not None or (self._scale > 1 and "true_cfg_scale" not in self._accepted):
                return [], {}
            names = ["prompt_embeds"] + ["pooled_prompt_embeds"] * ("pooled_prompt_embeds" in self._accepted)
        left = [
            n for n, p in takes.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD and n not in options
        ]
        # Stable Diffusion 3 wants a prompt for each encoder; none means the first.
        options |= {name: None for name in left if name in ("prompt_2", "prompt_3", "prompt_4")}
        known = set(left) <= {"prompt", *options} and set(names) <= set(self._accepted)
        return (names, options) if known else ([], {})

    def _encode(self, prompt: str) -> dict[str, Any] | None:
        """Embeddings by name, on the CPU, since a large prompt set must not fill the accelerator; None where they are no tensors."""
        import torch

        with torch.inference_mode():
            values = self._pipe.encode_prompt(prompt=prompt, **self._options)
        named: Mapping[str, Any] = {n: v for n, v in zip(self._names, values, strict=False) if v is not None}
        if "prompt_embeds" not in named or not all(torch.is_tensor(v) for v in named.values()):
            return None
        return {name: value.clone().cpu() for name, value in named.items()}
