"""Stage 1: requests -> images.

Each outcome is committed as it comes: the image file first (atomic), then a line in the journal RUN/outcomes.jsonl. A repeated
run asks only for what has no line, or whose file is gone or changed. Refusals are outcomes and stand; failures are asked for
again. images.parquet is written from the journal at the end.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from models.generators.base import Failed, Generated, GenerationRequest, Generator, Outcome, Refused
from pipeline.decoding import UnreadableImage, decode
from pipeline.plan import Plan
from pipeline.records import IMAGES_SCHEMA, PEOPLE, SEVERAL, ImageStatus
from pipeline.run_folder import Journal, RunFolder, fingerprint, write_atomic, write_table

_EXTENSIONS = frozenset({"png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif"})


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What stage 1 did."""

    made: int
    """Outcomes of this process."""
    kept: int
    """Outcomes that stood already."""


def request_fingerprint(request: GenerationRequest, generator: Mapping[str, Any]) -> str:
    """What one image depends on: the same prompt, seed and generator give the same image."""
    return fingerprint(request.prompt_id, request.index, request.prompt, request.seed, generator)


def standing_outcomes(
    run: RunFolder, plan: Plan, generator: Mapping[str, Any], *, retry_failed: bool = True
) -> dict[tuple[str, int], dict[str, Any]]:
    """Journal lines that still hold: made for this very request, and with their file unchanged."""
    wanted = {request.key: request_fingerprint(request, generator) for request in plan.requests}
    standing: dict[tuple[str, int], dict[str, Any]] = {}
    for entry in Journal(run.journal_path).entries():
        key = (str(entry.get("prompt_id")), int(entry.get("index", -1)))
        if wanted.get(key) != entry.get("fingerprint"):
            continue
        if (entry["status"] == ImageStatus.GENERATED and not _file_stands(run, entry)) or (
            entry["status"] == ImageStatus.FAILED and retry_failed
        ):
            standing.pop(key, None)
        else:
            standing[key] = entry
    return standing


def _file_stands(run: RunFolder, entry: Mapping[str, Any]) -> bool:
    try:
        data = (run.path / str(entry["path"])).read_bytes()
    except OSError:
        return False
    return bool(hashlib.sha256(data).hexdigest() == entry["sha256"])


def generate_images(
    run: RunFolder,
    plan: Plan,
    generator: Generator,
    *,
    advance: Callable[[int], None] = lambda count: None,
    skip: Callable[[int], None] = lambda count: None,
) -> GenerationResult:
    """Ask for every image that has no outcome yet, commit each, and write images.parquet.

    Raises
    ------
    BackendError
        The backend cannot go on at all. Everything that came before it is committed; repeat the command to go on.
    """
    identity = generator.identity()
    standing = standing_outcomes(run, plan, identity)
    skip(len(standing))
    made: dict[tuple[str, int], dict[str, Any]] = {}
    missing = [request for request in plan.requests if request.key not in standing]
    with Journal(run.journal_path) as journal:
        asked = {request.key for request in missing}
        for outcome in generator.generate(missing) if missing else ():
            key = outcome.request.key
            if key not in asked or key in made:
                raise RuntimeError(f"the generator gave an outcome that was not asked for, or twice: {key}")
            entry = _commit(run, outcome, identity)
            journal.append(entry)
            made[key] = entry
            advance(1)
        for request in missing:
            if (
                request.key not in made
            ):  # a generator that stops early breaks its protocol; the image is not lost in silence
                entry = _commit(run, Failed(request=request, error="the generator gave no outcome"), identity)
                journal.append(entry)
                made[request.key] = entry
    entries = standing | made
    write_table(run.images_path, _images_table(plan, entries))
    return GenerationResult(made=len(made), kept=len(standing))


def _commit(run: RunFolder, outcome: Outcome, generator: Mapping[str, Any]) -> dict[str, Any]:
    request = outcome.request
    entry: dict[str, Any] = {
        "prompt_id": request.prompt_id,
        "index": request.index,
        "fingerprint": request_fingerprint(request, generator),
    }
    if isinstance(outcome, Refused):
        return entry | {"status": ImageStatus.REFUSED, "error": outcome.reason, "code": outcome.code,
                        "extra": {"request_id": outcome.request_id} if outcome.request_id else {}}  # fmt: skip
    if isinstance(outcome, Failed):
        return entry | {"status": ImageStatus.FAILED, "error": outcome.error}
    return entry | _commit_image(run, outcome)


def _commit_image(run: RunFolder, outcome: Generated) -> dict[str, Any]:
    request = outcome.request
    try:
        width, height = decode(outcome.data).size
    except UnreadableImage as error:
        return {"status": ImageStatus.FAILED, "error": f"the backend's bytes are no image: {error}"}
    extension = outcome.extension.lower()
    if extension not in _EXTENSIONS:
        extension = (Image.open(io.BytesIO(outcome.data)).format or "bin").lower()
    relative = Path("images") / request.prompt_id / f"{request.index}.{extension}"
    for older in (run.path / relative).parent.glob(f"{request.index}.*"):
        if older.name != relative.name:  # a file of the same image in another format, from other settings
            older.unlink()
    write_atomic(run.path / relative, outcome.data)
    return {
        "status": ImageStatus.GENERATED,
        "path": relative.as_posix(),
        "sha256": hashlib.sha256(outcome.data).hexdigest(),
        "size": len(outcome.data),
        "width": width,
        "height": height,
        "revised_prompt": outcome.revised_prompt,
        "truth": dict(outcome.truth) if outcome.truth else None,
        "extra": {str(k): str(v) for k, v in outcome.details.items()},
    }


def _images_table(plan: Plan, entries: Mapping[tuple[str, int], Mapping[str, Any]]) -> pa.Table:
    groups = {prompt.key: prompt.group for prompt in plan.prompts.prompts}
    several = {prompt.key for prompt in plan.prompts.prompts if prompt.people == SEVERAL}
    rows = []
    for request in plan.requests:
        entry = entries[request.key]
        row = {name: entry.get(name) for name in IMAGES_SCHEMA.names}
        extra = {**(entry.get("extra") or {}), **({PEOPLE: SEVERAL} if request.prompt_id in several else {})}
        row |= {
            "prompt_id": request.prompt_id,
            "prompt": request.prompt,
            "group": groups.get(request.prompt_id),
            "index": request.index,
            "seed": request.seed,
            "extra": list(extra.items()) or None,
            "truth": list((entry.get("truth") or {}).items()) or None,
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)
