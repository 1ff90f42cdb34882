"""What a run folder of generated images holds already: which outcomes are valid for a plan, and what the plan would replace.

An outcome is known from its line in a journal, or from its row in images.parquet where the line was lost. It is valid where it was
made for the very request (prompt, seed, generator) and its file is unchanged. An image that is there and was made for another
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
from allfour.errors import RunFolderError
from allfour.files import read_regular
from allfour.models.generators.base import GenerationRequest
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.plan import Plan
from allfour.pipeline.run.columns import IMAGES_SCHEMA, PEOPLE, SEVERAL, ImageStatus
from allfour.pipeline.run.folder import IMAGES_STAGE, TABLE_STAGES, RunFolder, fingerprint
from allfour.pipeline.run.identities import differing
from allfour.pipeline.run.journal import Journal
from allfour.pipeline.run.outcome import Key, Outcome

_LOG = logging.getLogger(__name__)

_SHOWN = 5
"""Differences that an error names."""


# --- outcomes --------------------------------------------------------------------------------------------------------


def read_outcomes(run: RunFolder) -> tuple[list[Outcome], Counter[str]]:
    """Every line of every journal that can be read, in order, and how many of which journal cannot."""
    outcomes: list[Outcome] = []
    damaged: Counter[str] = Counter()
    for journal in run.journals():
        read, unreadable = journal.read()
        outcomes += read
        if unreadable:
            damaged[journal.name] += unreadable
    return outcomes, damaged


def request_fingerprint(request: GenerationRequest, generator: Mapping[str, Any]) -> str:
    """What one image depends on: the same prompt, seed and generator give the same image."""
    return fingerprint(request.prompt_id, request.index, request.prompt, request.seed, generator)


def images_fingerprint(generator: Mapping[str, Any], keys: Iterable[Key]) -> str:
    """What images.parquet was made by and for. Prompts and seeds stand in its rows."""
    return fingerprint(generator, list(keys))


def valid_outcomes(
    run: RunFolder, plan: Plan, generator: Mapping[str, Any], *, retry_failed: bool = True, read_files: bool = True
) -> dict[Key, Outcome]:
    """Outcomes in the journals that are still valid: made for this very request, and with their file unchanged.

    Parameters
    ----------
    retry_failed
        Failures are not valid: they are asked for again.
    read_files
        Compare a file's sha256; else only its size, which needs no reading, where no two lines claim the file.
    """
    return _valid(run, read_outcomes(run)[0], plan, generator, retry_failed=retry_failed, read_files=read_files)


def _valid(
    run: RunFolder,
    outcomes: Sequence[Outcome],
    plan: Plan,
    generator: Mapping[str, Any],
    *,
    retry_failed: bool,
    read_files: bool,
) -> dict[Key, Outcome]:
    wanted = {request.key: request_fingerprint(request, generator) for request in plan.requests}
    contested = set() if read_files else _contested(outcomes)
    valid: dict[Key, Outcome] = {}
    for outcome in outcomes:
        key = outcome.key
        if wanted.get(key) != outcome.fingerprint:
            continue
        # Lines of several journals are in no order of time, so none takes back what another says.
        if outcome.status == "failed" and (retry_failed or key in valid):
            continue
        read = read_files or key in contested
        if outcome.status == "generated" and not _file_unchanged(run, outcome, read=read):
            continue
        valid[key] = outcome
    return valid


def _contested(outcomes: Iterable[Outcome]) -> set[Key]:
    """Images of which lines say different bytes: of other requests, whose files may well have one size."""
    first: dict[Key, str | None] = {}
    return {
        outcome.key
        for outcome in outcomes
        if outcome.status == "generated" and first.setdefault(outcome.key, outcome.sha256) != outcome.sha256
    }


def _file_unchanged(run: RunFolder, outcome: Outcome, *, read: bool) -> bool:
    path = run.path / str(outcome.path)
    try:
        if not read:
            status = path.stat()
            return stat.S_ISREG(status.st_mode) and status.st_size == outcome.size
        return hashlib.sha256(read_regular(path)).hexdigest() == outcome.sha256
    except OSError:
        return False


# --- what a plan would change ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a run folder holds, seen from a plan."""

    valid: frozenset[Key]
    """Of the plan, what is not made again, as far as sizes of files tell."""
    lost: Mapping[Key, Outcome]
    """Images that carrying out the plan would replace, by what is recorded of them."""
    recovered: Sequence[Outcome]
    """Outcomes whose line is lost, and that images.parquet vouches for."""
    unasked: int
    """Images that the plan does not ask for. They are kept."""
    damaged: Mapping[str, int]
    """Lines that cannot be read, by journal."""


def take_inventory(run: RunFolder, plan: Plan, generator: Mapping[str, Any]) -> Inventory:
    """Compare a plan with what is there. Reads journals and images.parquet, and images only where their line is lost."""
    outcomes, damaged = read_outcomes(run)
    valid = _valid(run, outcomes, plan, generator, retry_failed=True, read_files=False)
    asked = {request.key: request for request in plan.requests}
    rows = _rows(run) if asked.keys() - valid.keys() else []
    vouched = run.header().fingerprint_of("images") == images_fingerprint(generator, [row.key for row in rows])
    of_this = {}
    for row in rows if vouched else ():
        request = asked.get(row.key)
        if request is not None and row.key not in valid and _same_request(row, request):
            made_for = request_fingerprint(request, generator)
            of_this[row.key] = row.model_copy(update={"fingerprint": made_for})
    recovered = [row for row in of_this.values() if row.status == "refused" or _file_unchanged(run, row, read=True)]
    lost: dict[Key, Outcome] = {}
    unasked = set()
    for outcome in [*rows, *outcomes]:
        key = outcome.key
        if outcome.status != "generated" or key in valid or key in of_this:
            continue
        if not _file_unchanged(run, outcome, read=False):
            continue
        if key in asked:
            lost[key] = outcome
        else:
            unasked.add(key)
    return Inventory(
        valid=frozenset([*valid, *(row.key for row in recovered)]),
        lost=lost,
        recovered=recovered,
        unasked=len(unasked),
        damaged=damaged,
    )


