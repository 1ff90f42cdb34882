"""Reading the images of a tree of files, shard by shard, each with its prompt; and what other readers have in common with that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import INDEX_STRIDE, NO_PROMPT_ID, ArchivedImage, ArchiveItem, Shard
from allfour.pipeline.archives.captions import CAPTION_EXTENSIONS, caption_in_file
from allfour.pipeline.archives.columns import whole_number
from allfour.pipeline.archives.listing import Tree, prompt_name
from allfour.pipeline.archives.listing_shards import ChunkPart
from allfour.pipeline.archives.metadata import LACKING, find_prompt
from allfour.pipeline.archives.naming import PathPattern, prompt_in_name
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.text import Prompt, clean_text, escape_name


def metadata_note(lacking: int, seen: int) -> list[str]:
    """What a summary says where images that were looked at have no prompt in their metadata."""
    if not lacking:
        return []
    return [
        f"{lacking} of the first {seen} images have no prompt in their metadata: rows without a prompt, which are not scored"
    ]


def broken_item(shard: Shard, path: str, error: str) -> ArchiveItem:
    """The row that stands for a container, or the rest of one, that cannot be read."""
    image = ArchivedImage(prompt_id=NO_PROMPT_ID, prompt="", index=shard.ordinal * INDEX_STRIDE, path=path)
    return ArchiveItem(image, None, error)


def shard_id(ordinal: int, prompt_from: str) -> str:
    return f"{ordinal:06d}-{prompt_from}"


def find_shard(source: Any, id_: str) -> Shard:
    """The shard of a source by its id alone.

    Raises
    ------
    ArchiveError
        If the source has no such shard (any more).
    """
    for shard in source.shards():
        if shard.id == id_:
            return shard  # type: ignore[no-any-return]
    raise ArchiveError(
        f"no shard {id_} in {source.identity()['location']}: the archive has changed since it was listed"
    )


def read_chunk(
    tree: Tree, chunk: list[ChunkPart], options: ArchiveOptions, *, prompt_from: str, base: int
) -> Iterator[ArchiveItem]:
    """The images of one shard with their bytes. Indexes are the listing's, or counted from `base` where prompts are
    only known once the image is read."""
    book = options.book()
    counted: Counter[str] = Counter()
    files = [
        (f"{part.path}/{name}" if part.path else name, size)
        for part in chunk
        for name, size in zip(part.names, part.sizes, strict=True)
    ]
    contents = tree.read_all(files, limit=options.max_image_bytes)
    at = 0
    for part in chunk:
        of_folder = book.from_name(prompt_name(part.path, tree.root_name))
        for position, index in enumerate(part.indexes):
            path = files[at][0]
            content = next(contents)
            at += 1
            data, error = (None, content) if isinstance(content, str) else (content, None)
            prompt, number = of_folder, index
            extra: dict[str, str] = {}
            lacks: str | None = part.lacks or None
            if prompt_from != "folder" and lacks is None:
                if part.prompts is not None:
                    found, lacks = part.prompts[position], _NO_ROW
                else:
                    apart = part.captions if prompt_from == "caption" else None
                    told = path if apart is None else caption_path(apart, path)
                    found, extra, lacks = read_prompt(tree, told, data, prompt_from, options)
                if found is not None:
                    lacks = None
                    prompt = book.from_name(found) if prompt_from in ("name", "path") else book.from_text(found)
            if lacks is not None:
                prompt, data, error = Prompt(NO_PROMPT_ID, ""), None, error or f"no prompt: {lacks}"
            if prompt_from != "folder":
                number = base + counted[prompt.id]
                counted[prompt.id] += 1
            seed = whole_number(extra.pop("seed", None)) if prompt_from == "path" else None
            image = ArchivedImage(
                prompt_id=prompt.id,
                prompt=prompt.text,
                index=number,
                path=tree.show(path),
                group=prompt.group or (extra.pop("group", None) if prompt_from == "path" else None),
                seed=seed,
                extra=prompt.with_cut(extra),
            )
            yield ArchiveItem(image, data, error)


def caption_path(folder: str, path: str) -> str:
    """An image's path as it would be in the folder of its captions."""
    name = path.rpartition("/")[2]
    return f"{folder}/{name}" if folder else name


_NO_CAPTION = "no caption file (.txt, .caption, .cap or .json) beside it"
_EMPTY_CAPTION = "its caption file (.{}) holds none"
_NO_ROW = "no table beside it has its prompt"


def read_prompt(
    tree: Tree, path: str, data: bytes | None, prompt_from: str, options: ArchiveOptions
) -> tuple[str | None, dict[str, str], str | None]:
    """The prompt of an image, further fields, and what it lacks where there is none."""
    if prompt_from == "metadata":
        if data is None:
            return None, {}, LACKING
        seen = find_prompt(data)
        return seen.text, {}, seen.lacks
    if prompt_from == "name":
        return prompt_in_name(path.rpartition("/")[2]), {}, "its name holds none"
    if prompt_from == "path":
        return prompt_in_path(path, options.path_pattern or "")
    lacks = _NO_CAPTION
    for stem in (path.rpartition(".")[0], path):  # 0.txt, and 0.png.txt
        for ext in CAPTION_EXTENSIONS:
            caption = tree.read_small(f"{stem}.{ext}")
            if caption is not None:
                text, extra = caption_in_file(f"{stem}.{ext}", caption)
                if text is not None:
                    return text, extra, None
                lacks = _EMPTY_CAPTION.format(ext)
    return None, {}, lacks


def prompt_in_path(path: str, pattern: str) -> tuple[str | None, dict[str, str], str | None]:
    """As `read_prompt`, for prompt_from: path."""
    fields = PathPattern(pattern).fields(path)
    if fields is None:
        return None, {}, f"its path does not match path_pattern {pattern}"
    extra = {
        name: clean_text(escape_name(value)) for name, value in fields.items() if name not in ("prompt", "index", "_")
    }
    return fields["prompt"], extra, None
