"""Pictures that are grids of several: found by their pixels, cut where asked for, kept out of sets where not."""

from __future__ import annotations

import hashlib
import io
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allfour.errors import ArchiveError
from allfour.pipeline.archives import ArchiveOptions, open_source
from allfour.pipeline.archives.decoding import decode
from allfour.pipeline.archives.fetch import fetch
from allfour.pipeline.archives.seams import find_grid
from allfour.pipeline.archives.tiles import png_of
from tests.conftest import shared_data
from tests.pipeline.archives.helpers import check_contract, items_of, write_tar, write_tree


@cache
def photograph(seed: int, side: int = 96) -> Image.Image:
    """Clouds of colour with detail at every scale, as photographs have."""
    noise = np.random.default_rng(seed)
    pixels = np.full((side, side, 3), 128.0)
    for scale, strength in ((3, 60), (8, 35), (24, 18), (side, 6)):
        layer = Image.fromarray(noise.integers(0, 256, (scale, scale, 3), dtype=np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        pixels += strength / 64 * (np.asarray(layer, dtype=float) - 128)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def grid(
    rows: int, columns: int, *, first: int = 0, gutter: int = 0, frame: int = 0, colour: str = "white"
) -> Image.Image:
    tiles = [photograph(first + n) for n in range(rows * columns)]
    side = tiles[0].width
    size = [parts * side + (parts - 1) * gutter + 2 * frame for parts in (columns, rows)]
    whole = Image.new("RGB", (size[0], size[1]), colour)
    for n, tile in enumerate(tiles):
        whole.paste(tile, (frame + n % columns * (side + gutter), frame + n // columns * (side + gutter)))
    return whole


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "how", [{}, {"gutter": 1}, {"gutter": 4}, {"gutter": 10, "frame": 10}, {"gutter": 6, "colour": "black"}]
)
@pytest.mark.parametrize("layout", [(2, 2), (1, 4), (4, 1), (2, 3)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grids_are_found_where_they_are_cut(layout: tuple[int, int], how: dict[str, int], kind: str) -> None:
    image = grid(*layout, **how)  # type: ignore[arg-type]
    found = find_grid(decode(encoded(image, kind, **({"quality": 85} if kind == "JPEG" else {}))))
    assert found is not None and (found.rows, found.columns) == layout
    gutter, frame = how.get("gutter", 0), how.get("frame", 0)
    for number, box in enumerate(found.boxes):
        left, top = (frame + at * (96 + gutter) for at in (number % layout[1], number // layout[1]))
        assert all(abs(a - b) <= 2 for a, b in zip(box, (left, top, left + 96, top + 96), strict=True)), box


def test_single_pictures_are_left_alone() -> None:
    ground = Image.new("RGB", (96, 96), "white")
    halves = grid(1, 2)  # a seam in one direction alone
    framed = Image.new("RGB", (120, 120), "black")
    framed.paste(photograph(1), (12, 12))
    table = photograph(2).copy()
    table.paste((200, 180, 160), (0, 48, 96, 96))  # an edge along the very middle
    for image in (*(photograph(n, side) for n in range(30) for side in (64, 97)), ground, halves, framed, table):
        assert find_grid(image) is None


def test_no_photograph_is_cut_and_grids_of_them_are() -> None:
    rng = random.Random(0)
    files = sorted(shared_data("generated-occupations").glob("*/*"))[::4]
    files += sorted(shared_data("utkface-1000").glob("*"))[::20]
    pictures = []
    for file in files:
        pictures.append(decode(file.read_bytes(), reduce_to=128))
        assert find_grid(pictures[-1]) is None, file
    for _ in range(12):
        whole = Image.new("RGB", (256, 256))
        for n, tile in enumerate(rng.sample(pictures, 4)):
            whole.paste(tile.resize((128, 128)), (n % 2 * 128, n // 2 * 128))
        found = find_grid(whole)
        assert found is not None and found.boxes[3] == (128, 128, 256, 256)


def archive(root: Path) -> Path:
    """Two grids and a single picture of a nurse, one grid of a CEO, and its single pictures under other names."""
    files = {f"a nurse/{n}.png": encoded(grid(2, 2, first=4 * n)) for n in range(2)}
    files["a nurse/2.png"] = encoded(photograph(50))
    files["a CEO/0.jpg"] = encoded(grid(2, 2, first=20, gutter=4), "JPEG", quality=95)
    return write_tree(root, files)


def test_auto_cuts_grids_into_images_of_their_own(tmp_path: Path) -> None:
    items = check_contract(open_source(archive(tmp_path), options=ArchiveOptions(tiles="auto")))
    nurses = [item for item in items if item.image.prompt == "a nurse"]
    assert len(nurses) == 9 and len(items) == 13
    assert [item.image.index for item in nurses] == [0, 1, 2, 3, 16, 17, 18, 19, 32]
    first = nurses[1]
    assert first.data is not None
    assert decode(first.data).tobytes() == photograph(1).tobytes()
    of = hashlib.sha256((tmp_path / "a nurse/0.png").read_bytes()).hexdigest()
    assert first.image.extra == {"tile_of_sha256": of, "tile_box": "96,0,192,96"}
    assert first.image.path == f"{tmp_path}/a nurse/0.png::tile-96-0-192-96"
    assert nurses[-1].data == (tmp_path / "a nurse/2.png").read_bytes() and not nurses[-1].image.extra


def test_hashes_are_of_pixels(tmp_path: Path) -> None:
    """The same picture in two grids of different formats is a copy, whatever compressed the grids."""
    whole = grid(2, 2)
    write_tree(
        tmp_path, {"a/0.png": encoded(whole), "a/1.bmp": encoded(whole, "BMP"), "a/2.tif": encoded(whole, "TIFF")}
    )
    items = items_of(open_source(tmp_path, options=ArchiveOptions(tiles="2x2")))
    assert len(items) == 12 and len({item.data for item in items}) == 4
    assert items[0].data == png_of(photograph(0))


def test_images_are_read_again_by_their_path(tmp_path: Path) -> None:
    folder = archive(tmp_path / "folder")
    tar = write_tar(
        tmp_path / "x.tar",
        [
            (f"{n}.{ext}", data)
            for n in range(3)
            for ext, data in (("png", encoded(grid(2, 2, first=n))), ("txt", b"a nurse"))
        ],
    )
    for source in (folder, tar):
        items = items_of(open_source(source, options=ArchiveOptions(tiles="auto")))
        wanted = {item.image.path: item.data for item in items}
        assert dict(fetch(wanted)) == wanted
    assert dict(fetch([f"{folder}/a nurse/0.png::tile-0-0-9999-9999", f"{folder}/no.png::tile-0-0-1-1"])) == {}


def test_a_layout_is_believed(tmp_path: Path) -> None:
    """Where nothing in the pixels speaks for it; a part of one colour is no picture."""
    image = Image.new("RGB", (100, 60), "white")
    image.paste(photograph(1).resize((50, 30)), (0, 0))
    image.paste(photograph(2).resize((50, 30)), (50, 30))
    write_tree(tmp_path, {"a nurse/0.png": encoded(image), "a nurse/1.png": b"damaged"})
    items = items_of(open_source(tmp_path, options=ArchiveOptions(tiles="2x2")))
    assert [item.error for item in items] == [None, *["nothing but one colour in this part of a grid"] * 2, None, None]
    assert [item.image.index for item in items] == [0, 1, 2, 3, 4]
    for tiles in ("3", "0x2", "2x9", "2 x 2"):
        with pytest.raises(ArchiveError, match="expected auto, or rows x columns"):
            ArchiveOptions(tiles=tiles)


def test_what_is_not_cut_is_marked_and_said(tmp_path: Path) -> None:
    source = open_source(archive(tmp_path))
    assert not any(item.single for item in items_of(source))
    summary = source.summary()
    assert summary.probed["likely_grids"] == 3
    assert any("archive.tiles: auto cuts them" in note for note in summary.notes)
    plain = open_source(tmp_path, options=ArchiveOptions(tiles="1x1"))
    assert all(item.single for item in items_of(plain))
    assert not any("grids" in note for note in plain.summary().notes)
    # another way to read the same files is other input
    prints = [
        [shard.fingerprint for shard in open_source(tmp_path, options=ArchiveOptions(tiles=t)).shards()]
        for t in (None, "1x1", "2x2", "auto")
    ]
    assert len({print_[0] for print_ in prints}) == 4


def test_grids_by_name_are_cut_where_nothing_else_is_there(tmp_path: Path) -> None:
    """Beside single pictures they are made of these, and would count twice."""
    grids = {f"a nurse/grid-{n:04d}.png": encoded(grid(2, 2, first=4 * n)) for n in range(2)}
    write_tree(tmp_path / "grids alone", grids)
    write_tree(tmp_path / "both", grids | {"a nurse/0.png": encoded(photograph(0))})
    options = ArchiveOptions(tiles="2x2")
    assert len([item for item in items_of(open_source(tmp_path / "grids alone", options=options)) if item.data]) == 8
    both = items_of(open_source(tmp_path / "both", options=options))
    assert (
        sorted(item.error or "" for item in both)[-2:]
        == ["no prompt: not a sample: by its name a grid of several pictures"] * 2
    )
