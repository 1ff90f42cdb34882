"""Bytes to RGB: every format and mode right, everything else refused with a reason."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import resource
import struct
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps
from PIL.PngImagePlugin import PngInfo

from allfour.pipeline.archives.decoding import (
    MAX_PIXELS,
    UnreadableImage,
    decode,
    decode_image,
    sniff_format,
)
from tests.conftest import shared_data
from tests.hostile_images import FORMATS, NOT_IMAGES, bombs, damaged_files, encoded, good_file, picture, png_file

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_libtiff_writes_nothing_past_us_to_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    data = good_file(3, "tiff-deflate")
    for place in range(8, len(data), 7):
        with contextlib.suppress(UnreadableImage):
            decode(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
    assert capfd.readouterr().err == ""


def test_nor_do_pillows_log_lines_where_nobody_set_up_logging(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    three = b"\x15\x01\x03\x00\x01\x00\x00\x00\x03\x00"  # the tag SamplesPerPixel: one SHORT, 3
    data = saved(Image.new("RGB", (8, 8)), "TIFF")
    assert three in data
    monkeypatch.setattr(logging.root, "handlers", [])
    with pytest.raises(UnreadableImage):
        decode(data.replace(three, three[:-2] + b"\xe7\x03"))
    assert capfd.readouterr().err == ""


class TestFormats:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_agrees_with_pillow(self, kind: str) -> None:
        data = good_file(3, kind)
        decoded = decode_image(data)
        assert decoded.image.mode == "RGB"
        assert (decoded.width, decoded.height) == decoded.image.size == (48, 32)
        assert decoded.format == FORMATS[kind][1] == sniff_format(data)
        assert decoded.image.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()

    @pytest.mark.parametrize(("ext", "format"), [("ppm", "PPM"), ("tga", "TGA"), ("ico", "ICO"), ("jp2", "JPEG2000")])
    def test_formats_off_the_list_are_refused(self, ext: str, format: str) -> None:
        data = saved(picture(), format)
        assert sniff_format(data) is None
        with pytest.raises(UnreadableImage, match="no image"):
            decode(data)

    def test_first_frame_of_an_animation(self) -> None:
        frames = [picture(seed) for seed in range(3)]
        for format in ("GIF", "WEBP", "PNG"):
            options = {"lossless": True} if format == "WEBP" else {}
            data = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
            alone = saved(frames[0], format, **options)
            assert np.abs(pixels(decode(data)) - pixels(decode(alone))).max() <= (40 if format == "GIF" else 0)

    def test_metadata_does_not_stay(self) -> None:
        info = PngInfo()
        info.add_text("parameters", "secret")
        assert decode(saved(picture(), "PNG", pnginfo=info)).info == {}


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp-lossless", "tiff"])
    def test_applied(self, kind: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(picture(1), kind, exif=exif)
        shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        decoded = decode_image(data)
        assert decoded.image.size == shown.size == (decoded.width, decoded.height)
        assert decoded.image.tobytes() == shown.tobytes()

    def test_damaged_exif_is_no_reason_to_refuse(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        block = bytearray(exif.tobytes())
        for length in range(6, len(block)):
            data = encoded(picture(1), "jpeg", exif=bytes(block[:length]) + b"\xff" * 8)
            assert decode(data).mode == "RGB"

    @pytest.mark.parametrize("value", [0, 9, 255, 65535])
    def test_nonsense_is_upright(self, value: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = value
        assert decode(encoded(picture(1), "png", exif=exif)).tobytes() == picture(1).tobytes()


class TestModes:
    def test_transparency_lies_over_white(self) -> None:
        rgba = picture(2).convert("RGBA")
        alpha = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (32, 1))
        rgba.putalpha(Image.fromarray(alpha))
        a = alpha[..., None] / 255
        expected = pixels(picture(2)) * a + 255 * (1 - a)
        assert np.abs(pixels(decode(saved(rgba, "PNG"))) - expected).max() <= 1

    def test_grey_with_alpha(self) -> None:
        data = saved(Image.merge("LA", [Image.new("L", (9, 9), 0), Image.new("L", (9, 9), 51)]), "PNG")
        assert pixels(decode(data)).min() == pixels(decode(data)).max() == 204

    def test_transparent_colours(self) -> None:
        palette = Image.new("P", (8, 8), 0)
        palette.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
        palette.paste(1, (0, 0, 4, 8))
        for transparency in (0, bytes([0, 255])):
            decoded = pixels(decode(saved(palette, "PNG", transparency=transparency)))
            assert decoded[0, 7].tolist() == [255, 255, 255]
            assert decoded[0, 0].tolist() == [200, 100, 50]
        gif = pixels(decode(saved(palette, "GIF", transparency=0)))
        assert gif[0, 7].tolist() == [255, 255, 255]
        for mode, key in (("L", 7), ("RGB", (7, 7, 7))):
            image = Image.new(mode, (8, 8), key)
            assert pixels(decode(saved(image, "PNG", transparency=key))).min() == 255

    def test_one_bit(self) -> None:
        image = Image.new("1", (8, 8), 0)
        image.paste(1, (0, 0, 4, 8))
        for format in ("PNG", "TIFF", "BMP"):
            assert pixels(decode(saved(image, format)))[0].tolist() == [[255] * 3] * 4 + [[0] * 3] * 4

    def test_sixteen_bits_are_scaled_and_not_clipped(self) -> None:
        ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
        for format in ("PNG", "TIFF"):
            decoded = pixels(decode(saved(Image.fromarray(ramp), format)))[..., 0]
            assert np.abs(decoded - ramp / 257).max() <= 0.5
        bytes_ = ramp[..., None].repeat(3, axis=2).astype(">u2").tobytes()
        rows = b"".join(b"\0" + bytes_[i * 96 : (i + 1) * 96] for i in range(16))
        decoded = pixels(decode(png_file(width=16, height=16, bits=16, colour=2, data=rows)))
        assert np.abs(decoded[..., 0] - ramp / 257).max() <= 1

    def test_float_samples(self) -> None:
        ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        for scale in (1, 255, 65535):
            decoded = pixels(decode(saved(Image.fromarray(ramp * np.float32(scale)), "TIFF")))[..., 0]
            assert np.abs(decoded - ramp * 255).max() <= 0.51
        for bad in (np.nan, np.inf, -1.0, 1e9):
            spoilt = ramp.copy()
            spoilt[0, 0] = bad
            with pytest.raises(UnreadableImage, match="samples"):
                decode(saved(Image.fromarray(spoilt), "TIFF"))

    def test_cmyk(self) -> None:
        cmyk = picture(4).convert("CMYK")
        jpeg = saved(cmyk, "JPEG", quality=95)
        assert np.abs(pixels(decode(jpeg)) - pixels(picture(4))).mean() < 4
        tiff = saved(cmyk, "TIFF")
        assert np.abs(pixels(decode(tiff)) - pixels(picture(4))).max() <= 1
        # Without Adobe's mark the samples are the plain kind: the same data then mean the opposite.
        at = jpeg.index(b"\xff\xee")
        unmarked = jpeg[:at] + jpeg[at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0] :]
        inverted = Image.eval(cmyk, lambda value: 255 - value).convert("RGB")
        assert np.abs(pixels(decode(unmarked)) - pixels(inverted)).mean() < 4


class TestRefusals:
    @pytest.mark.parametrize("name", NOT_IMAGES)
    def test_what_is_no_image(self, name: str) -> None:
        with pytest.raises(UnreadableImage):
            decode(NOT_IMAGES[name])

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("empty.png", "empty file"),
            ("zeros.jpg", "all bytes are zero"),
            ("page.jpg", "no image: it looks like an HTML page"),
            ("object.png", "no image: it looks like JSON text"),
            ("archive.gif", "no image: it looks like a zip archive"),
        ],
    )
    def test_says_what_it_is(self, name: str, reason: str) -> None:
        with pytest.raises(UnreadableImage) as caught:
            decode(NOT_IMAGES[name])
        assert caught.value.reason == reason

    @pytest.mark.parametrize("name", bombs())
    def test_bombs(self, name: str) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(UnreadableImage, match=r"limit|bomb|longer than|damaged"):
            decode(bombs()[name])
        unit = 1 if sys.platform == "darwin" else 1024
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
        assert grown < 150 * 2**20

    def test_pixel_limit_is_ours_and_not_pillows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = good_file(0, "png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert decode(data).size == (48, 32)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        with pytest.raises(UnreadableImage, match="48 x 32 pixels are over the limit of 1,535 pixels"):
            decode(data, max_pixels=48 * 32 - 1)
        assert MAX_PIXELS < 2**27

    @pytest.mark.parametrize("kind", FORMATS)
    def test_every_prefix_is_refused_or_the_whole_picture(self, kind: str) -> None:
        data = good_file(5, kind)
        whole = decode(data).tobytes()
        for length in sorted({*range(0, len(data), max(1, len(data) // 300)), *range(len(data) - 20, len(data))}):
            try:
                assert decode(data[:length]).tobytes() == whole
            except UnreadableImage:
                continue

    def test_a_png_never_shows_wrong_pixels(self) -> None:
        data = good_file(6, "png")
        whole = decode(data)
        rng = random.Random(0)
        for _ in range(3_000):
            flipped = bytearray(data)
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            try:
                assert decode(bytes(flipped)).tobytes() == whole.tobytes()
            except UnreadableImage:
                continue

    def test_truncated_is_refused_whatever_other_libraries_set(self) -> None:
        data = good_file(1, "jpeg")
        try:
            for cut in (len(data) // 2, len(data) - 1):
                ImageFile.LOAD_TRUNCATED_IMAGES = True
                with pytest.raises(UnreadableImage, match="JPEG: the file is cut short"):
                    decode(data[:cut])
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False

    def test_an_end_mark_in_a_thumbnail_is_not_the_end(self) -> None:
        inner = good_file(1, "jpeg")
        data = encoded(picture(2), "jpeg", exif=b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0" + inner)
        assert decode(data).size == (48, 32)
        with pytest.raises(UnreadableImage, match="cut short"):
            decode(data[:-2])
        assert decode(data + b"trailing bytes of a phone").tobytes() == decode(data).tobytes()

    def test_reasons_are_short_plain_and_the_same_again(self) -> None:
        for file in damaged_files(400, seed=3):
            try:
                image = decode(file.data)
            except UnreadableImage as first:
                assert not file.readable, file.name
                assert len(first.reason) < 200
                assert first.reason.isprintable()
                assert "0x7" not in first.reason and "/" not in first.reason.replace("n/a", "")
                with pytest.raises(UnreadableImage) as second:
                    decode(file.data)
                assert second.value.reason == first.reason
            else:
                assert file.readable is not False, file.name
                assert image.mode == "RGB"

    @settings(max_examples=300)
    @given(st.sampled_from(["", *FORMATS]), st.binary(max_size=200), st.integers(0, 60))
    def test_nothing_but_unreadable_image(self, kind: str, noise: bytes, at: int) -> None:
        data = noise if not kind else good_file(0, kind)
        if kind:
            data = data[:at] + noise + data[at + len(noise) :]
        try:
            assert decode(data).mode == "RGB"
        except UnreadableImage as error:
            assert error.reason


class TestReducedSize:
    @pytest.mark.parametrize(
        ("reduce_to", "shortest"), [(48, 96), (49, 192), (96, 192), (97, 384), (193, 768), (999, 768)]
    )
    def test_stays_at_least_twice_the_target(self, reduce_to: int, shortest: int) -> None:
        decoded = decode_image(encoded(picture(0, width=1024, height=768), "jpeg"), reduce_to=reduce_to)
        assert min(decoded.image.size) == shortest
        assert (decoded.width, decoded.height) == (1024, 768)

    @given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 200))
    @settings(max_examples=60)
    def test_never_smaller_than_needed(self, width: int, height: int, reduce_to: int) -> None:
        if max(width, height) > 100 * min(width, height):
            return
        decoded = decode_image(encoded(Image.new("RGB", (width, height)), "jpeg"), reduce_to=reduce_to)
        assert min(decoded.image.size) >= min(width, height, 2 * reduce_to)
        assert (decoded.width, decoded.height) == (width, height)

    def test_off_by_default_and_for_other_formats(self) -> None:
        large = picture(0, width=640, height=480)
        assert decode(encoded(large, "jpeg")).size == (640, 480)
        assert decode(encoded(large, "png"), reduce_to=10).size == (640, 480)

    def test_orientation_of_the_original_size(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        decoded = decode_image(encoded(picture(0, width=640, height=480), "jpeg", exif=exif), reduce_to=30)
        assert (decoded.width, decoded.height) == (480, 640)
        assert decoded.image.size == (60, 80)


def test_threads(capfd: pytest.CaptureFixture[str]) -> None:
    """Many threads on good and damaged files: the same results as one by one, and nothing on stderr from Pillow."""
    files = [good_file(number, kind) for number, kind in enumerate(FORMATS)] + [file.data for file in damaged_files(40)]

    def outcome(data: bytes) -> bytes | str:
        try:
            return decode(data).tobytes()
        except UnreadableImage as error:
            return error.reason

    expected = [outcome(data) for data in files]
    found: list[list[bytes | str]] = []
    threads = [threading.Thread(target=lambda: found.append([outcome(data) for data in files])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6


def test_real_photographs() -> None:
    for path in sorted(shared_data("generated-occupations").glob("*/*"))[:12]:
        data = path.read_bytes()
        assert decode(data).tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes(), os.fspath(path)
