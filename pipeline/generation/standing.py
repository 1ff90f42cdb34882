"""What stands in a run folder of generated images: which outcomes hold for a plan, and what the plan would replace.

An outcome is known from its line in a journal, or from its row in images.parquet where the line was lost. It holds where it was
made for the very request (prompt, seed, generator) and its file is unchanged. An image that stands and was made for another
request is lost when the plan is carried out: nothing of that is done unless the user says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from allfour.border import read_json
from allfour.errors import ConfigError
from allfour.files import read_regular
from allfour.models.generators.base import GenerationRequest
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.plan import Plan
from allfour.pipeline.run.columns import IMAGES_SCHEMA, PEOPLE, SEVERAL, ImageStatus
from allfour.pipeline.run.folder import IMAGES_STAGE, TABLE_STAGES, Journal, RunFolder, fingerprint
from allfour.pipeline.run.identities import differing
from allfour.pipeline.run.outcome import Key, Outcome, is_image_path

_LOG = logging.getLogger(__name__)

_SHOWN = 5
"""Differences that an error names."""


# --- outcomes --------------------------------------------------------------------------------------------------------


def read_outcomes(run: RunFolder) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Every line of every journal that can be read, in order, and how many of which journal cannot."""
    entries: list[dict[str, Any]] = []
    damaged: Counter[str] = Counter()
    for journal in run.journals():
        for entry in journal.entries():
            try:
                Outcome.model_validate(entry)
            except ValidationError:
                damaged[journal.name] += 1
            else:
                entries.append(entry)
    return entries, damaged


def request_fingerprint(request: GenerationRequest, generator: Mapping[str, Any]) -> str:
    """What one image depends on: the same prompt, seed and generator give the same image."""
    return fingerprint(request.prompt_id, request.index, request.prompt, request.seed, generator)


def images_fingerprint(generator: Mapping[str, Any], keys: Iterable[Key]) -> str:
    """What images.parquet was made by and for. Prompts and seeds stand in its rows."""
    return fingerprint(generator, list(keys))


def standing_outcomes(
    run: RunFolder, plan: Plan, generator: Mapping[str, Any], *, retry_failed: bool = True, read_files: bool = True
) -> dict[Key, dict[str, Any]]:
    """Journal lines that still hold: made for this very request, and with their file unchanged.

    Parameters
    ----------
    retry_failed
        Failures do not hold.
    read_files
        Compare a file's sha256; else only its size, which needs no reading, where no two lines claim the file.
    """
    return _standing(run, read_outcomes(run)[0], plan, generator, retry_failed=retry_failed, read_files=read_files)


def _standing(
    run: RunFolder,
    entries: Iterable[dict[str, Any]],
    plan: Plan,
    generator: Mapping[str, Any],
    *,
    retry_failed: bool,
    read_files: bool,
) -> dict[Key, dict[str, Any]]:
    wanted = {request.key: request_fingerprint(request, generator) for request in plan.requests}
    entries = list(entries)
    contested = set() if read_files else _contested(entries)
    standing: dict[Key, dict[str, Any]] = {}
    for entry in entries:
        key = _key(entry)
        if wanted.get(key) != entry["fingerprint"]:
            continue
        # Lines of several journals are in no order of time, so none takes back what another says.
        if entry["status"] == ImageStatus.FAILED and (retry_failed or key in standing):
            continue
        read = read_files or key in contested
        if entry["status"] == ImageStatus.GENERATED and not _file_stands(run, entry, read=read):
            continue
        standing[key] = entry
    return standing


def _contested(entries: Iterable[Mapping[str, Any]]) -> set[Key]:
    """Images of which lines say different bytes: of other requests, whose files may well have one size."""
    first: dict[Key, str] = {}
    return {
        key
        for entry in entries
        if entry["status"] == ImageStatus.GENERATED
        and first.setdefault(key := _key(entry), entry["sha256"]) != entry["sha256"]
    }


def _key(entry: Mapping[str, Any]) -> Key:
    return entry["prompt_id"], entry["index"]


