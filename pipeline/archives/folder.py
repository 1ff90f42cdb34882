"""A folder on this machine as a tree of files."""

# os, not pathlib: descriptors, and ten million paths
# ruff: noqa: PTH116, PTH118, PTH119, PTH123

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from allfour.errors import ArchiveError
from allfour.pipeline.archives.entries import SNIFF_BYTES, FileEntry, Lost, local_stamp
from allfour.pipeline.archives.kinds import is_hidden
from allfour.pipeline.archives.text import escape_name

OUTSIDE = Lost("links that lead out of the folder, not followed (a copy made with cp -rL holds what they lead to)")
NOWHERE = Lost("links that lead nowhere, not followed")
MAX_CAPTION_BYTES = 2**20


class LocalTree:
    """Files under a local folder. Links that lead out of it are not followed."""

    at_hand = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = str(Path(root).resolve())
        self.root_name = os.path.basename(self._root) or "images"

    def show(self, path: str) -> str:
        return escape_name(os.path.join(self._root, path))

    def walk(self, notes: Counter[str]) -> Iterator[tuple[str, list[FileEntry]]]:
        pending = [""]
        unlisted: dict[str | None, str] = {}
        while pending:
            folder = pending.pop()
            files: list[FileEntry] = []
            try:
                with os.scandir(os.path.join(self._root, folder)) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            if is_hidden(entry.name):
                                notes["hidden or system folders, not looked into"] += 1
                            else:
                                pending.append(f"{folder}/{entry.name}" if folder else entry.name)
                        elif (file := self._file(entry, notes)) is not None:
                            files.append(file)
            except OSError as error:
                if not folder:
                    raise ArchiveError(f"cannot list {escape_name(self._root)}: {error.strerror}") from error
                example = unlisted.setdefault(error.strerror, self.show(folder))
                notes[Lost(f"folders that cannot be listed ({error.strerror}), such as {example}")] += 1
            yield folder, files

    def _file(self, entry: os.DirEntry[str], notes: Counter[str]) -> FileEntry | None:
        """What the folder says of a file, or of one that a link leads to. Raises OSError."""
        if entry.is_symlink():
            return self._linked(entry, notes)
        if not entry.is_file(follow_symlinks=False):
            notes["pipes, sockets or devices, not read"] += 1
            return None
        status = entry.stat(follow_symlinks=False)
        return FileEntry(entry.name, status.st_size, local_stamp(entry.path, status))

    def _linked(self, entry: os.DirEntry[str], notes: Counter[str]) -> FileEntry | None:
        """The file behind a link, where it lies under the root."""
        target = os.path.realpath(entry.path)
        if target != self._root and not target.startswith(self._root + os.sep):
            notes[OUTSIDE] += 1
            return None
        try:
            status = os.stat(target)
        except OSError:
            notes[NOWHERE] += 1
            return None
        if not stat.S_ISREG(status.st_mode):
            notes["links to folders or devices, not followed"] += 1
            return None
        return FileEntry(entry.name, status.st_size, local_stamp(target, status))

    def heads(self, paths: Sequence[str]) -> Iterator[bytes]:
        for path in paths:
            try:
                descriptor = os.open(os.path.join(self._root, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                with open(descriptor, "rb") as file:
                    yield file.read(SNIFF_BYTES)
            except OSError:
                yield b""

    def read_all(self, files: Sequence[tuple[str, int]], *, limit: int) -> Iterator[bytes | str]:
        for path, _ in files:
            yield read_file(os.path.join(self._root, path), limit=limit)

    def read_small(self, path: str) -> bytes | None:
        content = read_file(os.path.join(self._root, path), limit=MAX_CAPTION_BYTES)
        return None if isinstance(content, str) else content


def read_file(path: str, *, limit: int) -> bytes | str:
    """Bytes of a regular file, or the reason why there are none. Never waits on a pipe, never reads over `limit`.

    Raises
    ------
    OSError
        This process may open no more files: it says nothing about this one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return "no regular file"
        with open(descriptor, "rb") as file:
            data = b""
            if status.st_size <= limit:
                # what is asked for is set aside at once, so no more than the file has; it may have grown meanwhile
                data = file.read(status.st_size + 1)
                if len(data) > status.st_size:
                    data += file.read(limit + 1 - len(data))
            size = max(status.st_size, len(data))
            return data if size <= limit else f"{size:,} bytes are over the limit of {limit:,} bytes (max_image_bytes)"
    except FileNotFoundError:
        return "the file is missing"
    except ValueError:  # a zero byte in the path
        return "no valid path"
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return f"cannot be read: {error.strerror}"
