"""Lines between pictures: where a picture breaks off, where it goes on, and what that makes of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from allfour.pipeline.archives.seam_lines import BESIDE, SeamLine, Windows
from allfour.pipeline.archives.seam_pixels import PictureLines, nearest, pixels_of
from allfour.pipeline.archives.seam_rules import (
    is_clear_at_a_quarter,
    is_square_of_four,
    is_strip_by_repeats,
    is_strip_by_seams,
    is_strip_uncrossed,
    may_repeat,
)
from allfour.pipeline.archives.seam_strips import shows_four
from allfour.pipeline.archives.seams import find_grid

SEAM, PLAIN, CROSSED = Windows(0.9, 0.0), Windows(0.0, 0.0), Windows(0.0, 0.7)


def strip(kind: str) -> NDArray[np.int16]:
    """[lines, places, 3] of noise about a line: two different halves, one that goes on, or plain ground."""
    rng = np.random.default_rng(0)
    shape = rng.normal(128, 40, (1, 96, 3)).repeat(2 * BESIDE, axis=0) + rng.normal(0, 1, (2 * BESIDE, 96, 3))
    if kind == "seam":
        shape[BESIDE:] = 255 - shape[BESIDE:]
    return (shape if kind != "plain" else np.full_like(shape, 250)).clip(0, 255).astype(np.int16)


def test_windows_tell_a_seam_from_what_goes_on_and_from_plain_ground() -> None:
    seam, on, plain = (SeamLine(strip(kind)).windows for kind in ("seam", "on", "plain"))
    assert seam.broken > 0.8 and seam.whole == 0
    assert on.broken == 0 and on.whole > 0.8 and on.balance < -0.8
    assert (plain.broken, plain.whole) == (0, 0)
    assert SeamLine(strip("seam")).steps > 0.6 and SeamLine(strip("plain")).steps == 0


@pytest.mark.parametrize(("lines", "is_grid"), [
    ((SEAM, SEAM), True), ((SEAM, PLAIN), True), ((SEAM, CROSSED), False), ((PLAIN, PLAIN), False), ((CROSSED, CROSSED), False),
])  # fmt: skip
def test_two_rows_of_two(lines: tuple[Windows, Windows], is_grid: bool) -> None:
    assert is_square_of_four(lines) is is_grid


def test_strips() -> None:
    assert is_strip_by_seams([SEAM, PLAIN, SEAM])
    assert not is_strip_by_seams([SEAM, PLAIN, PLAIN])  # an edge at a quarter of a wide picture
    assert is_clear_at_a_quarter([SEAM, PLAIN, PLAIN])  # of one of a shape that single ones hardly ever have
    assert not is_clear_at_a_quarter([SEAM, PLAIN, CROSSED])
    assert is_strip_uncrossed([PLAIN] * 3)
    assert not is_strip_uncrossed([PLAIN, PLAIN, CROSSED])
    assert is_strip_by_repeats([0.5, 0.4, 0.6])
    assert not is_strip_by_repeats([0.5, 0.4, 0.1])
    assert may_repeat([0.5, 0.4, 0.1])
    assert not may_repeat([0.5, 0.6, -0.1])


@pytest.mark.parametrize("standing", [False, True])
def test_quarters_that_show_four_pictures(standing: bool) -> None:
    """Four laid out alike are told from one wide picture across whose quarters nothing goes on."""
    four = Image.new("RGB", (512, 128))
    for place in range(4):
        four.paste(figure(place), (128 * place, 0))
    clouds = np.random.default_rng(2).integers(0, 255, (8, 20, 3), dtype=np.uint8)
    wide = Image.fromarray(clouds).resize((512, 128), Image.Resampling.BICUBIC)
    if standing:
        four, wide = (each.transpose(Image.Transpose.TRANSPOSE) for each in (four, wide))
    assert shows_four(four)
    assert not shows_four(wide) and find_grid(wide) is None


def figure(seed: int, *, ground: int = 255) -> Image.Image:
    """Somebody cut off by the lower rim, before plain ground, as many services answer."""
    rng = np.random.default_rng(seed)
    pixels = np.full((128, 128, 3), ground, np.uint8)
    shade = rng.integers(20, 200, 3)
    left, top = rng.integers(24, 40, 2)
    pixels[top:, left : left + 70] = shade + rng.integers(0, 30, (128 - top, 70, 3))
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_figures_before_white_that_touch_without_a_trace_between_them(kind: str) -> None:
    whole = Image.new("RGB", (256, 256))
    for n in range(4):
        whole.paste(figure(n), (n % 2 * 128, n // 2 * 128))
    buffer = io.BytesIO()
    whole.save(buffer, kind, quality=80)
    found = find_grid(Image.open(buffer).convert("RGB"))
    assert found is not None and (found.rows, found.columns, found.boxes[3]) == (2, 2, (128, 128, 256, 256))
    assert find_grid(figure(1)) is None


def test_plain_halves_are_no_grid() -> None:
    sea = Image.new("RGB", (256, 256), (120, 170, 230))
    sea.paste((20, 60, 120), (0, 128, 256, 256))
    assert find_grid(sea) is None


def test_places_along_a_line_are_pillow_s_nearest_neighbours() -> None:
    for length in (*range(24, 700, 13), 512, 1024, 4001):
        line = Image.fromarray(np.arange(length, dtype=np.int32)[None])
        for count in (48, 64):
            near = np.asarray(line.resize((count, 1), Image.Resampling.NEAREST, box=(0, 0, length, 1)))
            assert (near[0] == nearest(length, count)).all(), (length, count)


def test_lines_are_those_of_the_picture_in_whatever_memory_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert pixels_of(image).shape == (70, 90, 4)  # without a copy
    for _ in range(2):
        lines = PictureLines(image)
        assert (lines.strip(0, 30, 40) == pixels[30:40]).all()
        assert (lines.strip(1, 30, 40) == pixels[:, 30:40].swapaxes(0, 1)).all()
        assert (lines.lines(0, 30, 40) == pixels[30:40]).all()
        assert (lines.lines(1, 30, 40) == pixels[:, 30:40].swapaxes(0, 1)).all()
        assert (lines.few(0, 30, 40, places=48) == pixels[30:40, nearest(90, 48)]).all()
        assert (lines.few(1, 30, 40, places=48) == pixels[nearest(70, 48), 30:40].swapaxes(0, 1)).all()

        def pieces(*_: object) -> None:
            raise ValueError("Image is in multiple array blocks")

        monkeypatch.setattr("allfour.pipeline.archives.seam_pixels.pa.array", pieces)
        assert pixels_of(image).shape == (70, 90, 3)
