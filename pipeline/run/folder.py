"""The run folder: atomic commits, header, fingerprints, lock.

Every write is temp file -> fsync -> rename -> fsync of the folder, so that a file that stands is whole. A stage is done when its
table stands and the fingerprint in the header (inputs + config of that stage) matches; anything else is redone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from allfour.border import read_json
from allfour.errors import RunFolderError
from allfour.files import open_regular, read_regular, sha256_of
from allfour.pipeline.run import locks
from allfour.pipeline.run.header import Header, Stage
from allfour.pipeline.run.held import held
from allfour.pipeline.run.journal import Journal
from allfour.pipeline.run.record import FORMAT, STUDY_FILE
from allfour.pipeline.run.seal import sealed, unsealed

IMAGES_STAGE = "images"
TABLE_STAGES = ("scores", "metrics", "report")
"""Stages after the images, in order: each reads the tables of the one before."""
_TRIES = 10
"""Times that what is written aside is made again where another process sweeps it away."""


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
        raise RunFolderError(
            f"{path}: cannot be read ({str(error).splitlines()[0][:200]}). Delete it and repeat the command that made the run: it makes "
            "the table again from what is kept"
        ) from None


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_place(path: Path) -> None:
    """Raise OSError where a rename to `path` would put a file in the place of a device, a pipe or a socket."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    # /dev/stdout is a link, and may lead to a file
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or path.parent.resolve() == Path("/dev"):
        raise OSError(errno.EINVAL, "a device, a pipe or a socket: name a file to write to", str(path))


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` whole or not at all.

    Costs two fsyncs; a temp file of a killed process stays behind under a name that nothing reads and that the next run of the
    same folder sweeps away.

    Raises
    ------
    OSError
        It cannot be written, or what stands at `path` is no file but a device, a pipe or a socket, which a rename would do away with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_place(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with _made_aside(path, Path.touch) as temp:
        try:
            with temp.open("r+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temp.replace(path)
            _fsync_folder(path.parent)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _made_aside(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A file or folder beside `path`, marked as one that this process is working on.

    Another process may take it for left behind (`sweep_beside`) after it is made and before it is marked: then it is made again.
    """
    for _ in range(_TRIES):
        temp = path.parent / f".tmp-{secrets.token_hex(6)}-{path.name[-80:]}"
        make(temp)
        with locks.at_work(temp) as marked:
            if marked is None or (marked and temp.exists()):
                yield temp
                return
    raise OSError(errno.EBUSY, "what is made beside it is taken away again and again", str(path))


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder that is made aside and appears at `path` with everything in it, or not at all. An empty one there gives way.

    Raises
    ------
    OSError
        Something stands at `path`.
    """
    with aside_folder(path) as aside:
        yield aside
        if path.is_dir():
            path.rmdir()  # refuses one that holds anything
        aside.rename(path)
        _fsync_folder(path.parent)


@contextlib.contextmanager
def aside_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` for what shall stand there; what is left of it in the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _made_aside(path, Path.mkdir) as aside:
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def put_in_place(aside: Path, path: Path) -> None:
    """Rename a folder to `path`; where somebody's own files are in that one, move its files in there."""
    if path.is_dir():
        for file in sorted(aside.iterdir()):
            file.replace(path / file.name)
        _fsync_folder(path)
    else:
        aside.rename(path)
    _fsync_folder(path.parent)


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files that belong together: in a new folder all of them or none, and never a new one beside one of before.

    Where the folder stands already, files of before make way only once the new ones are whole on the disk. What killed processes left of
    these files is removed.
    """
    for place in (folder, *(folder / name for name in files)):
        sweep_beside(place)
    if not folder.exists() or not any(folder.iterdir()):
        with whole_folder(folder) as aside:
            for name, content in files.items():
                write_atomic(aside / name, content)
        return
    with aside_folder(folder / next(iter(files))) as aside:
        for name, content in files.items():
            write_atomic(aside / name, content)
        for name in files:
            (folder / name).unlink(missing_ok=True)
        for name in files:
            (aside / name).replace(folder / name)
        _fsync_folder(folder)


def sweep_beside(path: Path) -> None:
    """Remove what killed processes left half-written of this very file or folder, which is in no run folder that is locked.

    Only names that `atomic_file` and `whole_folder` give for `path`, and nothing that a process is still working on.
    """
    name = re.compile(r"\.tmp-[0-9a-f]{12}-" + re.escape(path.name[-80:]))
    with contextlib.suppress(OSError):
        for temp in path.parent.glob(".tmp-*"):
            if not name.fullmatch(temp.name) or temp.is_symlink():
                continue
            with locks.at_work(temp) as free:
                if free and temp.is_dir():
                    shutil.rmtree(temp, ignore_errors=True)
                elif free and temp.is_file():
                    temp.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write bytes so that they stand whole or not at all."""
    with atomic_file(path) as file:
        file.write(data)


def json_bytes(value: Any) -> bytes:
    """Indented JSON; not-a-number is refused, since it is no JSON."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def write_json(path: Path, value: Any) -> None:
    """Write `json_bytes` atomically."""
    write_atomic(path, json_bytes(value))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file atomically."""
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")


_TEMP_NAME = re.compile(r"\.tmp-[0-9a-f]{12}-.+", re.DOTALL)
_WRITTEN = ("images/*", "parts", "embeddings", "ranks", "report", "review")
"""Folders of a run in which files are written, beside itself."""


def sweep_temp_files(folder: Path) -> None:
    """Remove what a killed process left half-written in a run folder. Call only under the run's lock.

    Only names that `atomic_file` gives, only where a run writes, and nothing at all in a folder that is no run: it may be anybody's.
    """
    try:
        header = read_json(read_regular(folder / "run.json"))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        return
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
        """Every journal that stands: of commands without ranks, and of each rank."""
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
            It is no scored run, one that is being made anew, or one whose tables or header are damaged.
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
                f"{self.path}: no scored run: run.json, images.parquet and scores.parquet must stand there. "
                + self._what_else("Score it first: `allfour audit` or `allfour rescore`")
            )
        self._check_not_forgotten(header, "scores")
        if lacking := [key for key in ("config", "attributes", "classifier") if getattr(header, key) is None]:
            raise RunFolderError(
                f"{self.header_path}: damaged: no {lacking[0]}. Repeat the command that made the run: it writes the header again"
            )
        self.check_tables(self.images_path, self.scores_path)
        return header

    def _what_else(self, usual: str) -> str:
        """What to do where the folder is no run: most often the usual."""
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
