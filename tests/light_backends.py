"""A generator and a classifier small enough to be started dozens of times in a test. `tests.light_processes` starts `allfour` with
them in place; it kills itself with SIGKILL at the n-th fsync if KILL_AT=n is set: at every moment at which a kill can matter.
With FSYNCS=file it writes there how many there were; PAUSE is the seconds that an image takes, AHEAD=1 makes images ahead."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import PersonScores
from allfour.models.generators.base import Failed, Finish, Generated, GenerationRequest, Outcome, Refused


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
    real = os.fsync

    def fsync(descriptor: int) -> None:
        global _fsyncs  # noqa: PLW0603
        _fsyncs += 1
        if _fsyncs == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def report_fsyncs() -> None:
    """Write how many there were to the file FSYNCS, where it is named."""
    if report := os.environ.get("FSYNCS"):
        Path(report).write_text(str(_fsyncs))
