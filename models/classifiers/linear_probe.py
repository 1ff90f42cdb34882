"""A linear probe: multinomial logistic regression on frozen CLIP embeddings, in place of the zero-shot head.

Fitted by `allfour calibrate --fit-probe` (scikit-learn), stored as safetensors: per attribute a matrix [labels, D] and a bias
[labels], and as metadata the labels and the identity of the encoder that it was fitted on. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allfour import resources
from allfour.border import read_json
from allfour.errors import ClassifierError
from allfour.files import open_regular
from allfour.models.attributes import PRESENCE, AttributeSet
from allfour.models.classifiers import clip_weights
from allfour.models.classifiers.base import FloatArray, HalfArray
from allfour.models.classifiers.clip import ClipEncoder, OverClip
from allfour.models.detectors.base import PeopleFinder

FORMAT = "allfour-linear-probe-1"


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted probe."""

    labels: Mapping[str, tuple[str, ...]]
    """Attribute -> label names, in the order of the rows."""
    weights: Mapping[str, FloatArray]
    """Attribute -> [labels, D]."""
    biases: Mapping[str, FloatArray]
    """Attribute -> [labels]."""
    encoder: Mapping[str, Any]
    """Identity of the encoder whose embeddings it reads."""

    def save(self, path: Path) -> None:
        """Write a .safetensors file."""
        path.write_bytes(self.data())

    def data(self) -> bytes:
        """The bytes of a .safetensors file: the same for the same probe."""
        from safetensors.numpy import save

        tensors = {f"{name}.weight": np.ascontiguousarray(w, dtype=np.float32) for name, w in self.weights.items()}
        tensors |= {f"{name}.bias": np.ascontiguousarray(b, dtype=np.float32) for name, b in self.biases.items()}
        metadata = {
            "format": FORMAT,
            "labels": json.dumps({name: list(labels) for name, labels in self.labels.items()}),
            "encoder": json.dumps(dict(self.encoder), sort_keys=True),
        }
        saved = bytes(save(tensors, metadata=metadata))
        # the library writes the metadata in whatever order its own table has them
        end = 8 + int.from_bytes(saved[:8], "little")
        header = json.dumps(json.loads(saved[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return saved[:8] + header.encode().ljust(end - 8) + saved[end:]

    @classmethod
    def load(cls, path: Path) -> Probe:
        """Read a fitted probe.

        Raises
        ------
        ClassifierError
            No such file, or none that `save` wrote.
        """
        from safetensors import safe_open

        try:
            with open_regular(path):  # safetensors would wait at a pipe for ever
                pass
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
                labels = {name: tuple(words) for name, words in read_json(metadata["labels"]).items()}
                weights = {name: file.get_tensor(f"{name}.weight") for name in labels}
                biases = {name: file.get_tensor(f"{name}.bias") for name in labels}
                return cls(labels=labels, weights=weights, biases=biases, encoder=read_json(metadata["encoder"]))
        except FileNotFoundError:
            raise ClassifierError(
                f"classifier.probe: no such file: {path}. Fit a probe:  allfour calibrate DATASET --config CONFIG --fit-probe {path}"
            ) from None
        except Exception as error:  # safetensors raises its own type for a damaged file
            raise ClassifierError(f"classifier.probe: {path} is not a fitted probe: {error}") from None

    def probabilities(self, embeddings: FloatArray | HalfArray) -> dict[str, FloatArray]:
        """[N, D] unit embeddings -> attribute -> [N, labels], softmax of the linear scores."""
        return {name: self.table(name, labels, embeddings) for name, labels in self.labels.items()}

    def table(self, attribute: str, labels: Sequence[str], embeddings: FloatArray | HalfArray) -> FloatArray:
        """[N, D] unit embeddings -> [N, labels] of one attribute, labels in the order given."""
        scores = embeddings.astype(np.float32, copy=False) @ self.weights[attribute].T + self.biases[attribute]
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return np.ascontiguousarray(scores[:, [self.labels[attribute].index(label) for label in labels]])

    def check(self, attributes: AttributeSet, encoder: Mapping[str, Any]) -> None:
        """Raise ClassifierError unless the probe has the labels of `attributes` and was fitted on this encoder's embeddings."""
        for name, labels in self.labels.items():
            if name in attributes.attributes and set(attributes.labels(name)) != set(labels):
                raise ClassifierError(
                    f"classifier.probe: it was fitted for the {name} labels {', '.join(labels)}, but the attributes file has {', '.join(attributes.labels(name))}. Fit a probe with these labels, or use the attributes file that it was fitted with"
                )
        # by what the tensors hold where both say it: the same weights may lie in another file
        key = next(
            (k for k in ("tensors_sha256", "weights_sha256") if k in self.encoder and k in encoder), "weights_sha256"
        )
        fitted_on = self.encoder.get(key)
        if fitted_on != encoder[key]:
            raise ClassifierError(
                f"classifier.probe: it was fitted on embeddings of {self.encoder.get('architecture')} with other weights ({str(fitted_on)[:12]}) than those of this config, {encoder['architecture']} ({encoder[key][:12]}). Fit it again with this config"
            )

    def sha256(self) -> str:
        digest = hashlib.sha256(json.dumps([sorted((k, list(v)) for k, v in self.labels.items())]).encode())
        for name in sorted(self.weights):
            digest.update(np.ascontiguousarray(self.weights[name]).tobytes())
            digest.update(np.ascontiguousarray(self.biases[name]).tobytes())
        return digest.hexdigest()


class LinearProbeClassifier(OverClip):
    """`EmbeddingClassifier` with a fitted probe as its head. The presence gate, and any attribute that the probe does not have,
    stay zero-shot.

    Raises
    ------
    ClassifierError
        The probe or the weights are not available, or do not belong together.
    """

    def __init__(
        self,
        *,
        attributes: AttributeSet,
        probe: str,
        model: str | None,
        pretrained: str | None,
        tag: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        people: PeopleFinder | None = None,
    ) -> None:
        path = Path(probe).expanduser()
        self._probe = Probe.load(resources.locate_recorded(path) or path)
        self._attributes = attributes
        self.people = people
        self._encoder = ClipEncoder(
            weights=clip_weights.resolve(model=model, pretrained=pretrained, tag=tag), device=device, dtype=dtype
        )
        self._probe.check(attributes, self._encoder.identity)
        self._text = self._encoder.text_matrix(attributes)
        self._encoder.to_device()

    @property
    def attributes(self) -> AttributeSet:
        return self._attributes

    def identity(self) -> Mapping[str, Any]:
        probed = [name for name in self._attributes.attributes if name in self._probe.labels]
        return {
            "backend": "linear-probe",
            "head": f"linear probe ({', '.join(probed)}), zero-shot for the rest",
            "probe_sha256": self._probe.sha256(),
            "encoder": dict(self.encoder_identity()),
            "wording_sha256": self._attributes.wording_sha256(),
            **self.measured_identity(),
        }

    def probabilities(self, embeddings: FloatArray | HalfArray) -> dict[str, FloatArray]:
        result = self._encoder.probabilities(embeddings, self._text, gates=(PRESENCE,))
        for name in self._probe.labels:
            if name != PRESENCE and name in self._attributes.attributes:
                result[name] = self._probe.table(name, self._attributes.labels(name), embeddings)
        return result