def _rows(run: RunFolder) -> list[Outcome]:
    """Rows of images.parquet as the outcomes that they were, as far as they are that; none where it is not as it was written."""
    if not run.unchanged(run.images_path):
        return []
    columns = [name for name in IMAGES_SCHEMA.names if name != "group"]
    try:
        table = pq.read_table(run.images_path, columns=columns)
        rows = table.cast(pa.schema([IMAGES_SCHEMA.field(name) for name in columns])).to_pylist()
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return []
    return [outcome for row in rows if (outcome := _outcome_of(row)) is not None]


def _outcome_of(row: Mapping[str, Any]) -> Outcome | None:
    extra = {key: value for key, value in row["extra"] or () if (key, value) != (PEOPLE, SEVERAL)}
    truth = dict(row["truth"]) if row["truth"] else None
    error = (
        None if row["status"] == ImageStatus.GENERATED.value else row["error"]
    )  # else it is of the reading, not the making
    try:
        return Outcome.model_validate({**row, "fingerprint": "", "truth": truth, "extra": extra, "error": error})
    except ValidationError:
        return None


def _same_request(row: Outcome, request: GenerationRequest) -> bool:
    """Whether a row is of this request, and an outcome that is kept."""
    return (row.prompt, row.seed) == (request.prompt, request.seed) and row.status != "failed"


def reconcile(
    run: RunFolder,
    config: RunConfig,
    plan: Plan,
    identity: Mapping[str, Any],
    note: Callable[[str], None],
    *,
    journal: Path,
    overwrite: bool,
) -> frozenset[Key]:
    """Settle what becomes of the images that are there, before anything is asked for; returns which of the plan are kept.

    Raises
    ------
    RunFolderError
        Some would be lost, and `overwrite` was not given.
    """
    found = take_inventory(run, plan, identity)
    if not overwrite:
        _refuse_replacing(run, plan, config, identity, found)
    if found.damaged:
        _LOG.warning("%s", _damage_note(found))  # also where progress is off
    if found.unasked:
        note(_unasked_note(run, found))
    if found.recovered:
        with Journal(journal) as lines:
            for outcome in found.recovered:
                lines.append(outcome)
    if found.lost:
        run.forget_stages(IMAGES_STAGE, *TABLE_STAGES)
    return found.valid


def _damage_note(inventory: Inventory) -> str:
    total = sum(inventory.damaged.values())
    lines = "1 line" if total == 1 else f"{total} lines"
    return (
        f"{lines} of {', '.join(sorted(inventory.damaged))} cannot be read: their images are made again, unless images.parquet "
        "vouches for them and their files are unchanged"
    )


def _unasked_note(run: RunFolder, inventory: Inventory) -> str:
    images = "1 image" if inventory.unasked == 1 else f"{inventory.unasked} images"
    return f"{images} in {run.images_folder} are of prompts or indexes that this command does not ask for: kept, and in no table that it writes"


def _refuse_replacing(
    run: RunFolder, plan: Plan, config: RunConfig, generator: Mapping[str, Any], inventory: Inventory
) -> None:
    if not inventory.lost:
        return
    found = _differences(run, plan, config, generator, inventory)
    shown = "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    images = "1 image was" if len(inventory.lost) == 1 else f"{len(inventory.lost)} images were"
    raise RunFolderError(
        f"run folder {run.path}: {images} made there for other requests, and would be lost. "
        + (f"What differs: {shown}. " if shown else "The run does not say what differs. ")
        + "Nothing was changed. Choose another folder with --run, or replace them with --overwrite"
    )


def _differences(
    run: RunFolder, plan: Plan, config: RunConfig, generator: Mapping[str, Any], inventory: Inventory
) -> list[str]:
    """`key: old -> new` of everything that an image depends on."""
    header = run.header()
    old_seed = (header.config or {}).get("seed")
    seeds = {request.key: request.seed for request in plan.requests}
    found = []
    if old_seed not in (None, config.seed):
        found.append(f"seed: {_shown(old_seed)} -> {_shown(config.seed)}")
    elif any(made.seed not in (None, seeds[key]) for key, made in inventory.lost.items()):
        # an --overwrite was interrupted, or ranks have no header yet
        found.append(f"seed: another -> {_shown(config.seed)}")
    old_generator = header.generator or _generator_of_ranks(run)
    if isinstance(old_generator, dict):
        asked = json.loads(json.dumps(generator, default=str))
        found += [
            f"generator.{key}: {_shown(old)} -> {_shown(new)}" for key, new, old in differing(asked, old_generator)
        ]
    texts = {request.key: request.prompt for request in plan.requests}
    changed = {
        key[0]: f"prompt {key[0]}: {_shown(made.prompt)} -> {_shown(texts[key])}"
        for key, made in inventory.lost.items()
        if made.prompt not in (None, texts[key])
    }
    return found + list(changed.values())


def _generator_of_ranks(run: RunFolder) -> Any:
    """The generator that ranks recorded, of a run that has no header yet."""
    for path in sorted(run.ranks_folder.glob("rank-*.json")):
        try:
            return read_json(read_regular(path)).get("generator")
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
    return None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:60]}..."
