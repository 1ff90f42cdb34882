"""Small pictures for a page: kept ones, else made from the images, read again from where they lie.

What was read out of a container or from an address is kept in RUN/thumbnails.parquet: a report that is written again needs
no network, and outlives its archive. Files on this machine are read each time. An image is shown only where its bytes, or
those that the kept picture was made from, have the sha256 of its row.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from PIL import Image
from pydantic import ValidationError

from allfour.border import read_json
from allfour.files import read_regular
from allfour.pipeline.archives.budget import Budget
from allfour.pipeline.archives.decoding import UnreadableImage, decode
from allfour.pipeline.archives.fetch import fetch
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.remote import scheme_of
from allfour.pipeline.archives.text import unescape_name
from allfour.pipeline.config import ArchiveConfig
from allfour.pipeline.report.tables import ImageRecord, Key
from allfour.pipeline.run.columns import ImageStatus
from allfour.pipeline.run.writing import write_table
from allfour.pipeline.words import grouped

KEPT = "thumbnails.parquet"
"""Pictures of images out of containers and from addresses, in the run folder."""
BYTE_BUDGET = 8_500_000
"""All pictures of one page together, before base64 makes them a third larger."""
MAX_FILE_BYTES = 64_000_000
"""A file or member above this is not read for the page."""
REMOTE_SECONDS, REMOTE_BYTES = 60.0, 2_000_000_000
"""What a report may spend on an archive at an address. A compressed tar there can only be read through, whatever its size;
a store may be slow or down. The next report reads on from what was kept."""
LOCAL_SECONDS = 300.0
"""What any page may spend on containers on this machine: the same for a compressed tar of a terabyte."""
KEPT_BYTES = 200_000_000
"""Pictures kept beside a run. When there are more, only those of the last page stay."""
_KEPT_EDGE, _KEPT_QUALITY = 240, 85
"""Kept pictures are at least so large, for another page may show fewer of them."""
_LADDER = ((100, 320, 80), (300, 240, 76), (700, 184, 72), (10**9, 144, 68))
"""At most so many pictures -> longest side in pixels, JPEG quality."""
_REDUCING_GAP = 1.5
"""Halved or more by plain means first, to no less than 1.5 times the size: half the time, and a difference below 1 of 255."""
_WORKERS, _AHEAD = 2, 4
"""Threads that decode, and originals that wait for one."""
_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),  # of the original bytes, as in images.parquet
        pa.field("jpeg", pa.binary(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG as a data address."""

    uri: str
    width: int
    height: int


class Thumbnails(dict[Key, Thumbnail]):
    """Pictures by image; an image without one has no entry."""

    note: str | None = None
    """How many images have no picture, and why, as a sentence."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG made here, without anything of the original but its pixels."""

    jpeg: bytes
    width: int
    height: int


@dataclass(slots=True)
class Pictures:
    """What came of reading images again."""

    found: dict[Key, Picture] = field(default_factory=dict)
    changed: set[Key] = field(default_factory=set)
    """Images without a picture whose path now leads to other bytes."""
    cut_short: bool = False
    """Some were left unread because of the time or bytes that it took."""
    archived: bool = False
    """Whether the images lie in an archive; else the run made them, and they lie in its folder."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the images of a run lie."""

    base: Path
    """What relative paths are relative to."""
    options: ArchiveOptions
    remote: bool
    """Whether the archive is at an address. Only then is an address in a row followed."""
    archived: bool


@dataclass(frozen=True, slots=True)
class _Made:
    """What became of the bytes at one path."""

    keys: Sequence[Key]
    """The images that have these bytes."""
    changed: Sequence[Key]
    """Those that had others."""
    picture: Picture | None


def make_thumbnails(run_dir: Path, records: Sequence[ImageRecord]) -> Thumbnails:
    """Pictures for as many records as have one; those earlier in `records` go first if the byte budget runs out."""
    wanted = [record for record in records if record.status == ImageStatus.GENERATED]
    edge, quality = next((edge, quality) for limit, edge, quality in _LADDER if len(wanted) <= limit)
    pictures = read_pictures(run_dir, wanted, edge=edge, quality=quality, seconds=REMOTE_SECONDS, size=REMOTE_BYTES)
    result = Thumbnails()
    spent = no_room = 0
    for record in wanted:
        picture = pictures.found.get(record.key)
        if picture is None:
            continue
        if spent + len(picture.jpeg) > BYTE_BUDGET:
            no_room += 1
            continue
        spent += len(picture.jpeg)
        uri = f"data:image/jpeg;base64,{base64.b64encode(picture.jpeg).decode()}"
        result[record.key] = Thumbnail(uri, picture.width, picture.height)
    result.note = _note(pictures, shown=len(wanted), pictured=len(result), no_room=no_room)
    return result


