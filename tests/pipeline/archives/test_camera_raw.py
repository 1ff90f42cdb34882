"""Cameras' raw files, many of which look like TIFFs, are told from pictures."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from PIL import Image, TiffImagePlugin

from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.camera_raw import RAW, is_raw
from allfour.pipeline.archives.decoding import UnreadableImage, decode
from tests.hostile_images import picture
from tests.pipeline.archives.helpers import write_tree

_PREVIEW = [(256, 3, 48), (257, 3, 32), (262, 3, 2)]


def directory(entries: list[tuple[int, int, int]], order: str = "<", *, at: int = 8) -> bytes:
    """A TIFF's directory, with its head where it stands at 8: (tag, type, one value)."""
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        body += struct.pack(f"{order}HHI", tag, kind, 1)
        body += struct.pack(f"{order}{'HH' if kind == 3 else 'I'}", *((value, 0) if kind == 3 else (value,)))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8) if at == 8 else b""
    return head + body + bytes(4)


def below(entries: list[tuple[int, int, int]], sub: list[tuple[int, int, int]], order: str) -> bytes:
    first = directory([*entries, (330, 4, 200)], order)
    return first.ljust(200, b"\0") + directory(sub, order, at=200) + bytes(100)


def raw_files() -> dict[str, bytes]:
    files = {
        "x.cr2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(64),
        "x.raf": b"FUJIFILMCCD-RAW 0201" + bytes(64),
        "x.cr3": b"\0\0\0\x18ftypcrx " + bytes(64),
        "x.orf": b"IIRO\x08\0\0\0" + bytes(64),
    }
    for order, byte_order in (("le", "<"), ("be", ">")):
        files |= {
            f"{order}.dng": directory([*_PREVIEW, (50706, 4, 0x0104)], byte_order) + bytes(64),
            f"{order}.pef": directory([*_PREVIEW[:2], (262, 3, 32803)], byte_order) + bytes(64),
            f"{order}.nef": below(_PREVIEW, [(262, 3, 32803)], byte_order),
            f"{order}.arw": below([(254, 4, 1), *_PREVIEW], [(262, 3, 2)], byte_order),
        }
    return files


@pytest.mark.parametrize("name", raw_files())
def test_raw_files_are_said_to_be_so(name: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(raw_files()[name])
    assert caught.value.reason == RAW


def test_tiffs_are_pictures(tmp_path: Path) -> None:
    """One with a smaller copy behind it, as image servers have, among them."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1
    file = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file, new=True) as writer:
        picture(0).save(writer, "tiff")
        writer.newFrame()
        picture(0).resize((12, 8)).save(writer, "tiff", tiffinfo=tags)
    for data in (file.getvalue(), b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\x7f", b"II*\0"):
        assert not is_raw(data)
    assert decode(file.getvalue()).size == (48, 32)
    plain = io.BytesIO()
    Image.new("I;16", (9, 9)).save(plain, "tiff")
    assert decode(plain.getvalue()).size == (9, 9)


def test_a_dry_run_says_how_many(tmp_path: Path) -> None:
    files = {"a nurse/0.cr2": raw_files()["x.cr2"], "a nurse/1.NEF": raw_files()["le.nef"]}
    notes = "\n".join(open_source(write_tree(tmp_path, files)).summary().notes)
    assert (
        "1 images that cannot be read: named .cr2, a format that is not decoded; convert them to PNG or JPEG" in notes
    )
    assert "named .nef" in notes