def _file_stands(run: RunFolder, entry: Mapping[str, Any], *, read: bool) -> bool:
    path = run.path / str(entry["path"])
    try:
        if not read:
            status = path.stat()
            return stat.S_ISREG(status.st_mode) and bool(status.st_size == entry["size"])
        return bool(hashlib.sha256(read_regular(path)).hexdigest() == entry["sha256"])
    except OSError:
        return False


# --- what a plan would change ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stock:
    """What stands in a run folder, seen from a plan."""

    stands: frozenset[Key]
    """Of the plan, what is not made again, as far as sizes of files tell."""
    lost: Mapping[Key, Mapping[str, Any]]
    """Images that stand and that carrying out the plan would replace, by what is recorded of them."""
    recovered: Sequence[Mapping[str, Any]]
    """Outcomes whose line is lost, and that images.parquet vouches for: as the lines that they had."""
    unasked: int
    """Images that stand and that the plan does not ask for. They stay."""
    damaged: Mapping[str, int]
    """Lines that cannot be read, by journal."""


def take_stock(run: RunFolder, plan: Plan, generator: Mapping[str, Any]) -> Stock:
    """Compare a plan with what stands. Reads journals and images.parquet, and images only where their line is lost."""
    entries, damaged = read_outcomes(run)
    standing = _standing(run, entries, plan, generator, retry_failed=True, read_files=False)
    asked = {request.key: request for request in plan.requests}
    rows = _rows(run) if asked.keys() - standing.keys() else []
    vouched = _images_recorded(run) == images_fingerprint(generator, [_key(row) for row in rows])
    of_this = {}
    for row in rows if vouched else ():
        request = asked.get(_key(row))
        if request is not None and request.key not in standing:
            line = _line_of(row, request, generator)
            if line is not None:
                of_this[request.key] = line
    recovered = [
        line for line in of_this.values() if line["status"] == ImageStatus.REFUSED or _file_stands(run, line, read=True)
    ]
    lost: dict[Key, Mapping[str, Any]] = {}
    unasked = set()
    for entry in [*rows, *entries]:
        key = _key(entry)
        if entry["status"] != ImageStatus.GENERATED or key in standing or key in of_this:
            continue
        if not is_image_path(entry["path"], key) or not _file_stands(run, entry, read=False):
            continue
        if key in asked:
            lost[key] = entry
        else:
            unasked.add(key)
    stands = frozenset([*standing, *(_key(line) for line in recovered)])
    return Stock(stands=stands, lost=lost, recovered=recovered, unasked=len(unasked), damaged=damaged)


def _images_recorded(run: RunFolder) -> str | None:
    found = run.header().get("stages", {}).get("images", {}).get("fingerprint")
    return found if isinstance(found, str) else None


def _rows(run: RunFolder) -> list[dict[str, Any]]:
    """Rows of images.parquet; none where it does not stand as it was written, or cannot be read."""
    if not run.unchanged(run.images_path):
        return []
    columns = [name for name in IMAGES_SCHEMA.names if name != "group"]
    try:
        table = pq.read_table(run.images_path, columns=columns)
        rows: list[dict[str, Any]] = table.cast(pa.schema([IMAGES_SCHEMA.field(name) for name in columns])).to_pylist()
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return []
    return rows


def _line_of(row: Mapping[str, Any], request: GenerationRequest, generator: Mapping[str, Any]) -> dict[str, Any] | None:
    """The journal line of an image or a refusal in images.parquet; None where it is of another request."""
    if (row["prompt"], row["seed"]) != (request.prompt, request.seed) or row["status"] == ImageStatus.FAILED:
        return None
    extra = {key: value for key, value in row["extra"] or () if (key, value) != (PEOPLE, SEVERAL)}
    line = dict(row) | {
        "fingerprint": request_fingerprint(request, generator),
        "truth": dict(row["truth"]) if row["truth"] else None,
        "extra": extra,
    }
    try:
        Outcome.model_validate(line)
    except ValidationError:
        return None
    return line