def _note(pictures: Pictures, *, shown: int, pictured: int, no_room: int) -> str | None:
    changed, limit = len(pictures.changed), " within the time that a report may take" if pictures.cut_short else ""
    where = "the archive" if pictures.archived else "the run folder"
    reasons = [
        (shown - pictured - changed - no_room, f"could not be read again from {where}{limit}"),
        (changed, "has changed since it was scored" if changed == 1 else "have changed since they were scored"),
        (no_room, "found no room on this page"),
    ]
    text = [(count, reason) for count, reason in reasons if count]
    if not text:
        return None
    of = f"{grouped(shown - pictured)} of the {grouped(shown)} shown images"
    end = "; `allfour report` reads on from there." if pictures.cut_short else "."
    if len(text) == 1:
        return f"{of} {text[0][1]}{end}"
    parts = [f"{grouped(count)} {reason}" for count, reason in text]
    return f"{of} have no picture: {', '.join(parts[:-1])} and {parts[-1]}{end}"


def read_pictures(
    run_dir: Path,
    records: Sequence[ImageRecord],
    *,
    edge: int,
    quality: int,
    seconds: float,
    size: int,
) -> Pictures:
    """Pictures of images, whatever archive they lie in. Never fails for an archive: an image without a picture is left out.

    Parameters
    ----------
    records
        Those that matter most first: an archive may be too slow for all.
    edge, quality
        Longest side in pixels, and JPEG quality.
    seconds, size
        What reading from addresses may take, `size` in bytes.
    """
    place = _place(run_dir)
    kept = _read_kept(run_dir, records)
    by_path: dict[str, list[ImageRecord]] = {}
    for record in records:
        if record.path and not (record.key in kept and _suffices(kept[record.key], record, edge)):
            by_path.setdefault(record.path, []).append(record)
    budget = Budget(seconds=seconds if place.remote else max(seconds, LOCAL_SECONDS), size=size)
    result, fresh = Pictures(archived=place.archived), {}
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        originals = fetch(
            by_path, base=place.base, limit=MAX_FILE_BYTES, remote=place.remote, options=place.options, budget=budget
        )
        for made, keep in _make_all(pool, originals, by_path, edge, quality):
            result.changed.update(made.changed)
            if made.picture is not None and keep:
                fresh.update(dict.fromkeys(made.keys, made.picture.jpeg))
            elif made.picture is not None:
                result.found.update(dict.fromkeys(made.keys, made.picture))
        if fresh:
            _keep(run_dir, records, fresh)
        kept |= fresh
        # Made from the kept picture the first time too: a page that is written again is the same.
        rest = [record.key for record in records if record.key in kept and record.key not in result.found]
        for key, picture in zip(rest, pool.map(lambda key: _shrink(kept[key], edge, quality), rest), strict=True):
            if picture is not None:
                result.found[key] = picture
    result.changed -= result.found.keys()
    result.cut_short = budget.spent
    return result


def _make_all(
    pool: Executor,
    originals: Iterable[tuple[str, bytes]],
    by_path: Mapping[str, Sequence[ImageRecord]],
    edge: int,
    quality: int,
) -> Iterator[tuple[_Made, bool]]:
    """A picture of every original as it comes, and whether to keep it; a few originals are held, never all."""
    waiting: deque[tuple[Future[_Made], bool]] = deque()
    for path, data in originals:
        records = by_path[path]
        keep = ("::" in path or scheme_of(path) is not None) and all(record.sha256 for record in records)
        how = (max(edge, _KEPT_EDGE), max(quality, _KEPT_QUALITY)) if keep else (edge, quality)
        waiting.append((pool.submit(_make, records, data, *how), keep))
        if len(waiting) >= _AHEAD:
            future, kept = waiting.popleft()
            yield future.result(), kept
    for future, kept in waiting:
        yield future.result(), kept


