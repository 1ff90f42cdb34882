"""Whether a backend is the one that a finished run was made with, told without loading it."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any, Literal

from allfour.models.files import FileStamp
from allfour.models.settings import BackendSettings
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.program import package_versions


def backend_state(settings: BackendSettings, *more: Any) -> str | None:
    """Fingerprint of a backend's settings, of the local files that they name, and of the packages; None where it depends on more.

    Parameters
    ----------
    more
        What else its identity follows from, such as the wording.
    """
    files = settings.files()
    if files is None:
        return None
    try:
        stamps = [(str(path), *astuple(FileStamp.of(path))) for path in files]
    except OSError:
        return None
    return fingerprint(settings.model_dump(mode="json"), stamps, package_versions(), more)


def known_identity(
    run: RunFolder, kind: Literal["generator", "classifier"], state: str | None
) -> dict[str, Any] | None:
    """The identity in a run's header, where the backend has not changed since; None where it must be built to tell."""
    header = run.header()
    if state is None or (header.unchanged or {}).get(kind) != state:
        return None
    return header.generator if kind == "generator" else header.classifier


def remember(run: RunFolder, **states: str | None) -> None:
    """Keep the states of backends whose identities the header holds."""
    known = run.header().unchanged or {}
    if any(known.get(kind) != state for kind, state in states.items()):
        run.update_header(unchanged={**known, **states})
