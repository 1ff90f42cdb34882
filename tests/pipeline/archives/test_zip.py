"""Zips: the same rows as the folder they were made from, and zips that lie."""

from __future__ import annotations

import inspect
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from allfour.pipeline.archives import INDEX_STRIDE, NO_PROMPT_ID, ArchiveError, ArchiveOptions, open_source
from allfour.pipeline.archives.zip import _named, _overlapping
from tests.hostile_images import good_file
from tests.pipeline.archives.helpers import check_contract, items_of, rows, write_tree

PNG = good_file(0, "png")
JPG = good_file(0, "jpeg")


def write_zip(path: Path, members: list[tuple[str, bytes]], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def test_as_the_folder(tmp_path: Path) -> None:
    files = {
        "p_q/10.png": PNG,
        "p_q/2.jpg": JPG,
        "x/y/z.png": PNG,
        "notes.txt": b"x",
        "__MACOSX/p/._1.png": b"x",
        "r/1": PNG,
    }
    folder = open_source(write_tree(tmp_path / "folder", files))
    zipped = open_source(write_zip(tmp_path / "a.zip", list(files.items())), options=ArchiveOptions(shard_size=2))
    items = check_contract(zipped)
    assert rows(items) == rows(items_of(folder))
    assert items[0].image.path == f"{tmp_path}/a.zip::p_q/2.jpg"
    assert "1 .txt files, not taken for images" in zipped.summary().notes


def test_several_zips(tmp_path: Path) -> None:
    for number in range(3):
        write_zip(tmp_path / f"{number}.zip", [("p/0.png", PNG), ("p/1.png", PNG)])
    (tmp_path / "2.zip").write_bytes(b"PK broken")
    source = open_source(tmp_path)
    items = check_contract(source)
    assert [item.image.index for item in items] == [0, 1, INDEX_STRIDE, INDEX_STRIDE + 1, 2 * INDEX_STRIDE]
    assert items[4].image.prompt_id == NO_PROMPT_ID and "is no zip" in (items[4].error or "")
    assert source.summary().prompts == 1


def test_no_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_zip(tmp_path / f"{name}.zip", [("notes.txt", b"x")])
    for source, message in ((tmp_path / "a.zip", "1 .txt files"), (tmp_path, "none of its 2 zips holds any")):
        for asked in (open_source(source).summary, lambda source=source: items_of(open_source(source))):
            with pytest.raises(ArchiveError, match=f"no images in .*{message}"):
                asked()
    write_zip(tmp_path / "b.zip", [("nurse/0.png", PNG)])
    assert [item.error is None for item in check_contract(open_source(tmp_path))] == [False, True]


def test_captions(tmp_path: Path) -> None:
    members = [("0.png", PNG), ("0.txt", b"a nurse"), ("1.png", PNG), ("1.txt", b"a nurse")]
    for number in range(2):
        write_zip(tmp_path / f"{number}.zip", members)
    items = check_contract(open_source(tmp_path, options=ArchiveOptions(shard_size=1)))
    assert {item.image.prompt for item in items} == {"a nurse"}
    assert len({item.image.index for item in items}) == 4


def test_hostile_names(tmp_path: Path) -> None:
    names = ["../../x.png", "/etc/passwd.png", "C:\\pics\\nurse\\1.png", "a\nb/1.png", "\u202ea/1.png", "same/1.png"]
    path = tmp_path / "a.zip"
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        for name in [*names, "same/1.png"]:
            archive.writestr(name, PNG)
    items = check_contract(open_source(path))
    assert len(items) == len(names) + 1
    assert all(item.data == PNG for item in items)
    assert "nurse" in {item.image.prompt for item in items}


def test_a_name_that_comes_again_and_again() -> None:
    names = ["p/0.png", "p/0~3.png", *["p/0.png"] * 20_000, "p/1"]
    start = time.process_time()
    members = list(_named([zipfile.ZipInfo(name) for name in names]))
    assert time.process_time() - start < 2
    assert members[:5] == ["p/0.png", "p/0~3.png", "p/0~2.png", "p/0~4.png", "p/0~5.png"] and len(members) == len(names)


def test_sizes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("p/0.png", PNG), ("p/1.png", bytes(10**6))])
    options = ArchiveOptions(max_image_bytes=10_000)
    items = check_contract(open_source(path, options=options))
    assert [item.error for item in items] == [
        None,
        "1,000,000 bytes are over the limit of 10,000 bytes (max_image_bytes)",
    ]
    # The same with a declared size that is a lie: the real one is what counts.
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 50)
    path.write_bytes(data)
    (_, item) = check_contract(open_source(path, options=options))
    assert item.data is None


