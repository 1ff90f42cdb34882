"""What a command checks before it works in a run folder, and the header that it writes as it begins.

A header that no longer says what the tables were made from would be a false witness. So where a command begins that gives other
tables, the stages of those that stand are forgotten in the same write as the new config; until the command ends, `report` and
everything else that reads tables refuses the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allfour.errors import RunFolderError
from allfour.models.attributes import AttributeSet
from allfour.pipeline.archives.base import ArchiveSource
from allfour.pipeline.archives.remote import expand, scheme_of
from allfour.pipeline.config import RunConfig, read_yaml, resolve_path
from allfour.pipeline.run.folder import IMAGES_STAGE, TABLE_STAGES, RunFolder, sweep_temp_files
from allfour.pipeline.run.header import PICKED_KIND, Header
from allfour.pipeline.run.program import git_state, package_versions

_NOT_OF_THE_TABLES = frozenset({"name", "notice", "statistics", "reference", "scoring", "generator"})
"""Blocks of a config that no table depends on, but for `scoring.max_pixels` and what is in the generator's identity."""
_MADE_FROM = ("kind", "attributes", "generator", "source", "relabelled_from")
"""What else in a header the tables depend on."""


def check_kind(run: RunFolder, kind: str) -> None:
    """Raises RunFolderError where the folder is of another kind of run."""
    found = run.header().kind
    if (why := run.header().why_no_run) is not None and kind != PICKED_KIND:
        raise RunFolderError(f"{run.path}: no run, but {why}")
    if found not in (None, kind):
        raise RunFolderError(f"{run.path} is a run of `allfour {found}`: choose another folder with --run")


def start_run(
    run: RunFolder,
    config: RunConfig,
    attributes: AttributeSet,
    *,
    kind: str,
    asked: Mapping[str, Any] | None = None,
    **made_from: Any,
) -> None:
    """Write the header of a run that begins or goes on, and remove what a killed process left half-written in it.

    To be called under the run's lock. Nothing is swept before the header says that the folder is a run.

    Parameters
    ----------
    asked
        What the prompt set says of prompts beside their texts: see `Job.asked`.
    made_from
        `generator`, `source` and whatever else the header says of where the tables come from.

    Raises
    ------
    RunFolderError
        The folder is of another kind of run.
    """
    check_kind(run, kind)
    values = {
        "kind": kind,
        "name": config.name,
        "notice": config.notice,
        "config": config.model_dump(mode="json"),
        "attributes": attributes.model_dump(mode="json"),
        "versions": package_versions(),
        "git": git_state(),
        **json.loads(json.dumps(made_from)),
    }
    before = run.header()
    if asked or before.asked:
        values["asked"] = asked
    if config.prompts.file is not None and kind != "relabel":  # which reads no prompt set
        values["prompt_set"] = _called(config.prompts.file)
    after = Header.model_validate({**before.document(), **values})
    forgotten: tuple[str, ...] = () if _basis(before) == _basis(after) else TABLE_STAGES
    if before.generator != after.generator:
        forgotten = (IMAGES_STAGE, *forgotten)
    run.forget_stages(*forgotten, **values)
    sweep_temp_files(run.path)


def _called(prompts: str) -> dict[str, str]:
    """What a prompt set says of itself. The command has read and checked it: this looks at two lines of the same text."""
    written = read_yaml(resolve_path(prompts))
    return {key: str(written[key]) for key in ("name", "source") if written.get(key)}


def _basis(header: Header) -> dict[str, Any]:
    basis: dict[str, Any] = {k: value for k, value in (header.config or {}).items() if k not in _NOT_OF_THE_TABLES}
    basis["prompts"] = {key: value for key, value in header.block("prompts").items() if key != "set_size"}
    basis["max_pixels"] = header.block("scoring").get("max_pixels")
    return {"config": basis, **{key: getattr(header, key) for key in _MADE_FROM}}


def check_apart(run: RunFolder, location: str) -> None:
    """Raise RunFolderError where the run folder is the archive's, or lies in it: an archive is only read."""
    if scheme_of(location) is not None:
        return
    target = run.path.resolve()
    for found in expand(str(Path(location).expanduser())):
        place = Path(found).resolve()
        if target.is_relative_to(place) if place.is_dir() else target == place.parent:
            where = "lies in" if place.is_dir() else "holds"
            raise RunFolderError(
                f"run folder {run.path}: it {where} the archive {found}, and nothing may be written into an archive. Choose another with --run"
            )


def check_source(run: RunFolder, source: ArchiveSource, *, overwrite: bool) -> None:
    """Settle what becomes of the result of another source, before anything is scored.

    Raises
    ------
    RunFolderError
        There is one, and `overwrite` was not given.
    """
    old, new = (run.header().source or {}).get("location"), source.identity().get("location")
    scored = run.scores_path.exists() or any(run.parts_folder.glob("part-*.json"))
    if not isinstance(old, str) or new is None or not scored or _same_place(old, new):
        return
    if not overwrite:
        raise RunFolderError(
            f"run folder {run.path}: it holds the result of {old}, which that of {new} would replace. Nothing was changed. "
            "Choose another folder with --run, or replace it with --overwrite"
        )
    run.forget_stages(*TABLE_STAGES)


def _same_place(first: str, second: str) -> bool:
    if first.rstrip("/") == second.rstrip("/"):
        return True
    if scheme_of(first) is not None or scheme_of(second) is not None:
        return False
    return Path(first).resolve() == Path(second).resolve()
