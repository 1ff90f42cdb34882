"""The documents of a run folder, read and checked: metrics.json and run.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from allfour.border import read_json
from allfour.errors import RunFolderError
from allfour.files import read_regular
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.record import FORMAT, STUDY_FILE, Record
from allfour.pipeline.run.seal import unsealed


class ReportError(RunFolderError):
    """The report cannot be made. Says what, where, and how to mend it."""


_Document = TypeVar("_Document", bound=Record)


def read_metrics(run_dir: Path) -> Metrics:
    """Read and check RUN/metrics.json. Raises ReportError."""
    return _checked(Metrics, run_dir / "metrics.json", mend="redo it with `allfour report`")


def read_outline(run_dir: Path) -> Metrics:
    """metrics.json as an index over many runs needs it: summary, notes, and each prompt's verdict. Raises ReportError."""
    return _checked(Metrics, run_dir / "metrics.json", mend="redo it with `allfour report`", only=_OUTLINE)


_OUTLINE = frozenset(
    {"format", "headline", "labels", "summary", "accounting", "notes", "reference", "calibration", "review", "until"}
)
_OUTLINE_OF_PROMPTS = frozenset(
    {"id", "text", "group", "expect", "images", "evaluated", "counts", "unanimous", "share"}
)


def _outlined(content: dict[str, Any], only: frozenset[str]) -> dict[str, Any]:
    kept = {key: value for key, value in content.items() if key in only}
    prompts = content.get("prompts")
    if isinstance(prompts, list):
        kept["prompts"] = [
            {key: value for key, value in prompt.items() if key in _OUTLINE_OF_PROMPTS}
            if isinstance(prompt, dict)
            else prompt
            for prompt in prompts
        ]
    return kept


def read_header(run_dir: Path) -> Header:
    """Read and check RUN/run.json. Raises ReportError."""
    return _checked(Header, run_dir / "run.json", mend="run the command again")


def _checked(kind: type[_Document], path: Path, *, mend: str, only: frozenset[str] | None = None) -> _Document:
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ReportError(
            f"{path} has format {found!r}, this version reads format {FORMAT}; use the allfour that wrote it"
        )
    if only is not None:
        content = _outlined(content, only)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReportError(f"{path} is not as expected at {where}: {first['msg']}; {mend}") from None


def _read(path: Path) -> Any:
    try:
        return unsealed(read_json(read_regular(path)))
    except FileNotFoundError:
        if not path.parent.exists():
            raise ReportError(f"there is no folder {path.parent.absolute()}; name the folder of a run") from None
        if (path.parent / STUDY_FILE).is_file():
            raise ReportError(
                f"{path.parent} is a study: name one of its runs, which are in {path.parent / 'cells'}"
            ) from None
        raise ReportError(
            f"{path.name} is missing in {path.parent}: the run's earlier stages are not done; "
            "run the same `allfour audit` or `allfour rescore` command again"
        ) from None
    except NotADirectoryError:
        raise ReportError(f"{path.parent} is a file; name the folder of a run, such as {path.parent.parent}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(
            f"{path} is not valid JSON, or damaged ({error}); delete it and run the command again"
        ) from None
