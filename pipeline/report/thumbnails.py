"""Small pictures for the page: stored ones where the scoring stage kept them, else made from the local file."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from PIL import Image

from pipeline.decoding import UnreadableImage, decode
from pipeline.records import ImageStatus
from pipeline.report.tables import ImageRecord, Key

BYTE_BUDGET = 8_500_000
"""All pictures of one page together, before base64 makes them a third larger."""
MAX_FILE_BYTES = 64_000_000
"""A local file above this is not opened for the page."""
_LADDER = ((100, 320, 80), (300, 240, 76), (700, 184, 72), (10**9, 144, 68))
"""At most so many pictures -> longest side in pixels, JPEG quality."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG as a data address."""

    uri: str
    width: int
    height: int


def make_thumbnails(run_dir: Path, records: Sequence[ImageRecord]) -> dict[Key, Thumbnail]:
    """Pictures for as many records as have one; those earlier in `records` go first if the byte budget runs out."""
    wanted = [record for record in records if record.status == ImageStatus.GENERATED]
    edge, quality = next((edge, quality) for limit, edge, quality in _LADDER if len(wanted) <= limit)
    stored = _stored(run_dir, {record.prompt_id for record in wanted})

    def make(record: ImageRecord) -> bytes | None:
        data = stored.get(record.key) or _local_bytes(run_dir, record.path)
        return _shrink(data, edge, quality) if data else None

    found: dict[Key, Thumbnail] = {}
    spent = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for record, data in zip(wanted, pool.map(make, wanted), strict=True):
            if data is None or spent + len(data) > BYTE_BUDGET:
                continue
            spent += len(data)
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
            found[record.key] = Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", width, height)
    return found


def _stored(run_dir: Path, prompt_ids: Iterable[str]) -> dict[Key, bytes]:
    path = run_dir / "thumbnails.parquet"
    if not path.exists():
        return {}
    try:
        table = ds.dataset(path, format="parquet").to_table(
            filter=pc.field("prompt_id").isin(pa.array(prompt_ids, pa.string()))
        )
    except (pa.ArrowInvalid, OSError):
        return {}
    return {(row["prompt_id"], row["index"]): row["jpeg"] for row in table.to_pylist() if row["jpeg"]}


def _local_bytes(run_dir: Path, path: str | None) -> bytes | None:
    """Bytes of a file of the run, of a local archive, or of a member of a local tar; None for anything else."""
    if not path or "\0" in path or "://" in path:
        return None
    try:
        if "::" in path:
            container, _, member = path.partition("::")
            return _tar_member(run_dir / container, member)
        file = run_dir / path
        if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
            return None
        return file.read_bytes()
    except (OSError, ValueError, tarfile.TarError):
        return None


def _tar_member(container: Path, member: str) -> bytes | None:
    if not container.is_file() or not tarfile.is_tarfile(container):
        return None
    with tarfile.open(container, "r:*") as archive:
        for entry in archive:
            if entry.name == member and entry.isreg() and entry.size <= MAX_FILE_BYTES:
                file = archive.extractfile(entry)
                return file.read() if file else None
    return None


def _shrink(data: bytes, edge: int, quality: int) -> bytes | None:
    try:
        image = decode(data, reduce_to=edge)
    except UnreadableImage:
        return None
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=False)
    return buffer.getvalue()
