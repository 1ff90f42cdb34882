"""The run folder: its paths, header, stages and lock.

A stage is done when its table stands, which is written whole or not at all (`writing.py`), and the fingerprint in the header (inputs +
config of that stage) matches; anything else is redone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from allfour.border import read_json
from allfour.errors import RunFolderError
from allfour.files import open_regular, read_regular, sha256_of
from allfour.pipeline.run.header import Header, Stage
from allfour.pipeline.run.held import held
from allfour.pipeline.run.journal import Journal
from allfour.pipeline.run.record import FORMAT, STUDY_FILE
from allfour.pipeline.run.seal import sealed, unsealed
from allfour.pipeline.run.writing import sweep_beside, write_json

IMAGES_STAGE = "images"
TABLE_STAGES = ("scores", "metrics", "report")
"""Stages after the images, in order: each reads the tables of the one before."""


def utc_now() -> str:
    """The present, ISO 8601 in UTC, to the second."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0).isoformat()


def fingerprint(*parts: Any) -> str:
    """sha256 over the canonical JSON of anything JSON-serialisable."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _has_an_end(path: Path) -> bool:
    """Whether this is a regular file, and one with its footer where it is a parquet file."""
    try:
        with open_regular(path) as file:
            if path.suffix == ".parquet":
                pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        return False
    return True


@contextlib.contextmanager
def reading_table(path: Path) -> Iterator[None]:
    """Rows that turn out to be damaged, which only tables without a known sha256 can be, are a RunFolderError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, or of what is written meanwhile
            raise
        if isinstance(error, MemoryError):
            raise
        if type(error) is pa.ArrowException:  # of the machine: a thread that cannot be started
            raise RunFolderError(
                f"{path}: could not be read, though nothing shows that it is damaged ({str(error).splitlines()[0][:200]}). Raise the limits of "
                "this process (`ulimit -u`, `ulimit -v`) and repeat the same command"
            ) from None
        raise RunFolderError(
            f"{path}: cannot be read ({str(error).splitlines()[0][:200]}). Delete it and repeat the command that made the run: it makes "
            "the table again from what is kept"
        ) from None


_TEMP_NAME = re.compile(r"\.tmp-[0-9a-f]{12}-.+", re.DOTALL)
SPILL = ".allfour-spill"
"""What the folders are called that counting spills to."""
_WRITTEN = ("images/*", "parts", "embeddings", "ranks", "report", "review")
"""Folders of a run in which files are written, beside itself."""


def sweep_temp_files(folder: Path) -> None:
    """Remove what a killed process left half-written in a run folder. Call only under the run's lock.

    Only names that `atomic_file` gives, only where a run writes, and nothing at all in a folder that is not a run: it may be anybody's.
    """
    try:
        header = read_json(read_regular(folder / "run.json"))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        return
    sweep_beside(folder / SPILL)  # not under the lock: others may be counting
    for aside in folder.glob(".tmp-*-report"):  # pages that were not put in their place
        if _TEMP_NAME.fullmatch(aside.name) and not aside.is_symlink() and aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
    for place in (folder, *(found for pattern in _WRITTEN for found in folder.glob(pattern))):
        if place.is_symlink() or not place.is_dir():
            continue
        for temp in place.glob(".tmp-*"):
            if _TEMP_NAME.fullmatch(temp.name) and not temp.is_symlink() and temp.is_file():
                temp.unlink(missing_ok=True)


_State = tuple[int, int, int]


def _state(path: Path) -> _State:
    """What tells one version of a file from another, since every write is a new file. Raises OSError."""
    state = path.stat()
    return state.st_ino, state.st_mtime_ns, state.st_size


