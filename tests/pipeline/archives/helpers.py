"""What every source must keep, and small helpers to make archives."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterable
from pathlib import Path

from allfour.pipeline.archives import ArchiveItem, ArchiveSource, Shard
from allfour.pipeline.archives.base import NO_PROMPT_ID

EMPTY = "no prompt: the column is empty in this row"


def items_of(source: ArchiveSource) -> list[ArchiveItem]:
    return [item for shard in source.shards() for item in source.read(shard)]


def check_contract(source: ArchiveSource) -> list[ArchiveItem]:
    """Read a source in the ways it may be read, and check what its interface promises. Returns its items."""
    assert isinstance(source, ArchiveSource)
    shards = list(source.shards())
    assert [shard.ordinal for shard in shards] == list(range(len(shards)))
    assert len({shard.id for shard in shards}) == len(shards)
    for shard in shards:
        assert all(char.isalnum() or char in "-_." for char in shard.id), shard.id
    # Another process has a copy of the source and a shard, or only the shard's id.
    copy: ArchiveSource = pickle.loads(pickle.dumps(source))
    assert list(copy.shards()) == shards
    items = []
    for shard in shards:
        read = list(source.read(shard))
        assert shard.images in (None, len(read))
        fresh: ArchiveSource = pickle.loads(pickle.dumps(source))
        assert list(fresh.read(pickle.loads(pickle.dumps(shard)))) == read
        assert list(fresh.read(Shard(id=shard.id, ordinal=shard.ordinal, fingerprint=""))) == read
        items += read
    seen: dict[str, int] = {}
    for item in items:
        image = item.image
        for text in (image.prompt_id, image.prompt, image.path, *image.extra, *image.extra.values()):
            text.encode("utf-8")
            assert "\n" not in text and "\0" not in text
        assert (item.data is None) == (item.error is not None), item
        if image.prompt_id == NO_PROMPT_ID:
            assert item.error
        assert image.index > seen.get(image.prompt_id, -1), "indexes rise within a prompt"
        seen[image.prompt_id] = image.index
    assert all(isinstance(value, str) for value in source.identity().values())
    summary = source.summary()
    lost = [item for item in items if item.image.prompt_id == NO_PROMPT_ID and not item.image.path.partition("::")[2]]
    if any(item.error and "no prompt:" in item.error for item in lost):
        lost = []
    assert summary.images in (None, len(items) - len(lost))
    assert summary.shards >= len(shards)
    if summary.images_per_prompt is not None:
        assert sum(images * prompts for images, prompts in summary.images_per_prompt.items()) == len(
            [item for item in items if item.image.prompt_id != NO_PROMPT_ID]
        )
        assert summary.prompts == sum(summary.images_per_prompt.values())
    return items


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def write_tar(
    path: Path, members: Iterable[tuple[str, bytes]], *, mode: str = "w", format: int = tarfile.PAX_FORMAT
) -> Path:
    with tarfile.open(path, mode, format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def rows(items: list[ArchiveItem]) -> list[tuple[str, int, bytes | None]]:
    """What must not depend on the container: prompt, index, bytes."""
    return [(item.image.prompt, item.image.index, item.data) for item in items]
