"""Takes images and returns answers about them: earlier answers come from the ledger, the rest is asked."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from allfour.errors import ClassifierError
from allfour.models._hosted.dispatch import NoFurtherError
from allfour.models._hosted.groups import Group
from allfour.models._hosted.ledger import Ledger
from allfour.models.classifiers._judge.asking import Ask, Reply, fingerprint, reply_of
from allfour.models.classifiers._judge.reading import combined
from allfour.models.classifiers.base import Reading, Unread

_RESUME = "Answers so far are kept: repeat the same command to continue."
NOT_ASKED = "not asked, because classifier.max_cost was reached"

Answers = Callable[[Iterable[Group[Ask]]], Generator[Reply]]
"""Groups -> replies, in any order. Raises NoFurtherError."""


@dataclass(slots=True)
class _Open:
    """An image that waits for answers."""

    missing: int
    replies: list[Reply] = field(default_factory=list)

    def reading(self) -> Reading:
        """What the answers say together; those that say nothing are left out where another does."""
        readings = [reply.people for reply in self.replies if reply.unread is None]
        if readings:
            return combined(readings)
        unread = [reply.unread for reply in self.replies if reply.unread is not None]
        return next((why for why in unread if why.again), unread[0])


class Desk:
    """Reads images once, with one ledger.

    Parameters
    ----------
    identity
        What a kept answer must be of.
    repeats
        Answers about each image.
    """

    def __init__(self, ledger: Ledger, *, identity: Mapping[str, Any], repeats: int, answers: Answers) -> None:
        self._ledger, self._repeats, self._answers = ledger, repeats, answers
        self._fingerprint = fingerprint(identity)
        self._open: dict[str, _Open] = {}
        self._done: deque[tuple[str, Reading]] = deque()
        self.models: Counter[str] = Counter()
        """Answers by the model that the server named."""
        self.stopped: str | None = None
        """Why images were left unasked, where some were."""

    def read(self, images: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, Reading]]:
        """See `AskedPeople.read`."""
        groups = self._groups(images)
        first = next(groups, None)
        if first is not None:
            try:
                with contextlib.closing(self._answers(itertools.chain([first], groups))) as replies:
                    for reply in replies:
                        self._take(reply)
                        yield from self._finished()
            except NoFurtherError as error:
                if not error.budget:
                    raise ClassifierError(f"{error} {_RESUME}") from error
                self.stopped = str(error)
                self._leave_unasked(groups)
        yield from self._finished()

    def _groups(self, images: Iterable[tuple[str, bytes]]) -> Iterator[Group[Ask]]:
        for sha256, data in images:
            asks = [Ask(sha256, number, data) for number in range(self._repeats)]
            self._open[sha256] = _Open(len(asks))
            missing = []
            for ask in asks:
                kept = self._ledger.kept(self._fingerprint, ask)
                if kept is None:
                    missing.append(Group((ask,)))
                else:
                    self._take(reply_of(ask, kept))
            yield from missing

    def _take(self, reply: Reply) -> None:
        image = self._open[reply.ask.prompt_id]
        image.replies.append(reply)
        image.missing -= 1
        if reply.model:
            self.models[reply.model] += 1
        if not image.missing:
            self._done.append((reply.ask.prompt_id, self._open.pop(reply.ask.prompt_id).reading()))

    def _finished(self) -> Iterator[tuple[str, Reading]]:
        while self._done:
            yield self._done.popleft()

    def _leave_unasked(self, groups: Iterator[Group[Ask]]) -> None:
        for _ in groups:  # what was answered before still counts
            pass
        for sha256 in self._open:
            self._done.append((sha256, Unread(NOT_ASKED, again=True)))
        self._open = {}
