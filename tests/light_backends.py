"""A generator and a classifier small enough to be started dozens of times in a test. `tests.light_processes` starts `allfour` with
them in place; it kills itself with SIGKILL at the n-th fsync if KILL_AT=n is set: at every moment at which a kill can matter.
With FSYNCS=file it writes there how many there were; PAUSE is the seconds that an image takes, AHEAD=1 makes images ahead."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import PersonScores
from allfour.models.generators.base import Failed, Finish, Generated, GenerationRequest, Outcome, Refused


@functools.lru_cache(maxsize=4096)
def picture(seed: int) -> bytes:
    """A PNG whose mean colour follows the seed."""
    random = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((40, 40)).save(buffer, "PNG")
    return buffer.getvalue()


class LightGenerator:
    """Makes a picture per request; refuses index 2 of `maestro`. Counts every image it makes in the file MADE."""

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "light"}

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        for request in requests:
            time.sleep(float(os.environ.get("PAUSE") or 0))
            if (request.prompt_id, request.index) == ("maestro", 2):
                yield Refused(request, reason="no", code="content_policy_violation")
            elif request.prompt == "a broken one":
                yield Failed(request, error="server error")
            else:
                if made := os.environ.get("MADE"):
                    with Path(made).open("a") as file:
                        file.write(f"{request.prompt_id}/{request.index}\n")
                yield Generated(request, data=picture(request.seed), extension="png", details={"note": "x"})


class LightAheadGenerator(LightGenerator):
    """The same images, made in batches of three and encoded in the caller's threads."""

    def generate_ahead(self, requests: Iterable[GenerationRequest]) -> Iterator[list[tuple[GenerationRequest, Finish]]]:
        waiting = list(requests)
        for start in range(0, len(waiting), 3):
            batch = waiting[start : start + 3]
            made = list(self.generate(batch))
            yield [(request, lambda outcome=outcome: outcome) for request, outcome in zip(batch, made, strict=True)]


class LightClassifier:
    """Reads a picture's mean red as the probability of `woman`."""

    def __init__(self, attributes: AttributeSet) -> None:
        self.attributes = attributes

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "light"}

    def classify(self, image: Image.Image) -> Sequence[PersonScores]:
        p = float(np.asarray(image)[..., 0].mean()) / 255
        return [PersonScores({"gender": {"woman": p, "man": 1 - p}})]


class LightEncoder:
    """A classifier with embeddings: mean colours, read by a head whose weights follow from the wording."""

    embedding_dim = 4

    def __init__(self, attributes: AttributeSet) -> None:
        self.attributes = attributes

    def identity(self) -> Mapping[str, Any]:
        return {
            "backend": "light",
            "encoder": self.encoder_identity(),
            "attributes": self.attributes.model_dump(mode="json"),
        }

    def encoder_identity(self) -> Mapping[str, Any]:
        return {"architecture": "mean colours", "weights_sha256": "0" * 64}

    def prepare(self, image: Image.Image) -> Any:
        return np.asarray(image.convert("RGB").resize((4, 4)), dtype=np.uint8)

    def encode(self, batch: Any) -> Any:
        means = np.asarray(batch, dtype=np.float32).mean(axis=(1, 2)) - 127
        full = np.concatenate([means, np.full((len(means), 1), 20, dtype=np.float32)], axis=1)
        return full / np.linalg.norm(full, axis=1, keepdims=True)

    def probabilities(self, embeddings: Any) -> dict[str, Any]:
        return self.reworded([self.attributes])(embeddings)[0]

    def reworded(self, wordings: Sequence[AttributeSet]) -> Any:
        def read(embeddings: Any) -> list[dict[str, Any]]:
            return [{n: _read(np.asarray(embeddings, np.float32), one, n) for n in one.attributes} for one in wordings]

        return read


def _read(embeddings: Any, attributes: AttributeSet, name: str) -> Any:
    labels = attributes.labels(name)
    texts = [json.dumps(attributes.prompts(name)[label]).encode() for label in labels]
    heads = np.stack([np.random.default_rng(zlib.crc32(text)).normal(size=4) for text in texts]).astype(np.float32)
    logits = 4 * embeddings @ heads.T
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def install(*, generator: bool = True) -> None:
    """Put the light classifier, and unless told otherwise the light generator, in place of the configured ones."""
    from allfour.pipeline.commands import build as build_module

    if generator:
        kind = LightAheadGenerator if os.environ.get("AHEAD") else LightGenerator
        build_module.build_generator = lambda config, run: kind()  # type: ignore[assignment]
    build_module.build_classifier = lambda config, attributes: LightClassifier(attributes)  # type: ignore[assignment]


_fsyncs = 0


def install_from_environment() -> None:
    """The backends in place, and each fsync counted, as the environment's variables say."""
    _watch_fsyncs(int(os.environ.get("KILL_AT") or 0))
    install(generator=not os.environ.get("REAL_GENERATOR"))


def _watch_fsyncs(kill_at: int) -> None:
    def fsync(
        descriptor: int,
    ) -> None:  # nothing is waited for: what a killed process has written stands, on the disk or not
        global _fsyncs  # noqa: PLW0603
        _fsyncs += 1
        if _fsyncs == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.fstat(descriptor)  # a descriptor that is closed is an error as before

    os.fsync = fsync  # type: ignore[assignment]


def report_fsyncs() -> None:
    """Write how many there were to the file FSYNCS, where it is named."""
    if report := os.environ.get("FSYNCS"):
        Path(report).write_text(str(_fsyncs))
