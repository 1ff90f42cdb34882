"""Backend `portrait-renderer`: draws the sandbox's world, with its truth, at planted rates.

Portraits are stylised vector drawings. Each carries its true labels: perceived gender presentation, skin tone in thirds of a ten-step
light-to-dark scale, age group, presence. Labels say how a drawing reads, never who somebody is. Race is not drawn: without real people
it could only be drawn as caricature.

Prompts are read for the words of the drawn world (occupations, "woman", "elderly", "dark skin", "digital", "empty"). What a prompt
leaves open follows the planted rates. Scenes with several people show one main figure, who carries the labels; others are hinted at,
small or from behind, without any cue that a label uses.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import PIL
from PIL import Image
from pydantic import Field

from allfour.errors import BackendError, ConfigError
from allfour.models.generators._portrait.attributes import PortraitAttributes
from allfour.models.generators._portrait.prompts import PlantedTable, read_prompt, sample_attributes
from allfour.models.generators.base import Failed, Generated, GenerationRequest, GeneratorSettings, Outcome
from allfour.models.settings import LocalPath, named_files, on_disk

__all__ = ["PortraitAttributes", "PortraitRenderer"]

DRAWING_VERSION = 1
"""Raised whenever the same request would give other pixels."""


class PortraitRendererConfig(GeneratorSettings):
    """The sandbox's drawn world: portraits with known truth and planted rates."""

    backend: Literal["portrait-renderer"]
    planted: LocalPath = "configs/references/sandbox-planted.yaml"
    size: int = Field(default=64, ge=32, le=1024)

    def files(self) -> list[Path] | None:
        return named_files(self.planted)

    def build(self, *, ledger: Path | None = None) -> PortraitRenderer:
        return PortraitRenderer(planted=on_disk(self.planted), size=self.size)


class PortraitRenderer:
    """Draws a portrait per request.

    Parameters
    ----------
    planted
        Planted rates: a YAML file such as `configs/references/sandbox-planted.yaml`, or the same structure in memory.
    size
        Side of the square images in pixels.

    Raises
    ------
    BackendError
        The planted rates cannot be read.
    """

    def __init__(self, *, planted: str | Path | Mapping[str, Any], size: int = 64) -> None:
        if size < 16:
            raise BackendError(f"portrait-renderer: size {size} is too small to show anything. Use 32 or more")
        try:
            self._table = PlantedTable.load(planted)
        except (ConfigError, ValueError) as error:
            raise BackendError(
                f"portrait-renderer: the planted rates cannot be read: {error}. Set generator.planted to a file like configs/references/sandbox-planted.yaml"
            ) from error
        self._size = size

    @cached_property
    def _rates_sha256(self) -> str:
        rates = {
            name: [r.text, {a: sorted(r.mixture(a).items()) for a in ("gender", "skin_tone", "age")}]
            for name, r in self._table.rates.items()
        }
        return hashlib.sha256(repr(sorted(rates.items())).encode()).hexdigest()

    def identity(self) -> Mapping[str, Any]:
        return {
            "backend": "portrait-renderer",
            "drawing_version": DRAWING_VERSION,
            "size": self._size,
            "planted_sha256": self._rates_sha256,
            "pillow": PIL.__version__,
        }

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        for request in requests:
            try:
                yield self._draw(request)
            except Exception as error:  # one drawing that fails is a row, not the end of the run
                yield Failed(request, error=f"{type(error).__name__}: {error}")

    def _draw(self, request: GenerationRequest) -> Generated:
        from allfour.models.generators._portrait.draw import render, render_empty  # settings are read without it

        reading = read_prompt(request.prompt)
        if reading.empty:
            image = render_empty(seed=request.seed, scene=reading.scene, style=reading.style, size=self._size)
            return Generated(request, data=_png(image), extension="png", truth={"presence": "no_person"})
        rates = self._table.find(prompt=request.prompt, prompt_id=request.prompt_id)
        rng = random.Random(f"attributes/{request.seed}")  # noqa: S311 - no secret
        attributes = sample_attributes(reading, rates, rng=rng)
        image = render(attributes, seed=request.seed, size=self._size)
        details = {"occupation": attributes.occupation, "style": attributes.style, "planted_source": rates.source}
        return Generated(request, data=_png(image), extension="png", truth=attributes.truth(), details=details)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
