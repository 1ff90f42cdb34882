"""Addresses: s3://, gs:// and https:// through fsspec, and patterns of names, here or there.

Credentials come from the environment, as the storage's own library reads it (AWS_*, GOOGLE_APPLICATION_CREDENTIALS),
and reach no message: addresses are shown without user, password and query, and the errors of a storage's library, whose
texts may hold them, are not chained.
"""

from __future__ import annotations

import glob
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

from allfour.errors import ArchiveError
from allfour.pipeline.archives.entries import SNIFF_BYTES, FileEntry
from allfour.pipeline.archives.folder import MAX_CAPTION_BYTES
from allfour.pipeline.archives.kinds import is_hidden
from allfour.pipeline.archives.text import escape_name, natural_key

SCHEMES: Mapping[str, str] = {
    "s3": "pip install 'allfour[s3]'",
    "gs": "pip install 'allfour[gcs]'",
    "gcs": "pip install 'allfour[gcs]'",
    "https": "pip install 'fsspec[http]'",
    "http": "pip install 'fsspec[http]'",
    "memory": "",
}
"""Schemes that are read, and what to install where the package for one is missing."""

MAX_EXPANDED = 1_000_000
_BATCH_FILES = 32
_BATCH_BYTES = 64 * 2**20
_BLOCK = 8 * 2**20
_AT_ONCE = 16
"""Files that are asked for at a time."""


def scheme_of(location: str) -> str | None:
    """Scheme of an address, None for a local path."""
    scheme, found, _ = location.partition("://")
    return scheme.lower() if found and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.\-]*", scheme) else None


def show_address(location: str) -> str:
    """An address or path as text, without credentials. A key in an object store may hold `?` and `#` as any other character."""
    scheme = scheme_of(location)
    if scheme is None:
        return escape_name(location)
    if scheme in ("s3", "gs", "gcs"):
        bucket, slash, key = location.partition("://")[2].partition("/")
        return escape_name(f"{scheme}://{bucket.rpartition('@')[2]}{slash}{key}")
    parts = urlsplit(location)
    return escape_name(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))


def address_path(location: str) -> str:
    """The path in an address, for its name and suffix; a local path is its own."""
    scheme = scheme_of(location)
    if scheme in ("http", "https"):
        return urlsplit(location).path
    return location.partition("://")[2] if scheme else location


def filesystem(location: str) -> tuple[Any, str]:
    """The storage of an address and the path in it.

    Raises
    ------
    ArchiveError
        For a scheme that is not read, or one whose package is missing.
    """
    scheme = scheme_of(location)
    if scheme is None or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES if name != "memory")
        raise ArchiveError(f"cannot read {show_address(location)}: addresses start with one of {known}")
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(location, use_listings_cache=False)
    except ImportError as error:
        raise ArchiveError(f"{scheme}:// needs a package that is not installed: {SCHEMES[scheme]}") from error
    except Exception as error:
        raise unreachable(location, error) from None
    return fs, path


_NO_CONNECTION = frozenset(
    {
        "ClientConnectorError",
        "ClientConnectorDNSError",
        "ClientConnectorSSLError",
        "ClientConnectorCertificateError",
        "ConnectTimeoutError",
        "EndpointConnectionError",
    }
)
"""What the storages' packages, which may not be installed, call a server that no connection comes about with."""