def take_over(
    run: RunFolder,
    config: RunConfig,
    plan: Plan,
    identity: Mapping[str, Any],
    note: Callable[[str], None],
    *,
    journal: Path,
    overwrite: bool,
) -> frozenset[Key]:
    """Settle what becomes of the images that stand, before anything is asked for; returns which of the plan stand.

    Raises
    ------
    ConfigError
        Some would be lost, and `overwrite` was not said.
    """
    stock = take_stock(run, plan, identity)
    if not overwrite:
        _refuse_replacing(run, plan, config, identity, stock)
    if stock.damaged:
        _LOG.warning("%s", _damage_note(stock))  # also where progress is off
    if stock.unasked:
        note(_unasked_note(run, stock))
    if stock.recovered:
        with Journal(journal) as lines:
            for line in stock.recovered:
                lines.append(line)
    if stock.lost:
        run.forget_stages(IMAGES_STAGE, *TABLE_STAGES)
    return stock.stands


def _damage_note(stock: Stock) -> str:
    total = sum(stock.damaged.values())
    lines = "1 line" if total == 1 else f"{total} lines"
    return (
        f"{lines} of {', '.join(sorted(stock.damaged))} cannot be read: their images are made again, unless images.parquet "
        "vouches for them and their files stand"
    )


def _unasked_note(run: RunFolder, stock: Stock) -> str:
    images = "1 image" if stock.unasked == 1 else f"{stock.unasked} images"
    return f"{images} in {run.images_folder} are of prompts or indexes that this command does not ask for: in no table, and kept"


def _refuse_replacing(
    run: RunFolder, plan: Plan, config: RunConfig, generator: Mapping[str, Any], stock: Stock
) -> None:
    if not stock.lost:
        return
    found = _differences(run, plan, config, generator, stock)
    shown = "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    images = "1 image was" if len(stock.lost) == 1 else f"{len(stock.lost)} images were"
    raise ConfigError(
        f"run folder {run.path}: {images} made there for other requests, and would be lost. "
        + (f"What differs: {shown}. " if shown else "The run does not say what differs. ")
        + "Nothing was changed. Choose another folder with --run, or replace them with --overwrite"
    )


def _differences(
    run: RunFolder, plan: Plan, config: RunConfig, generator: Mapping[str, Any], stock: Stock
) -> list[str]:
    """`key: old -> new` of everything that an image depends on."""
    header = run.header()
    recorded = header.get("config")
    old_seed = recorded.get("seed") if isinstance(recorded, dict) else None
    seeds = {request.key: request.seed for request in plan.requests}
    found = []
    if old_seed not in (None, config.seed):
        found.append(f"seed: {_shown(old_seed)} -> {_shown(config.seed)}")
    elif any(entry.get("seed") not in (None, seeds[key]) for key, entry in stock.lost.items()):
        # an --overwrite was interrupted, or ranks have no header yet
        found.append(f"seed: another -> {_shown(config.seed)}")
    old_generator = header.get("generator") or _generator_of_ranks(run)
    if isinstance(old_generator, dict):
        asked = json.loads(json.dumps(generator, default=str))
        found += [
            f"generator.{key}: {_shown(old)} -> {_shown(new)}" for key, new, old in differing(asked, old_generator)
        ]
    texts = {request.key: request.prompt for request in plan.requests}
    changed = {
        key[0]: f"prompt {key[0]}: {_shown(entry['prompt'])} -> {_shown(texts[key])}"
        for key, entry in stock.lost.items()
        if entry.get("prompt") not in (None, texts[key])
    }
    return found + list(changed.values())


def _generator_of_ranks(run: RunFolder) -> Any:
    """The generator that ranks recorded, of a run that has no header yet."""
    for path in sorted(run.ranks_folder.glob("rank-*.json")):
        try:
            return read_json(path.read_text(encoding="utf-8")).get("generator")
        except (OSError, ValueError, AttributeError):
            continue
    return None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:60]}..."
