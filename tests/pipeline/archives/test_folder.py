"""Folders of images: which files count, whose prompt they are, and names that bite."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfour.pipeline.archives import NO_PROMPT_ID, ArchiveError, ArchiveOptions, open_source
from allfour.pipeline.archives.base import HasDoubts
from allfour.pipeline.archives.decoding import UnreadableImage, decode
from allfour.pipeline.archives.text import clean_text, escape_name, natural_key, unescape_name
from allfour.pipeline.archives.unprompted import LACKS_PROMPT, why_missing
from allfour.pipeline.run.columns import IMAGES_SCHEMA
from tests.conftest import shared_data
from tests.hostile_images import good_file, write_hostile_names, write_mixed_archive
from tests.pipeline.archives.helpers import EMPTY, check_contract, items_of, rows, write_tar, write_tree

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PNG = good_file(0, "png")
JPG = good_file(0, "jpeg")


class TestLayout:
    def test_prompt_and_index(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"a_nurse/1.png": PNG, "a_nurse/10.jpg": JPG, "a_nurse/2.png": PNG, "cto/007.png": PNG})
        items = check_contract(open_source(tmp_path))
        assert rows(items) == [("a nurse", 1, PNG), ("a nurse", 2, PNG), ("a nurse", 10, JPG), ("cto", 7, PNG)]
        assert [item.image.prompt_id for item in items] == ["a_nurse", "a_nurse", "a_nurse", "cto"]
        assert items[0].image.path == str(tmp_path / "a_nurse" / "1.png")

    def test_any_depth_and_the_same_prompt_in_two_places(self, tmp_path: Path) -> None:
        names = ["x/y/nurse/0.png", "x/y/nurse/1.png", "z/nurse/0.png", "z/nurse/1.png"]
        write_tree(tmp_path, dict.fromkeys(names, PNG))
        items = check_contract(open_source(tmp_path))
        assert [item.image.index for item in items] == [0, 1, 2, 3]
        assert {item.image.prompt_id for item in items} == {"nurse"}

    def test_images_in_the_root_have_its_name(self, tmp_path: Path) -> None:
        root = write_tree(tmp_path / "personal_assistant", {"1.png": PNG, "2.png": PNG})
        assert {item.image.prompt for item in check_contract(open_source(root))} == {"personal assistant"}

    @pytest.mark.parametrize(
        ("names", "indexes"),
        [
            (["1.png", "2.jpg", "10.png"], [1, 2, 10]),
            (["1.png", "1.jpg"], [0, 1]),
            (["1.png", "01.png"], [0, 1]),
            (["1.png", "b.png"], [0, 1]),
            (["image 2.png", "image 10.png"], [0, 1]),
            (["20220401123456789.png", "20220401123456790.png"], [0, 1]),
        ],
    )
    def test_index_from_names_where_they_are_rising_numbers(
        self, tmp_path: Path, names: list[str], indexes: list[int]
    ) -> None:
        write_tree(tmp_path, {f"p/{name}": PNG for name in names})
        items = check_contract(open_source(tmp_path))
        assert [item.image.index for item in items] == indexes

    def test_shards_of_the_sorted_listing(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {f"p{i}/{j}.png": PNG for i in range(5) for j in range(5)})
        source = open_source(tmp_path, options=ArchiveOptions(shard_size=7))
        assert [shard.images for shard in source.shards()] == [7, 7, 7, 4]
        whole = items_of(open_source(tmp_path))
        assert check_contract(source) == whole

    def test_known_prompts(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"nurse/0.png": PNG, "other thing/0.png": PNG})
        known = {"nurse": ("a photo of a nurse", "extreme-she"), "maestro": ("a maestro", None)}
        first, second = check_contract(open_source(tmp_path, options=ArchiveOptions(prompts=known)))
        assert (first.image.prompt_id, first.image.prompt, first.image.group) == (
            "nurse",
            "a photo of a nurse",
            "extreme-she",
        )
        assert (second.image.prompt, second.image.group) == ("other thing", None)

    def test_summary(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {f"p{i}/{j}.png": PNG for i in range(3) for j in range(i + 2)})
        summary = open_source(tmp_path).summary()
        assert (summary.layout, summary.images, summary.prompts, summary.shards) == ("folder", 9, 3, 1)
        assert summary.images_per_prompt == {2: 1, 3: 1, 4: 1}
        assert summary.examples[0] == f"p0 <- {tmp_path}/p0/0.png"

    def test_real_archive(self) -> None:
        summary = open_source(shared_data("generated-occupations")).summary()
        assert (summary.images, summary.prompts, dict(summary.images_per_prompt or {})) == (60, 6, {10: 6})


class TestWhatCounts:
    def test_other_files_are_noted(self, tmp_path: Path) -> None:
        others = {"p/notes.txt": b"x", "p/more.txt": b"x", "p/.DS_Store": b"x", "p/x.csv": b"x", "q.zip": b"x"}
        write_tree(tmp_path, {"p/0.png": PNG, ".git/1.png": PNG, "__MACOSX/p/0.png": PNG, **others})
        source = open_source(tmp_path)
        assert len(items_of(source)) == 1
        notes = "\n".join(source.summary().notes)
        assert "2 .txt files, not taken for images" in notes
        assert "1 .csv files" in notes
        assert "1 hidden or system files" in notes
        assert "2 hidden or system folders" in notes
        note = "1 .zip archives inside the tree, not opened: rescore them by themselves, such as q.zip"
        assert source.summary().notes.count(note) == 1
        assert isinstance(source, HasDoubts)
        assert source.doubts()[:1] == [note]

    def test_whatever_is_named_as_an_image_has_a_row(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"p/0.png": b"", "p/1.JPG": b"junk", "p/2.heic": b"\0\0\0\x18ftypheic", "p/3.webp": PNG})
        assert [item.data for item in check_contract(open_source(tmp_path))] == [
            b"",
            b"junk",
            b"\0\0\0\x18ftypheic",
            PNG,
        ]

    def test_unknown_names_are_told_by_content(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"p/0": PNG, "p/1.image": JPG, "p/2": b"text", "p/3.dat": b"\0" * 9})
        source = open_source(tmp_path)
        assert [item.data for item in check_contract(source)] == [PNG, JPG]
        notes = "\n".join(source.summary().notes)
        assert "1 files without an extension, taken for images: their content is PNG" in notes
        assert "1 files without an extension, not taken for images: their content is none" in notes
        assert "1 files named .image, taken for images: their content is JPEG" in notes

    def test_size_limit(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"p/0.png": PNG, "p/1.png": b"x" * 5_000})
        items = check_contract(open_source(tmp_path, options=ArchiveOptions(max_image_bytes=4_000)))
        assert [item.error for item in items] == [
            None,
            "5,000 bytes are over the limit of 4,000 bytes (max_image_bytes)",
        ]

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError, match=r"no images in .* \(it is empty\)"):
            list(open_source(tmp_path).shards())
        write_tree(tmp_path, {"a.txt": b"", "sub/b.pdf": b""})
        with pytest.raises(ArchiveError, match=r"1 \.pdf files, not taken for images"):
            list(open_source(tmp_path).shards())
        with pytest.raises(ArchiveError, match="nothing at"):
            open_source(tmp_path / "nowhere")
        (tmp_path / "one.png").write_bytes(PNG)
        with pytest.raises(ArchiveError, match="it is one image: give the folder"):
            open_source(tmp_path / "one.png")

    def test_column_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError, match="files have no columns"):
            open_source(write_tree(tmp_path, {"p/0.png": PNG}), options=ArchiveOptions(prompt_from="column"))


class TestHostile:
    def test_links(self, tmp_path: Path) -> None:
        outside = write_tree(tmp_path / "outside", {"secret.png": PNG})
        root = write_tree(tmp_path / "root", {"p/0.png": PNG})
        (root / "p" / "1.png").symlink_to(root / "p" / "0.png")
        (root / "p" / "2.png").symlink_to(outside / "secret.png")
        (root / "p" / "3.png").symlink_to(root / "gone.png")
        (root / "loop").symlink_to(root)
        (root / "q").symlink_to(root / "p")
        source = open_source(root)
        assert [item.image.index for item in check_contract(source)] == [0, 1]
        notes = "\n".join(source.summary().notes)
        assert "1 links that lead out of the folder" in notes
        assert "1 links that lead nowhere" in notes
        assert "links to folders or devices" in notes

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"p/0.png": PNG, "p/1.png": PNG})
        os.mkfifo(tmp_path / "p" / "2.png")
        source = open_source(tmp_path)
        shard = next(iter(source.shards()))
        (tmp_path / "p" / "1.png").unlink()
        os.mkfifo(tmp_path / "p" / "1.png")
        assert [item.error for item in source.read(shard)] == [None, "no regular file"]

    def test_files_that_vanish_are_rows(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"p/0.png": PNG, "p/1.png": PNG})
        source = open_source(tmp_path)
        shard = next(iter(source.shards()))
        (tmp_path / "p" / "0.png").unlink()
        assert [(item.image.index, item.error) for item in source.read(shard)] == [
            (0, "the file is missing"),
            (1, None),
        ]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable_files_and_folders(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"p/0.png": PNG, "closed/0.png": PNG})
        (tmp_path / "p" / "0.png").chmod(0)
        (tmp_path / "closed").chmod(0)
        source = open_source(tmp_path)
        try:
            assert [item.error for item in items_of(source)] == ["cannot be read: Permission denied"]
            assert "folders that cannot be listed" in "\n".join(source.summary().notes)
        finally:
            (tmp_path / "closed").chmod(0o700)

    def test_names(self, tmp_path: Path) -> None:
        names = write_hostile_names(tmp_path, PNG)
        assert len(names) > 10
        items = check_contract(open_source(tmp_path))
        assert len(items) == len(names)
        assert len({item.image.prompt_id for item in items}) == len(names)
        found = {os.fsencode(unescape_name(item.image.path)) for item in items}
        assert found == {b"/".join([os.fsencode(tmp_path), name, name + b".png"]) for name in names}
        for item in items:
            assert item.data == PNG
            assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in item.image.prompt)

    @given(st.text(alphabet=st.characters(), max_size=40))
    def test_escaping_is_reversible_and_valid(self, name: str) -> None:
        text = escape_name(name)
        text.encode("utf-8")
        if not any(0xDC00 <= ord(char) <= 0xDC7F or ord(char) >= 0xDD00 for char in name):
            assert unescape_name(text) == name
        clean_text(name).encode("utf-8")

    @given(st.lists(st.integers(0, 10**12), unique=True, max_size=20))
    def test_natural_order(self, numbers: list[int]) -> None:
        names = [f"image {number}.png" for number in numbers]
        assert sorted(names, key=natural_key) == [f"image {number}.png" for number in sorted(numbers)]

    def test_damaged_files_among_good_ones(self, tmp_path: Path) -> None:
        counts = write_mixed_archive(tmp_path, good=120, damaged=120)
        outcomes: Counter[str] = Counter()
        for item in check_contract(open_source(tmp_path, options=ArchiveOptions(shard_size=50))):
            assert item.data is not None
            try:
                decode(item.data)
                outcomes["readable"] += 1
            except UnreadableImage:
                outcomes["unreadable"] += 1
        assert outcomes.total() == 240
        assert counts["damaged"] <= outcomes["unreadable"] <= counts["damaged"] + counts["undecided"]


class TestFingerprint:
    def test_changes_with_the_input_alone(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {f"p/{i}.png": PNG for i in range(4)} | {f"q/{i}.png": PNG for i in range(4)})
        options = ArchiveOptions(shard_size=4)

        def fingerprints() -> list[str]:
            return [shard.fingerprint for shard in open_source(tmp_path, options=options).shards()]

        before = fingerprints()
        assert fingerprints() == before
        (tmp_path / "p" / "notes.txt").write_bytes(b"no image")
        assert fingerprints() == before
        os.utime(tmp_path / "q" / "2.png", ns=(1, 1))
        changed = fingerprints()
        assert changed[0] == before[0] and changed[1] != before[1]
        (tmp_path / "p" / "0.png").write_bytes(PNG + b"\0")
        assert fingerprints()[0] != before[0]

    def test_changes_with_what_the_prompts_are(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"nurse/0.png": PNG})

        def fingerprint(**options: object) -> str:
            return next(iter(open_source(tmp_path, options=ArchiveOptions(**options)).shards())).fingerprint

        assert fingerprint() == fingerprint(shard_size=5)
        one = fingerprint(prompts={"nurse": ("a nurse", None)})
        assert len({fingerprint(), one, fingerprint(prompts={"nurse": ("a nurse", "she")})}) == 3

    def test_unknown_shard(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"p/0.png": PNG})
        source = open_source(tmp_path, options=ArchiveOptions(shard_size=1))
        (shard,) = source.shards()
        other = type(shard)(id="000009-folder", ordinal=9, fingerprint="")
        with pytest.raises(ArchiveError, match="has changed since it was listed"):
            list(source.read(other))


class TestPromptsFromElsewhere:
    def test_captions(self, tmp_path: Path) -> None:
        files = {"0.png": PNG, "0.txt": b"a nurse\n", "1.png": PNG, "1.json": b'{"caption": "a nurse", "seed": 4}'}
        write_tree(tmp_path / "p", {**files, "2.png": PNG})
        items = check_contract(open_source(tmp_path, options=ArchiveOptions(prompt_from="caption")))
        assert [(item.image.prompt, item.image.index) for item in items] == [("a nurse", 0), ("a nurse", 1), ("", 0)]
        assert items[1].image.extra == {"seed": "4"} or items[1].image.seed == 4
        assert items[2].image.prompt_id == NO_PROMPT_ID and "no caption file" in (items[2].error or "")
        for way, message in (
            ("caption", "1 of 3 images have no caption file beside them"),
            ("metadata", "3 of the first 3 images have no prompt in their metadata"),
        ):
            notes = open_source(tmp_path, options=ArchiveOptions(prompt_from=way)).summary().notes
            assert any(note.startswith(message) for note in notes)

    def test_folders_that_read_alike(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"a nurse/0.png": PNG, "a_nurse/0.png": PNG, "x/a_nurse/0.png": PNG, "cto/0.png": PNG})
        source = open_source(tmp_path)
        assert len({item.image.prompt_id for item in check_contract(source)}) == 3
        assert [note for note in source.summary().notes if "counted apart" in note] == [
            "2 prompts read as another one does, such as 'a nurse', and are counted apart, as their folders are named differently (a "
            "space, an underscore); name them alike to make them one"
        ]

    def test_a_flat_folder_with_captions_is_read_by_them(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"0.png": PNG, "0.txt": b"a nurse", "1.png": PNG, "1.txt": b"a pilot"})
        assert [item.image.prompt for item in check_contract(open_source(tmp_path))] == ["a nurse", "a pilot"]
        (tmp_path / "1.txt").unlink()
        source = open_source(tmp_path)
        assert {item.image.prompt_id for item in check_contract(source)} == {items_of(source)[0].image.prompt_id}
        assert any("caption file beside them" in note for note in source.summary().notes)


def test_listing_holds_little_per_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million files must list in a few gigabytes: files are stood for by their names and two numbers."""
    import tracemalloc

    from allfour.pipeline.archives.entries import FileEntry
    from allfour.pipeline.archives.folder import LocalTree

    def walk(self: LocalTree, notes: Counter[str]) -> object:
        for folder in range(10):
            yield f"prompt {folder}", [FileEntry(f"{number:06d}.jpg", 1000, number) for number in range(10, 1_010)]

    monkeypatch.setattr(LocalTree, "walk", walk)
    source = open_source(tmp_path, options=ArchiveOptions(layout="folder", shard_size=1_000))
    tracemalloc.start()
    shards = sum(shard.images or 0 for shard in source.shards())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shards == 10_000
    assert peak / 10_000 < 250


