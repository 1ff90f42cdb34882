"""Pictures of a tar that are no samples: grids, masks and the like by their names; and tables of prompts that lie inside."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence

from allfour.errors import ArchiveError
from allfour.pipeline.archives.beside import MAX_TABLE_BYTES, Beside, is_customary
from allfour.pipeline.archives.kinds import Kind, kind_of
from allfour.pipeline.archives.naming import GRID_NAME, is_derived, no_sample, no_samples, without_ending
from allfour.pipeline.archives.remote import scheme_of
from allfour.pipeline.archives.tar_opening import open_tar, plain_and_here
from allfour.pipeline.archives.tar_stream import BrokenTarError

_PROBED_TARS, _PROBED_MEMBERS = 3, 200

Judge = Callable[[str], str | None]
"""What a member is that is no sample, given its name; members come in the tar's order."""


class Aside:
    """Which pictures of some tars are no samples.

    It is looked for where names among the first members show some. A tar on this machine is gone through beforehand; in one at an
    address a picture is known to be made of another if that one came before it.
    """

    def __init__(self, files: Sequence[str], *, cuts: bool) -> None:
        self._files = files
        self._cuts = cuts
        self._some: bool | None = None

    def judge(self, file: str) -> Judge:
        """For one tar."""
        if self._some is None:
            self._some = any(self._holds_some(each) for each in self._files[:_PROBED_TARS])
        if not self._some:
            return lambda name: None
        return self._beforehand(file).get if scheme_of(file) is None else self._as_they_come(file)

    def _beforehand(self, file: str) -> dict[str, str]:
        folders: dict[str, list[str]] = {}
        with contextlib.suppress(BrokenTarError, ArchiveError), open_tar(file, by_seek=plain_and_here(file)) as stream:
            for member in stream:
                folder, _, base = member.name.rpartition("/")
                if member.regular and kind_of(base) is Kind.IMAGE:
                    folders.setdefault(folder, []).append(base)
        found = {
            f"{folder}/{base}" if folder else base: what
            for folder, names in folders.items()
            for base, what in no_samples(folder, names).items()
        }
        if self._cuts and len(found) == sum(map(len, folders.values())):  # grids alone, to be cut
            return {name: what for name, what in found.items() if what != GRID_NAME}
        return found

    def _as_they_come(self, file: str) -> Judge:
        cut = self._cuts and self._grids_alone(file)
        stems: dict[str, set[str]] = {}

        def judge(name: str) -> str | None:
            folder, _, base = name.rpartition("/")
            seen = stems.setdefault(folder, set())
            seen.add(without_ending(base).casefold())
            what = no_sample(folder, base, seen)
            return None if cut and what == GRID_NAME else what

        return judge

    def _first(self, file: str) -> list[tuple[str, str]]:
        """Folders and names of images among the first members."""
        found = []
        with contextlib.suppress(BrokenTarError, ArchiveError), open_tar(file, by_seek=plain_and_here(file)) as stream:
            for member in itertools.islice(stream, _PROBED_MEMBERS):
                folder, _, base = member.name.rpartition("/")
                if kind_of(base) is Kind.IMAGE:
                    found.append((folder, base))
        return found

    def _holds_some(self, file: str) -> bool:
        return any(is_derived(base) or no_samples(folder, [base]) for folder, base in self._first(file))

    def _grids_alone(self, file: str) -> bool:
        return all(no_sample(folder, base, ()) == GRID_NAME for folder, base in self._first(file))


def tables_inside(file: str) -> Beside:
    """What tables of a tar on this machine say of its images: those of names that such tables customarily have."""
    beside = Beside()
    with contextlib.suppress(BrokenTarError, ArchiveError), open_tar(file, by_seek=plain_and_here(file)) as stream:
        for member in stream:
            folder, _, base = member.name.rpartition("/")
            if member.regular and member.size <= MAX_TABLE_BYTES and is_customary(base):
                beside.take(folder, base, stream.read())
    return beside