class RunFolder:
    """Paths of one run, its header, and its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header_path = path / "run.json"
        self.images_path = path / "images.parquet"
        self.images_folder = path / "images"
        self.journal_path = path / "outcomes.jsonl"
        self.ledger_path = path / "ledger.sqlite"
        self.answers_path = path / "answers.sqlite"
        self.parts_folder = path / "parts"
        self.ranks_folder = path / "ranks"
        self.embeddings_folder = path / "embeddings"
        self.scores_path = path / "scores.parquet"
        self.metrics_path = path / "metrics.json"
        self._header: tuple[_State, Header] | None = None
        self._hashes: dict[str, tuple[_State, str]] = {}

    def rank_journal_path(self, rank: int) -> Path:
        """The journal of one rank of many that generate."""
        return self.path / f"outcomes-{rank}.jsonl"

    def journals(self) -> list[Journal]:
        """Every journal that exists: of commands without ranks, and of each rank."""
        paths = [self.journal_path, *sorted(self.path.glob("outcomes-*.jsonl"))]
        return [Journal(path) for path in paths if path.exists()]

    @contextlib.contextmanager
    def lock(self, *, shared: bool = False, option: str | None = "--run") -> Iterator[None]:
        """One process at a time may write to a run folder. The lock ends with its process, however that ends.

        Parameters
        ----------
        shared
            For ranks, of which many work at once: they commit parts and files of their own, and nothing else.
        option
            By which the command is told another folder; None where the run is what it is about.

        Raises
        ------
        RunFolderError
            Another process holds it, the folder cannot be written, or somebody's own files lie where a run's would.
        """
        self.check_name()
        with held(self.path, shared=shared, option=option):
            yield

    def header(self) -> Header:
        """What run.json holds; one that says nothing where there is none yet.

        Raises
        ------
        RunFolderError
            The header is no JSON, not as it was written, or of a newer format.
        """
        try:
            seen = _state(self.header_path)
            if self._header is not None and self._header[0] == seen:
                return self._header[1]
            found = unsealed(read_json(read_regular(self.header_path)))
        except FileNotFoundError:
            return Header()
        except (OSError, ValueError, RecursionError) as error:
            raise RunFolderError(
                f"{self.header_path}: not a run header: {error}. Restore it, or delete it and repeat the command that made the run: "
                "what lies beside it is used again"
            ) from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise RunFolderError(f"{self.header_path}: format {found.get('format') if isinstance(found, dict) else '?'} is not {FORMAT},"
                              " which this version of allfour reads")  # fmt: skip
        try:
            header = Header.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            raise RunFolderError(
                f"{self.header_path}: damaged at {'.'.join(map(str, first['loc']))} ({first['msg']}). Restore it, or choose another folder"
            ) from None
        self._header = seen, header
        return header

    def update_header(self, **values: Any) -> Header:
        """Merge values into the header and commit it."""
        begun = self.header().document() or {"format": FORMAT, "created": utc_now()}
        header = Header.model_validate({**begun, **values})
        write_json(self.header_path, sealed(header.document()))
        self._header = _state(self.header_path), header
        return header

    def forget_stages(self, *stages: str, **values: Any) -> None:
        """Merge values into the header and, in the same write, take back that these stages are done. Their tables stay."""
        if stages:
            done = self.header().stages
            values["stages"] = {name: record for name, record in done.items() if name not in stages}
        self.update_header(**values)

    def scored_header(self) -> Header:
        """The header of a run whose tables stand and were made from what it says.

        Raises
        ------
        RunFolderError
            It is not a scored run, one that is being made anew, or one whose tables or header are damaged.
        """
        self.check_name()
        if not self.path.is_dir():
            what = "it is a file" if self.path.is_file() else "there is no such folder"
            such_as = self.path.parent if self.path.is_file() else "runs/sandbox"
            raise RunFolderError(f"{self.path}: no scored run: {what}. Name the folder of a run, such as {such_as}")
        header = self.header()
        self._check_a_run(header)
        if not (self.header_path.exists() and self.scores_path.exists() and self.images_path.exists()):
            raise RunFolderError(
                f"{self.path}: no scored run: run.json, images.parquet and scores.parquet must be there. "
                + self._what_else("Score it first: `allfour audit` or `allfour rescore`")
            )
        self._check_not_forgotten(header, "scores")
        if lacking := [key for key in ("config", "attributes", "classifier") if getattr(header, key) is None]:
            raise RunFolderError(
                f"{self.header_path}: damaged: no {lacking[0]}. Repeat the command that made the run: it writes the header again"
            )
        self.check_tables(self.images_path, self.scores_path)
        return header

    def check_still(self, header: Header) -> None:
        """Raise RunFolderError where another command has worked here since this header was read, which was before the lock was taken."""
        if self.header() != header:
            raise RunFolderError(f"{self.path}: another command worked in it at the same moment. Repeat this one")

    def _what_else(self, usual: str) -> str:
        """What to do where the folder is not a run: most often the usual."""
        if (self.path / STUDY_FILE).is_file():
            return f"It is a study: its page is {self.path / 'study.html'}, and its runs are in {self.path / 'cells'}"
        return usual

    def check_tables(self, *tables: Path) -> None:
        """Raise RunFolderError where a table is not, to the last bit, the one that was committed."""
        for path in tables:
            if path.exists() and not path.is_file():
                raise RunFolderError(f"{path}: no regular file. Move it aside and repeat the command that made it")
            if not self.unchanged(path):
                known = self._committed(path) is not None
                why = "its sha256 is not the one in run.json" if known else "it is no whole table"
                again = "allfour report" if path == self.metrics_path else f"allfour {self.header().kind or 'audit'}"
                raise RunFolderError(
                    f"{path}: not the file that was written: {why}. Repeat the command that made it "
                    f"(`{again}`): it is made again from what is kept"
                )

    def unchanged(self, path: Path) -> bool:
        """Whether a table stands as it was committed. One of a header without hashes, of an earlier version, need only be whole."""
        known = self._committed(path)
        if known is None:
            return not path.exists() or _has_an_end(path)
        try:
            state = _state(path)
            seen = self._hashes.get(path.name)
            if seen is None or seen[0] != state:
                seen = self._hashes[path.name] = state, sha256_of(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RunFolderError(
                f"{path}: cannot be read: {error.strerror}. Move it aside and repeat the command"
            ) from None
        return bool(seen[1] == known)

    def _committed(self, path: Path) -> str | None:
        stages = self.header().stages.values()
        return next((found for stage in stages if (found := (stage.tables or {}).get(path.name))), None)

    def check_measured(self) -> None:
        """Raise RunFolderError where metrics.json is not of what the header says: the run is being made anew."""
        self.check_name()
        header = self.header()
        self._check_a_run(header)
        self._check_not_forgotten(header, "scores")
        self._check_not_forgotten(header, "metrics")
        self.check_tables(self.metrics_path)

    def check_name(self) -> None:
        """Raise RunFolderError where its path is no Unicode text."""
        try:
            str(self.path).encode()
        except UnicodeEncodeError:  # neither Arrow nor DuckDB opens a file of such a name
            shown = str(self.path).encode("utf-8", "backslashreplace").decode()
            raise RunFolderError(
                f"run folder {shown}: its name is no Unicode text. Rename it, or choose another"
            ) from None

    def _check_a_run(self, header: Header) -> None:
        if (why := header.why_no_run) is not None:
            raise RunFolderError(f"{self.path}: no run, but {why}")

    def _check_not_forgotten(self, header: Header, stage: str) -> None:
        if "stages" in header.model_fields_set and stage not in header.stages:  # without any, none was taken back
            raise RunFolderError(
                f"{self.path}: the run is being made anew, and its {stage} may still be those of before: repeat the command "
                f"(`allfour {header.kind or 'audit'}`) that was interrupted"
            )

    def stage_done(self, stage: str, fingerprint: str, *tables: Path) -> bool:
        """True where the stage's tables stand, unchanged, and were made from these inputs and this config."""
        whole = all(table.exists() and self.unchanged(table) for table in tables)
        return whole and self.header().fingerprint_of(stage) == fingerprint

    def commit_stage(self, stage: str, fingerprint: str, *tables: Path, seconds: float, **facts: Any) -> None:
        """Record a stage as done, with the sha256 of the tables that it wrote. Call after they stand."""
        if tables:
            facts["tables"] = {table.name: sha256_of(table) for table in tables}
        done = Stage(fingerprint=fingerprint, seconds=round(seconds, 3), finished=utc_now(), **facts)
        self.update_header(stages={**self.header().stages, stage: done})

    def recommit(self, stage: str, *tables: Path) -> None:
        """Record that tables of a stage that is done were written anew. Nothing is where it is not."""
        stages = self.header().stages
        if (done := stages.get(stage)) is not None:
            written = {table.name: sha256_of(table) for table in tables}
            again = done.model_copy(update={"tables": {**(done.tables or {}), **written}})
            self.update_header(stages={**stages, stage: again})