def _behind(error: BaseException) -> BaseException:
    """What really happened: fsspec says "not found" of whatever goes wrong while it asks a web server about a file."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or cause is None:
        return error
    answered = getattr(cause, "status", None)
    return cause if _is_no_connection(cause) or answered not in (None, 404, 410) else error


def _is_no_connection(error: BaseException) -> bool:
    return isinstance(error, TimeoutError | ConnectionError) or type(error).__name__ in _NO_CONNECTION


def unreachable(location: str, error: BaseException) -> ArchiveError:
    """An error of a storage, told without what may be secret in it."""
    shown = show_address(location)
    error = _behind(error)
    if isinstance(error, FileNotFoundError):
        return ArchiveError(f"nothing at {shown}")
    if _is_no_connection(error):
        server = f"the server {urlsplit(shown).netloc}" if scheme_of(location) in ("http", "https") else "its storage"
        return ArchiveError(
            f"{shown} could not be read: {server} cannot be reached. Check the address and the network, then run again; "
            "finished shards are kept"
        )
    if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
        return ArchiveError(
            f"no permission to read {shown}: set the storage's credentials in the environment "
            "(s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket; "
            "gs: GOOGLE_APPLICATION_CREDENTIALS)"
        )
    if isinstance(error, ValueError) and scheme_of(location) in ("http", "https"):
        return ArchiveError(
            f"{shown} can only be read from its start: the server does not send parts of files (range requests). "
            "Download it, and give the local file"
        )
    status = getattr(error, "status", None)
    detail = f"HTTP {status}" if isinstance(status, int) else type(error).__name__
    return ArchiveError(
        f"{shown} could not be read ({detail}): check the address and the network, then run "
        "again; finished shards are kept"
    )


def expand(location: str) -> list[str]:
    """The files that a path, pattern or address stands for, in natural order.

    `{0000..0012}` and `{a,b}` are expanded first, in their own order; then `*`, `?` and `[...]` match names. A local
    file or folder that exists is always itself, whatever its name holds.

    Raises
    ------
    ArchiveError
        If a pattern matches nothing, or stands for too many.
    """
    scheme = scheme_of(location)
    if scheme is None and Path(location).exists():
        return [location]
    found: list[str] = []
    for pattern in _braces(location):
        if scheme in ("http", "https") or not glob.has_magic(pattern):
            found.append(pattern)
        elif scheme is None:
            found += sorted(glob.glob(pattern), key=natural_key)  # noqa: PTH207  (names that are no patterns to pathlib)
        else:
            fs, path = filesystem(pattern)
            try:
                matches = fs.glob(path)
            except Exception as error:
                raise unreachable(pattern, error) from None
            found += [f"{scheme}://{str(match).lstrip('/')}" for match in sorted(matches, key=natural_key)]
    if not found:
        raise ArchiveError(
            f"nothing matches {show_address(location)}; quote the pattern and check where it starts from"
        )
    return found


_RANGE = re.compile(r"\{(\d{1,12})\.\.(\d{1,12})\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")


def _braces(pattern: str) -> list[str]:
    done: list[str] = []
    pending = [pattern]
    while pending:
        text = pending.pop()
        match = min(filter(None, (_RANGE.search(text), _CHOICE.search(text))), key=re.Match.start, default=None)
        if match is None:
            done.append(text)
            continue
        if match.re is _RANGE:
            first, last = int(match[1]), int(match[2])
            if abs(last - first) >= MAX_EXPANDED:
                raise ArchiveError(f"{match[0]} stands for more than {MAX_EXPANDED:,} names")
            width = max(len(match[1]), len(match[2])) if "0" in (match[1][0], match[2][0]) else 0
            numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
            choices = [f"{number:0{width}d}" for number in numbers]
        else:
            choices = match[1].split(",")
        if len(done) + len(pending) + len(choices) > MAX_EXPANDED:
            raise ArchiveError(f"{show_address(pattern)} stands for more than {MAX_EXPANDED:,} names")
        pending += [text[: match.start()] + choice + text[match.end() :] for choice in reversed(choices)]
    return done


def open_binary(location: str) -> BinaryIO:
    """Open a file, here or at an address, for reading and seeking.

    Raises
    ------
    ArchiveError
        If it cannot be opened.
    """
    if scheme_of(location) is None:
        try:
            if not Path(location).is_file():
                raise ArchiveError(f"{show_address(location)} is missing, or no regular file")
            return Path(location).open("rb")
        except OSError as error:
            raise ArchiveError(f"cannot open {show_address(location)}: {error.strerror}") from error
    fs, path = filesystem(location)
    try:
        return cast(BinaryIO, _Guarded(fs.open(path, "rb", block_size=_BLOCK, cache_type="readahead"), location))
    except Exception as error:
        raise unreachable(location, error) from None


class _Guarded(io.RawIOBase):
    """A file of a storage, whose errors are told without addresses that may hold secrets."""

    def __init__(self, file: Any, location: str) -> None:
        super().__init__()
        self._file = file
        self._location = location

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._file.read(size))
        except Exception as error:
            raise unreachable(self._location, error) from None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return int(self._file.seek(offset, whence))
        except Exception as error:
            raise unreachable(self._location, error) from None

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def stamp_of(location: str) -> tuple[int, str]:
    """Size (-1 where unknown) and stamp of a file: modification time here, etag or time of change at an address.

    Raises
    ------
    ArchiveError
        If it is not there.
    """
    if scheme_of(location) is None:
        try:
            status = Path(location).stat()
        except OSError as error:
            raise ArchiveError(f"cannot read {show_address(location)}: {error.strerror}") from error
        return status.st_size, str(status.st_mtime_ns)
    fs, path = filesystem(location)
    try:
        info = fs.info(path)
    except Exception as error:
        raise unreachable(location, error) from None
    return int(info.get("size") or -1), _stamp(info)


def _stamp(info: Mapping[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created"):
        if info.get(key):
            return str(info[key])
    return ""


class RemoteTree:
    """Files under a prefix of a storage. Several are fetched at a time, the next ones while the last are in use."""

    at_hand = False

    def __init__(self, location: str) -> None:
        self._location = location.rstrip("/")
        self.root_name = address_path(self._location).rpartition("/")[2] or "images"

    def show(self, path: str) -> str:
        return f"{show_address(self._location)}/{escape_name(path)}"

    def walk(self, notes: Counter[str]) -> Iterator[tuple[str, list[FileEntry]]]:
        if scheme_of(self._location) in ("http", "https"):
            raise ArchiveError(
                f"{show_address(self._location)}: folders cannot be listed over https. Give a tar, zip, parquet or "
                "manifest file, or several as {0000..0012}.tar"
            )
        fs, root = self._open()
        prefix = root.rstrip("/") + "/"
        try:
            for folder, folders, files in fs.walk(root, detail=True, on_error="raise"):
                inside = (folder.rstrip("/") + "/")[len(prefix) :].rstrip("/")
                for name in [name for name in folders if is_hidden(name)]:
                    notes["hidden or system folders, not looked into"] += 1
                    del folders[name]
                entries = [
                    FileEntry(name, int(info.get("size") or 0), _stamp(info)) for name, info in files.items() if name
                ]
                yield inside, entries
        except ArchiveError:
            raise
        except Exception as error:
            raise unreachable(self._location, error) from None

    def top(self) -> tuple[list[str], bool]:
        """Names of the files directly under the root, and whether there are folders too.

        Raises
        ------
        ArchiveError
            If the root cannot be listed.
        """
        fs, root = self._open()
        try:
            entries = fs.ls(root, detail=True)
        except Exception as error:
            raise unreachable(self._location, error) from None
        names = {entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] == "directory" for entry in entries}
        folders = any(folder and not is_hidden(name) for name, folder in names.items())
        return [name for name, folder in names.items() if not folder], folders

    def heads(self, paths: Sequence[str]) -> Iterator[bytes]:
        if not paths:
            return
        fs, root = self._open()
        full = [f"{root}/{path}" for path in paths]
        for start in range(0, len(full), 256):
            part = full[start : start + 256]
            heads = fs.cat_ranges(part, [0] * len(part), [SNIFF_BYTES] * len(part), on_error="return")
            yield from (head if isinstance(head, bytes) else b"" for head in heads)

    def read_all(self, files: Sequence[tuple[str, int]], *, limit: int) -> Iterator[bytes | str]:
        batches = list(_batches(files))
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch") as pool:
            coming = pool.submit(self._fetch, batches[0], limit) if batches else None
            for following in [*batches[1:], None]:
                assert coming is not None
                contents = coming.result()
                coming = pool.submit(self._fetch, following, limit) if following is not None else None
                yield from contents

    def _fetch(self, files: Sequence[tuple[str, int]], limit: int) -> list[bytes | str]:
        fs, root = self._open()
        contents: dict[str, bytes | str] = {}
        wanted: list[str] = []
        for path, size in files:
            if size > limit:
                contents[path] = f"{size:,} bytes are over the limit of {limit:,} bytes (max_image_bytes)"
            elif size == 0:
                contents[path] = b""  # a range of an empty object is an error
            else:
                wanted.append(path)
        try:
            found = fs.cat_ranges(
                [f"{root}/{path}" for path in wanted], [0] * len(wanted), [limit + 1] * len(wanted), on_error="return"
            )
        except Exception as error:
            raise unreachable(self._location, error) from None
        for path, content in zip(wanted, found, strict=True):
            if isinstance(content, FileNotFoundError) and _behind(content) is content:
                contents[path] = "the file is missing"
            elif isinstance(content, PermissionError):
                contents[path] = "cannot be read: no permission"
            elif isinstance(content, Exception) and _is_empty(fs, f"{root}/{path}"):
                contents[path] = b""
            elif isinstance(content, Exception):
                # Not a fault of the image: the shard is tried again, rather than committed with rows that are untrue.
                raise unreachable(f"{self._location}/{path}", content) from None
            elif len(content) > limit:
                contents[path] = f"more bytes than the limit of {limit:,} bytes (max_image_bytes)"
            else:
                contents[path] = bytes(content)
        return [contents[path] for path, _ in files]

    def missing(self, paths: Sequence[str]) -> int:
        """How many files are not there, asked for one by one."""
        fs, root = self._open()
        with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="ask") as pool:
            return sum(pool.map(lambda path: _is_missing(fs, f"{root}/{path}"), paths))

    def read_small(self, path: str) -> bytes | None:
        fs, root = self._open()
        try:
            return bytes(fs.cat_file(f"{root}/{path}", start=0, end=MAX_CAPTION_BYTES))
        except Exception as error:
            if isinstance(error, FileNotFoundError) and _behind(error) is error:
                return None
            raise unreachable(f"{self._location}/{path}", error) from None

    def _open(self) -> tuple[Any, str]:
        fs, root = filesystem(self._location)
        return fs, root.rstrip("/")


def _is_missing(fs: Any, path: str) -> bool:
    """Whether a storage says that a file is not there; whatever else it says is no such word."""
    try:
        fs.info(path)
    except FileNotFoundError as error:
        return _behind(error) is error
    except Exception:
        return False
    return False


def _is_empty(fs: Any, path: str) -> bool:
    """Whether a range could not be read because there are no bytes: storages call that an error."""
    try:
        return fs.info(path).get("size") == 0  # type: ignore[no-any-return]
    except Exception:
        return False


def _batches(files: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    batch: list[tuple[str, int]] = []
    total = 0
    for path, size in files:
        if batch and (len(batch) >= _BATCH_FILES or total + max(size, 0) > _BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append((path, size))
        total += max(size, 0)
    if batch:
        yield batch
