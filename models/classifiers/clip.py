"""Zero-shot classification with CLIP (Radford et al. 2021), through open_clip.

Probabilities are the softmax over a question's labels of logit scale x cosine, with the model's own logit scale, in fp32. A
label's text vector is the mean of the unit vectors of its wordings, renormalised (the prompt ensemble of that paper).

The presence gate of a model that was trained with a sigmoid (SigLIP, Zhai et al. 2023) is read by that sigmoid: how well each of the
gate's two sentences fits is a probability of its own there, bias and all, and the two are set against each other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from PIL import Image

from allfour.models import skin_tone
from allfour.models.attributes import PRESENCE, AttributeSet
from allfour.models.classifiers import clip_weights
from allfour.models.classifiers._clip.encoder import ClipEncoder
from allfour.models.classifiers.base import ByteArray, FloatArray, HalfArray, Staging
from allfour.models.classifiers.views import steadiness
from allfour.models.detectors.base import PeopleFinder

__all__ = ["ClipClassifier", "ClipEncoder", "OverClip"]


class OverClip:
    """What every classifier over a `ClipEncoder` passes on to it: see `allfour.models.classifiers.base`."""

    _encoder: ClipEncoder
    people: PeopleFinder | None = None
    """Who is read one by one, where an image shows several; see `allfour.models.detectors.base`."""

    @property
    def attributes(self) -> AttributeSet:
        raise NotImplementedError

    def measured_identity(self) -> Mapping[str, Any]:
        """Of what answers in place of the wording, where something does."""
        return {"skin_tone": skin_tone.identity()} if self.attributes.measured else {}

    @property
    def embedding_dim(self) -> int:
        return self._encoder.embedding_dim

    def encoder_identity(self) -> Mapping[str, Any]:
        found = {} if self.people is None else {"people": dict(self.people.identity())}
        measured = {"skin_tone": {"version": skin_tone.VERSION}} if self.attributes.measured else {}
        return {**self._encoder.identity, **found, **measured}

    def prepare(self, image: Image.Image) -> ByteArray:
        return self._encoder.prepare(image)

    def encode(self, batch: ByteArray) -> FloatArray:
        return self._encoder.encode(batch)

    @property
    def encodes_in_half(self) -> bool:
        return self._encoder.in_half

    @property
    def gains_by_half(self) -> bool:
        return self._encoder.gains_by_half

    @property
    def precision_open(self) -> bool:
        return self._encoder.precision_open

    def why_in_full(self) -> str | None:
        return self._encoder.why_in_full()

    @property
    def has_half_units(self) -> bool:
        return self._encoder.has_half_units

    def settle(self, *, half: bool) -> None:
        self._encoder.settle(half=half)

    def encode_in_half(self, batch: ByteArray) -> FloatArray:
        _on_one_core()
        return self._encoder.encode_in_half(batch)

    def stage(self, pictures: ByteArray) -> Any:
        return self._encoder.stage(pictures)

    def encode_staged(self, staged: Sequence[Any], size: int) -> Callable[[], FloatArray]:
        return self._encoder.encode_staged(staged, size)

    def takes(self, height: int, width: int) -> bool:
        return self._encoder.takes(height, width)

    @property
    def encodes_in_parallel(self) -> bool:
        return self._encoder.on_cpu

    @property
    def lendable(self) -> bool:
        return self._encoder.on_gpu and self.people is None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._encoder.input_shape

    def lend(self) -> Self:
        twin = copy.copy(self)
        twin._encoder = self._encoder.without_model()
        return twin

    def encodes_at(self, elsewhere: Staging) -> None:
        self._encoder.encodes_at(elsewhere)

    def encode_on_one_core(self, batch: ByteArray) -> FloatArray:
        _on_one_core()
        return self.encode(batch)

    def reworded(
        self, wordings: Sequence[AttributeSet]
    ) -> Callable[[FloatArray | HalfArray], list[dict[str, FloatArray]]]:
        encoder = self._encoder
        asked = [{question: (question, str(w.prompts(question))) for question in w.worded} for w in wordings]
        # one matrix of every different wording, so that the embeddings are gone through once
        texts: dict[tuple[str, str], FloatArray] = {}
        for wording, keys in zip(wordings, asked, strict=True):
            texts |= {keys[question]: matrix for question, matrix in encoder.text_matrix(wording).items()}
        gates = [key for key in texts if key[0] == PRESENCE]

        def probabilities(embeddings: FloatArray | HalfArray) -> list[dict[str, FloatArray]]:
            found = encoder.probabilities(embeddings, texts, gates=gates)
            return [{question: found[key] for question, key in keys.items()} for keys in asked]

        return probabilities


class ClipClassifier(OverClip):
    """`EmbeddingClassifier` over open_clip: see `allfour.models.classifiers.base`.

    Raises
    ------
    ClassifierError
        The weights are not available or cannot be loaded.
    """

    def __init__(
        self,
        *,
        attributes: AttributeSet,
        model: str | None,
        pretrained: str | None,
        tag: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        people: PeopleFinder | None = None,
    ) -> None:
        self._attributes = attributes
        self.people = people
        weights = clip_weights.resolve(model=model, pretrained=pretrained, tag=tag)
        self._encoder = ClipEncoder(weights=weights, device=device, dtype=dtype, views=bool(attributes.steady))
        self._text = self._encoder.text_matrix(attributes)
        self._encoder.to_device()

    @property
    def attributes(self) -> AttributeSet:
        return self._attributes

    def identity(self) -> Mapping[str, Any]:
        return {
            "backend": "clip",
            "head": "zero-shot",
            "encoder": dict(self.encoder_identity()),
            "wording_sha256": self._attributes.wording_sha256(),
            **self.measured_identity(),
        }

    def probabilities(self, embeddings: FloatArray | HalfArray) -> dict[str, FloatArray]:
        found = self._encoder.probabilities(embeddings, self._text, gates=(PRESENCE,))
        if asked := {name: self._text[name] for name in self._attributes.steady}:
            found |= {steadiness(name): share for name, share in self._encoder.steady(embeddings, asked).items()}
        return found


def _on_one_core() -> None:
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)  # of the thread that calls