def test_members_that_share_bytes(tmp_path: Path) -> None:
    """Many entries of the central directory that point into one kernel of compressed zeros."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(bytes(2**20)) + kernel.flush()
    crc = zlib.crc32(bytes(2**20))
    local = (
        struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(packed), 2**20, 5, 0) + b"0.png" + packed
    )
    central = b"".join(
        struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, len(packed), 2**20, 5, 0, 0, 0, 0, 0, 0
        )
        + f"{number}.png".encode()
        for number in range(5)
    )
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 5, 5, len(central), len(local), 0)
    (tmp_path / "a.zip").write_bytes(local + central + end)
    items = check_contract(open_source(tmp_path / "a.zip"))
    assert len(items) == 5
    assert all("decompression bomb" in (item.error or "") for item in items)


def test_damage_is_a_row(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [(f"p/{i}.png", PNG) for i in range(3)], method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    at = data.index(PNG, data.index(PNG) + 1)
    data[at + 100] ^= 1
    path.write_bytes(data)
    items = check_contract(open_source(path))
    assert [item.error for item in items] == [None, "damaged in the zip", None]


def test_encrypted_and_rare_methods(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("p/0.png", PNG)], method=zipfile.ZIP_LZMA)
    assert check_contract(open_source(path))[0].error == "compression method 14 is not supported"
    path = write_zip(tmp_path / "b.zip", [("p/0.png", PNG)])
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert (
        check_contract(open_source(path))[0].error == "encrypted: unpack the zip with its password, and give the folder"
    )
    assert "1 files that cannot be read: encrypted" in "\n".join(open_source(path).summary().notes)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + b"x" * 100])
def test_no_zip(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"is no zip|no images"):
        items_of(open_source(tmp_path / "a.zip"))


def test_every_cut_is_an_error_or_rows(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "a.zip", [(f"p/{i}.png", PNG) for i in range(2)]).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "a.zip").write_bytes(whole[:length])
        try:
            items_of(open_source(tmp_path / "a.zip"))
        except ArchiveError:
            continue


@pytest.mark.parametrize("gap", [0, 29, 30])
def test_members_that_share_a_local_header_overlap(gap: int) -> None:
    first, second = zipfile.ZipInfo("a.png"), zipfile.ZipInfo("b.png")
    first.header_offset, first.compress_size = 0, 100
    second.header_offset, second.compress_size = 100 + gap, 100
    assert _overlapping({"a.png": first, "b.png": second}) == ({"a.png", "b.png"} if gap < 30 else set())


def plain_zip(path: Path, names: list[bytes], *, extra: bytes = b"", part: int = 0) -> Path:
    """A zip of stored pictures that says nothing of its names' encoding."""
    body, index = b"", b""
    for name in names:
        rest = struct.pack("<HHHIIIH", 0, 0, 0x5000, zlib.crc32(PNG), len(PNG), len(PNG), len(name))
        index += struct.pack("<4sHHH", b"PK\1\2", 20, 20, 0) + rest
        index += struct.pack("<HHHHII", len(extra), 0, part, 0, 0, len(body)) + name + extra
        body += struct.pack("<4sHH", b"PK\3\4", 20, 0) + rest + struct.pack("<H", 0) + name + PNG
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", part, part, len(names), len(names), len(index), len(body), 0)
    path.write_bytes(body + index + end)
    return path


class TestNamesOfOtherSystems:
    def told(self, tmp_path: Path, name: bytes, extra: bytes = b"") -> str:
        return check_contract(open_source(plain_zip(tmp_path / "a.zip", [name], extra=extra)))[0].image.prompt

    @pytest.mark.parametrize("encoding", ["utf-8", "cp437"])
    def test_encodings_that_are_not_said(self, tmp_path: Path, encoding: str) -> None:
        assert self.told(tmp_path, "Bilder/une infirmière/0.png".encode(encoding)) == "une infirmière"

    def test_folders_parted_as_windows_does(self, tmp_path: Path) -> None:
        assert self.told(tmp_path, b"Bilder\\a nurse\\0.png") == "a nurse"

    def test_the_name_beside_the_name(self, tmp_path: Path) -> None:
        raw, meant = "inf\xa2/0.png".encode("latin-1"), "看護師/0.png".encode()
        for checksum, found in ((zlib.crc32(raw), "看護師"), (1, "infó")):
            field = struct.pack("<BI", 1, checksum) + meant
            assert self.told(tmp_path, raw, struct.pack("<HH", 0x7075, len(field)) + field) == found

    def test_a_damaged_field_beside_the_name(self, tmp_path: Path) -> None:
        damaged = struct.pack("<HH", 0x7075, 3) + b"abc"
        if "filename_crc" in inspect.signature(zipfile.ZipInfo._decodeExtra).parameters:  # newer Pythons read the field
            with pytest.raises(ArchiveError, match=r"a\.zip is no zip, .* or is damaged"):
                self.told(tmp_path, "é/0.png".encode(), damaged)
        else:
            assert self.told(tmp_path, "é/0.png".encode(), damaged) == "é"


class TestParts:
    def test_a_part_of_several(self, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError, match=r"last part of a split zip: join its parts \(zip -s 0 a.zip"):
            open_source(plain_zip(tmp_path / "a.zip", [b"p/0.png"], part=1)).summary()

    def test_cut_short(self, tmp_path: Path) -> None:
        path = plain_zip(tmp_path / "a.zip", [b"p/0.png"])
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(ArchiveError, match="damaged or cut short"):
            open_source(path).summary()

    @pytest.mark.parametrize(
        ("name", "how"),
        [
            ("a.7z", "unpack it"),
            ("a.tar.zst", "unpack it"),
            ("a.z02", "unpack it"),
            ("a.xlsx", "save the sheet as CSV"),
        ],
    )
    def test_what_is_not_read(self, tmp_path: Path, name: str, how: str) -> None:
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ArchiveError, match=how):
            open_source(tmp_path / name)