def _make(records: Sequence[ImageRecord], data: bytes, edge: int, quality: int) -> _Made:
    digest = hashlib.sha256(data).hexdigest() if any(record.sha256 for record in records) else None
    keys = [record.key for record in records if record.sha256 in (None, digest)]
    changed = [record.key for record in records if record.sha256 not in (None, digest)]
    return _Made(keys, changed, _shrink(data, edge, quality) if keys else None)


def _shrink(data: bytes, edge: int, quality: int) -> Picture | None:
    try:
        image = decode(data, reduce_to=edge)
    except UnreadableImage:
        return None
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=False)
    return Picture(buffer.getvalue(), *image.size)


def _place(run_dir: Path) -> _Place:
    """Where the images of a run lie, by its header; as the defaults where that says nothing."""
    try:
        header = read_json(read_regular(run_dir / "run.json"))
    except (OSError, ValueError):
        header = None
    source, config = _part(header, "source"), _part(header, "config")
    given = {name: value for name, value in _part(config, "archive").items() if name in ArchiveConfig.model_fields}
    try:
        options = ArchiveOptions(**ArchiveConfig.model_validate(given).model_dump())
    except ValidationError:
        options = ArchiveOptions()
    location = str(source.get("location") or "")
    # rows of a run that was scored again name their files as that run does
    base = Path(unescape_name(location)) if source.get("layout") == "run" and location else run_dir
    return _Place(base, options, remote=scheme_of(location) is not None, archived=bool(source))


def _part(document: Any, name: str) -> dict[str, Any]:
    part = document.get(name) if isinstance(document, dict) else None
    return part if isinstance(part, dict) else {}


# --- kept pictures ---------------------------------------------------------------------------------------------------


def _read_kept(run_dir: Path, records: Sequence[ImageRecord]) -> dict[Key, bytes]:
    """Kept pictures of images that have the sha256 that they were made from."""
    wanted = {record.key: record.sha256 for record in records}
    table = _kept_table(run_dir, pc.field("prompt_id").isin(pa.array({key[0] for key in wanted}, pa.string())))
    found: dict[Key, bytes] = {}
    for batch in table.to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            key = row["prompt_id"], row["index"]
            if row["jpeg"] and row["sha256"] is not None and row["sha256"] == wanted.get(key):
                found[key] = row["jpeg"]
    return found


def _kept_table(run_dir: Path, rows: Any = None) -> pa.Table:
    """All kept pictures or those of some rows; none where the file cannot be read."""
    path = run_dir / KEPT
    try:
        if path.is_file():
            return ds.dataset(path, format="parquet").to_table(_SCHEMA.names, filter=rows).cast(_SCHEMA)
    except (pa.ArrowException, OSError, ValueError):
        pass
    return _SCHEMA.empty_table()


def _suffices(jpeg: bytes, record: ImageRecord, edge: int) -> bool:
    """Whether a kept picture is as large as one that is made anew would be; for a report every one is large enough."""
    if edge <= _LADDER[0][1]:
        return True
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            return max(image.size) >= min(edge, max(record.width or edge, record.height or edge))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _keep(run_dir: Path, records: Sequence[ImageRecord], fresh: Mapping[Key, bytes]) -> None:
    """Add pictures to those that are kept. A folder that cannot be written costs nothing but the next report's time."""
    digests = {record.key: record.sha256 for record in records}
    table = pa.Table.from_pylist(
        [{"prompt_id": key[0], "index": key[1], "sha256": digests[key], "jpeg": jpeg} for key, jpeg in fresh.items()],
        schema=_SCHEMA,
    )
    old = _without(_kept_table(run_dir), lambda key: key in fresh)
    if old.nbytes + table.nbytes > KEPT_BYTES:
        old = _without(old, lambda key: key not in digests)
    with contextlib.suppress(OSError):
        write_table(run_dir / KEPT, pa.concat_tables([old, table]))


def _without(table: pa.Table, leave_out: Callable[[Key], bool]) -> pa.Table:
    keys = zip(table["prompt_id"].to_pylist(), table["index"].to_pylist(), strict=True)
    return table.filter(pa.array([not leave_out(key) for key in keys], pa.bool_()))