def test_what_images_without_a_prompt_lack(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(
        [
            {"prompt_id": prompt_id, "prompt": prompt_id, "index": index, "status": "unreadable", "error": error}
            for index, (prompt_id, error) in enumerate(
                [(NO_PROMPT_ID, f"{LACKS_PROMPT}none in the image's metadata")] * 2
                + [(NO_PROMPT_ID, f"{LACKS_PROMPT}no caption"), (NO_PROMPT_ID, "the tar is cut short")]
                + [("nurse", f"{LACKS_PROMPT}no caption"), ("nurse", None)]
            )
        ],
        schema=IMAGES_SCHEMA,
    )
    pq.write_table(table, tmp_path / "images.parquet")
    assert list(why_missing(tmp_path / "images.parquet").unprompted.items()) == [
        ("none in the image's metadata", 2),
        ("no caption", 1),
    ]


def test_every_error_of_a_lacking_prompt_is_counted(tmp_path: Path) -> None:
    """What the sources say of such an image begins alike."""
    write_tree(tmp_path / "p", {"0.png": PNG})
    write_tar(tmp_path / "t.tar", [("0.png", PNG)])
    for path in (tmp_path / "p", tmp_path / "t.tar"):
        for way in ("caption", "metadata"):
            (item,) = check_contract(open_source(path, options=ArchiveOptions(prompt_from=way)))
            assert (item.error or "").startswith(LACKS_PROMPT)
    assert EMPTY.startswith(LACKS_PROMPT)
