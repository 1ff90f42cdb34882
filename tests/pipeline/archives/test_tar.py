"""Tar shards: WebDataset's layout, any dialect of tar, and tars that lie."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allfour.pipeline.archives import INDEX_STRIDE, NO_PROMPT_ID, ArchiveError, ArchiveOptions, open_source
from allfour.pipeline.archives.options import PromptFrom
from allfour.pipeline.archives.tar_stream import BrokenTarError, TarStream
from tests.hostile_images import HOSTILE_NAMES, good_file, zeros
from tests.pipeline.archives.helpers import check_contract, items_of, rows, write_tar
from tests.pipeline.archives.test_metadata import png as png_with

PNG = good_file(0, "png")
JPG = good_file(0, "jpeg")


def read_all(data: bytes) -> list[tuple[str, bytes]]:
    stream = TarStream(io.BytesIO(data))
    return [(member.name, stream.read()) for member in stream if member.regular]


class TestStream:
    @settings(max_examples=40)
    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200),
                st.binary(max_size=1500),
            ),
            max_size=6,
        ),
        st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    )
    def test_agrees_with_tarfile(self, members: list[tuple[str, bytes]], format: int) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=format, encoding="utf-8", errors="surrogatepass") as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        with tarfile.open(fileobj=io.BytesIO(buffer.getvalue()), encoding="utf-8") as tar:
            expected = [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
        found = [(name.rstrip("/"), data) for name, data in read_all(buffer.getvalue())]
        assert found == [(name.rstrip("/"), data) for name, data in expected]

    def test_ustar_prefix(self) -> None:
        buffer = io.BytesIO()
        name = "folder" * 14 + "/" + "name" * 20
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            tar.addfile(tarfile.TarInfo(name))
        assert read_all(buffer.getvalue()) == [(name, b"")]

    @given(st.binary(max_size=3000))
    @settings(max_examples=100)
    def test_noise(self, noise: bytes) -> None:
        try:
            read_all(noise)
        except BrokenTarError as error:
            assert str(error).isprintable()

    def test_every_truncation_and_flip_ends_in_rows_or_one_error(self, tmp_path: Path) -> None:
        data = write_tar(tmp_path / "x.tar", [(f"p/{i}.png", bytes([i]) * 700) for i in range(4)]).read_bytes()
        whole = read_all(data)
        rng = random.Random(0)
        for _ in range(300):
            cut = data[: rng.randrange(len(data))]
            flipped = bytearray(data)
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            for broken in (cut, bytes(flipped)):
                try:
                    found = read_all(broken)
                except BrokenTarError:
                    continue
                assert len(found) <= len(whole)

    def test_headers_that_claim_gigabytes(self) -> None:
        for kind in (b"L", b"x", b"g"):
            info = tarfile.TarInfo("x")
            info.size = 2**33
            info.type = kind
            header = info.tobuf(tarfile.GNU_FORMAT)
            tracemalloc.start()
            with pytest.raises(BrokenTarError, match="a header of"):
                read_all(header + bytes(1024))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 2**22


class TestPrompts:
    def test_captions_in_any_order_within_a_key(self, tmp_path: Path) -> None:
        members = [
            ("0000.txt", b"a nurse"),
            ("0000.jpg", JPG),
            ("0001.png", PNG),
            ("0001.json", json.dumps({"caption": "a cto", "seed": 7, "cfg": 1.5}).encode()),
            ("0001.cls", b"3"),
            ("0002.jpg", JPG),
            ("0002.txt", b"a nurse"),
        ]
        for name, mode in (("x.tar", "w"), ("x.tar.gz", "w:gz")):
            items = check_contract(open_source(write_tar(tmp_path / name, members, mode=mode)))
            assert rows(items) == [("a nurse", 0, JPG), ("a cto", 0, PNG), ("a nurse", 1, JPG)]
            assert (items[1].image.seed, items[1].image.extra) == (7, {"cfg": "1.5"})
            assert items[0].image.path == f"{tmp_path}/{name}::0000.jpg"

    def test_captions_far_from_their_images(self, tmp_path: Path) -> None:
        members = [(f"{i:04d}.jpg", JPG) for i in range(5)] + [(f"{i:04d}.txt", b"a nurse") for i in range(5)]
        items = check_contract(open_source(write_tar(tmp_path / "x.tar", members)))
        assert [item.image.prompt for item in items] == ["a nurse"] * 5
        # In a compressed tar that would need all images in memory: rows that say so.
        path = write_tar(tmp_path / "x.tar.gz", members, mode="w:gz")
        items = check_contract(open_source(path, options=ArchiveOptions(prompt_from="caption")))
        assert {item.image.prompt_id for item in items} == {NO_PROMPT_ID}
        assert all("no caption" in (item.error or "") for item in items)

    def test_several_images_of_one_key(self, tmp_path: Path) -> None:
        members = [("7.a.jpg", JPG), ("7.b.jpg", JPG), ("7.txt", b"a nurse"), ("7.b.txt", b"a cto")]
        items = check_contract(open_source(write_tar(tmp_path / "x.tar", members)))
        assert [item.image.prompt for item in items] == ["a nurse", "a cto"]

    def test_folders(self, tmp_path: Path) -> None:
        members = [("a_nurse/0.jpg", JPG), ("./deep/a_nurse/0.jpg", JPG), ("cto/x.png", PNG)]
        items = check_contract(open_source(write_tar(tmp_path / "x.tar", members)))
        assert rows(items) == [("a nurse", 0, JPG), ("a nurse", 1, JPG), ("cto", 0, PNG)]

    def test_metadata(self, tmp_path: Path) -> None:
        data = png_with(parameters="a nurse\nSteps: 20, Sampler: x")
        items = check_contract(open_source(write_tar(tmp_path / "x.tar", [("0.png", data), ("1.png", PNG)])))
        assert [item.image.prompt for item in items] == ["a nurse", ""]
        assert items[1].error == "no prompt: none in the image's metadata"

    def test_nothing_says_the_prompt(self, tmp_path: Path) -> None:
        for number in range(2):
            write_tar(tmp_path / f"{number:02d}.tar", [("0.jpg", JPG)])
        with pytest.raises(ArchiveError, match="Set prompt_from: folder"):
            items_of(open_source(tmp_path))
        items = check_contract(open_source(tmp_path, options=ArchiveOptions(prompt_from="folder")))
        assert [item.image.prompt for item in items] == ["00", "01"]
        with pytest.raises(
            ArchiveError, match="Set prompt_from: folder"
        ):  # a number is no prompt unless it is asked for
            items_of(open_source(tmp_path / "01.tar"))
        write_tar(tmp_path / "a_nurse.tar", [("0.jpg", JPG)])
        assert [item.image.prompt for item in items_of(open_source(tmp_path / "a_nurse.tar"))] == ["a nurse"]


class TestContainers:
    def test_told_by_content_whatever_the_name(self, tmp_path: Path) -> None:
        members = [("0.jpg", JPG), ("0.txt", b"a nurse"), ("1.jpg", JPG), ("1.txt", b"a cto")]
        plain = write_tar(tmp_path / "right.tar", members)
        zipped = tmp_path / "named.tar"
        zipped.write_bytes(gzip.compress(plain.read_bytes()))
        unzipped = tmp_path / "named.tar.gz"
        unzipped.write_bytes(plain.read_bytes())
        expected = rows(items_of(open_source(plain)))
        for path in (zipped, unzipped):
            assert rows(check_contract(open_source(path))) == expected

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (bz2.compress(b"x" * 999), "bzip2: unpack it first"),
            (lzma.compress(b"x" * 999), "xz: unpack it first"),
            (b"PK\x03\x04 and so on", "a zip: name it .zip, or set archive.layout to zip"),
            (b"hello", "the tar is cut short"),
            (b"h" * 999, "this is no tar file"),
        ],
    )
    def test_what_else_it_is(self, tmp_path: Path, data: bytes, message: str) -> None:
        (tmp_path / "x.tar").write_bytes(data)
        with pytest.raises(ArchiveError, match=message):
            items_of(open_source(tmp_path / "x.tar"))

    @pytest.mark.parametrize("prompt_from", ["auto", "caption", "folder", "metadata"])
    def test_nothing_in_it(self, tmp_path: Path, prompt_from: PromptFrom) -> None:
        source = open_source(
            write_tar(tmp_path / "x.tar", [("0.txt", b"x")]), options=ArchiveOptions(prompt_from=prompt_from)
        )
        for asked in (source.summary, lambda: items_of(source)):
            with pytest.raises(ArchiveError, match="no images in"):
                asked()

    def test_images_without_a_prompt_are_said(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "x.tar", [("0.png", PNG), ("0.txt", b"a nurse" + b"!" * 10_000), ("1.png", PNG)])
        caption, metadata = (
            open_source(path, options=ArchiveOptions(prompt_from=way)) for way in ("caption", "metadata")
        )
        notes = caption.summary().notes
        assert "1 of 2 images have no caption of their key: rows without a prompt, which are not scored" in notes
        assert any(note.startswith("1 prompt is longer than 10,000 characters and cut in the tables") for note in notes)
        (cut, lacking) = check_contract(caption)
        assert (len(cut.image.prompt), cut.image.extra) == (10_000, {"prompt_characters": "10007"})
        assert (lacking.image.prompt_id, lacking.image.extra) == (NO_PROMPT_ID, {})
        message = (
            "2 of the first 2 images have no prompt in their metadata: rows without a prompt, which are not scored"
        )
        assert message in metadata.summary().notes


class TestShards:
    def test_patterns_and_indexes_over_shards(self, tmp_path: Path) -> None:
        for number in range(12):
            write_tar(tmp_path / f"{number:04d}.tar", [("nurse/0.jpg", JPG), ("nurse/1.jpg", JPG)])
        source = open_source(f"{tmp_path}/{{0002..0004}}.tar")
        items = check_contract(source)
        assert [item.image.index for item in items] == [
            shard * INDEX_STRIDE + number for shard in range(3) for number in range(2)
        ]
        for pattern in (tmp_path, f"{tmp_path}/*.tar", f"{tmp_path}/{{0000..0011}}.tar"):
            assert len(items_of(open_source(pattern))) == 24
        with pytest.raises(ArchiveError, match="nothing matches"):
            open_source(f"{tmp_path}/x*.tar")
        with pytest.raises(ArchiveError, match="nothing at"):
            open_source(f"{tmp_path}/{{0011..0012}}.tar")
        with pytest.raises(ArchiveError, match="more than 1,000,000 names"):
            open_source(f"{tmp_path}/{{0..99999999}}.tar")

    def test_fingerprint(self, tmp_path: Path) -> None:
        paths = [write_tar(tmp_path / f"{number}.tar", [("p/0.jpg", JPG)]) for number in range(2)]
        before = list(open_source(tmp_path).shards())
        os.utime(paths[1], ns=(5, 5))
        after = list(open_source(tmp_path).shards())
        assert [shard.id for shard in after] == [shard.id for shard in before]
        assert [a.fingerprint == b.fingerprint for a, b in zip(after, before, strict=True)] == [True, False]

    def test_summary(self, tmp_path: Path) -> None:
        for number in range(3):
            write_tar(tmp_path / f"{number}.tar", [("0.jpg", JPG), ("0.txt", b"a nurse"), ("1.mp4", b"x")])
        summary = open_source(tmp_path).summary()
        assert (summary.layout, summary.images, summary.prompts, summary.shards) == ("tar", 3, 1, 3)
        assert "prompts are taken from each image's caption" in summary.notes
        assert "3 .mp4 files, not taken for images" in summary.notes
        assert summary.examples[0] == f"a nurse <- {tmp_path}/0.tar::0.jpg"

    def test_folders_of_tars_beside_images_are_folders(self, tmp_path: Path) -> None:
        write_tar(tmp_path / "0.tar", [("p/0.jpg", JPG)])
        (tmp_path / "q").mkdir()
        (tmp_path / "q" / "0.jpg").write_bytes(JPG)
        source = open_source(tmp_path)
        assert source.identity()["layout"] == "folder"
        assert "1 .tar archives inside the tree, not opened: rescore them by themselves" in "\n".join(
            source.summary().notes
        )


class TestHostile:
    def test_names_are_never_paths(self, tmp_path: Path) -> None:
        names = ["../../etc/passwd.png", "/etc/shadow.png", "p/../../x.png", "C:\\x.png", "..png/..", "./././0.png"]
        names += [name.decode("utf-8", "surrogateescape") + "/0.png" for name in HOSTILE_NAMES]
        before = sorted(tmp_path.parent.rglob("*"))
        path = write_tar(tmp_path / "x.tar", [(name, PNG) for name in names])
        items = check_contract(open_source(path))
        assert len(items) >= len(names) - 1
        assert all(item.data == PNG for item in items)
        assert sorted(tmp_path.parent.rglob("*")) == sorted([*before, path])

    def test_links_and_devices(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
                info = tarfile.TarInfo(f"p/{number}.png")
                info.type, info.linkname = kind, "/etc/passwd"
                tar.addfile(info)
            info = tarfile.TarInfo("p/9.png")
            info.size = len(PNG)
            tar.addfile(info, io.BytesIO(PNG))
        items = check_contract(open_source(tmp_path / "x.tar"))
        assert [item.error for item in items] == ["a link or special file in the tar, not followed"] * 4 + [None]

    def test_cut_short(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "x.tar", [(f"p/{i}.png", PNG) for i in range(4)])
        block = 512 + -(-len(PNG) // 512) * 512
        path.write_bytes(path.read_bytes()[: 2 * block + 700])
        items = check_contract(open_source(path))
        assert [item.data for item in items] == [PNG, PNG, None]
        assert items[2].error == "the tar is cut short inside this image; nothing behind it can be read"
        path.write_bytes(path.read_bytes()[: 2 * block + 100])
        items = check_contract(open_source(path))
        assert items[2].image.prompt_id == NO_PROMPT_ID
        assert items[2].error == "the tar is cut short; nothing behind this can be read"

    def test_damaged_in_the_middle(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "x.tar", [(f"p/{i}.png", PNG) for i in range(4)])
        block = 512 + -(-len(PNG) // 512) * 512
        data = bytearray(path.read_bytes())
        data[block : block + 20] = b"#" * 20
        path.write_bytes(data)
        items = check_contract(open_source(path))
        assert [item.data for item in items] == [PNG, None]
        assert "damaged at byte" in (items[1].error or "")

    @pytest.mark.parametrize("packed", [False, True])
    def test_joined_tars_are_not_left_out_in_silence(self, tmp_path: Path, packed: bool) -> None:
        first, second = (
            write_tar(tmp_path / f"{name}.tar", [(f"{name}/{i}.png", PNG) for i in range(2)]).read_bytes()
            for name in "ab"
        )
        path = tmp_path / "joined.tar"
        path.write_bytes(gzip.compress(first) + gzip.compress(second) if packed else first + second)
        source = open_source(path)
        items = check_contract(source)
        assert [item.image.prompt for item in items] == ["a", "a", ""]
        assert (items[2].error or "").startswith("more follows its end, as where several tars were joined")
        assert "more follows its end" in "\n".join(source.summary().notes)
        path.write_bytes(first + bytes(3 * 2**20))
        assert len(items_of(open_source(path))) == 2

    def test_gzip_damage_and_bombs(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "x.tar.gz", [(f"p/{i}.png", os.urandom(3000)) for i in range(4)], mode="w:gz")
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        items = check_contract(open_source(path))
        assert items[-1].error and "cut short" in items[-1].error
        path.write_bytes(data[:5000] + bytes(100) + data[5100:])
        assert check_contract(open_source(path))[-1].error
        path.write_bytes(b"no gzip at all")
        with pytest.raises(ArchiveError, match="no images"):
            items_of(open_source(path))

    def test_gzip_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("allfour.pipeline.archives.tar_opening._BOMB_BYTES", 2**24)
        info = tarfile.TarInfo("p/1.png")
        info.size = 2**36
        good = tarfile.TarInfo("p/0.png")
        good.size = len(PNG)
        head = good.tobuf() + PNG + bytes(-len(PNG) % 512) + info.tobuf()
        path = tmp_path / "x.tar.gz"
        path.write_bytes(gzip.compress(head) + gzip.compress(bytes(2**20)) * 64)
        items = check_contract(open_source(path))
        assert items[0].data == PNG
        assert "over the limit" in (items[1].error or "")
        assert "decompression bomb" in (items[2].error or "")
        assert len(zeros(1)) < 5_000

    def test_size_limit_and_unknown_names(self, tmp_path: Path) -> None:
        members = [("p/0.png", PNG), ("p/1.png", bytes(5_000)), ("p/2", PNG), ("p/3.dat", b"x"), ("p/._0.png", b"x")]
        options = ArchiveOptions(max_image_bytes=4_000)
        items = check_contract(open_source(write_tar(tmp_path / "x.tar", members), options=options))
        assert [item.data for item in items] == [PNG, None, PNG]

    def test_no_tar(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(b"<html>not found</html>" * 100)
        with pytest.raises(ArchiveError, match="this is no tar file"):
            items_of(open_source(tmp_path / "x.tar"))
        write_tar(tmp_path / "a.tar", [("p/0.png", PNG)])
        items = check_contract(open_source(tmp_path))
        assert [item.error is None for item in items] == [True, False]


def _member(name: bytes, *, kind: bytes = b"0", size: int = 0, signed: bool = False) -> bytes:
    """A header made by hand, its checksum over bytes that are taken as signed or not."""
    fields = bytearray(512)
    fields[: len(name)] = name
    fields[124:136] = b"%011o\0" % size
    fields[148:156] = b" " * 8
    fields[156:157] = kind
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in fields)
    fields[148:156] = b"%06o\0 " % total
    return bytes(fields)


def test_a_checksum_of_signed_bytes_holds() -> None:
    name = "p/é.png".encode()
    assert _member(name) != _member(name, signed=True)
    for signed in (False, True):
        data = _member(name, size=4, signed=signed) + b"data".ljust(512, b"\0") + bytes(1024)
        assert read_all(data) == [("p/é.png", b"data")]


@pytest.mark.parametrize("size", [2**60 + 1, 2**63 - 1, 2**80])
def test_a_size_that_no_file_has_breaks_the_tar(tmp_path: Path, size: int) -> None:
    """What is stepped over is told to the system, whose numbers end at 2**63."""
    header = bytearray(_member(b"p/1.png"))
    header[124:136] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    good = _member(b"p/0.png", size=len(PNG)) + PNG + bytes(-len(PNG) % 512)
    (tmp_path / "x.tar").write_bytes(good + header + bytes(1024))
    source = open_source(tmp_path / "x.tar")
    assert [item.data for item in check_contract(source)] == [PNG, None]
    assert any("a header with a size that is none" in note for note in source.summary().notes)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_links_devices_and_folders_have_no_content_whatever_they_state(kind: bytes) -> None:
    data = _member(b"x", kind=kind, size=512) + _member(b"p/0.png", size=4) + b"data".ljust(512, b"\0") + bytes(1024)
    assert read_all(data) == [("p/0.png", b"data")]
