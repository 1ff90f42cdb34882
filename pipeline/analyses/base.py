"""An analysis that a run can have beside its own figures: a document in its folder, kept until the scores that it rests on are gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from allfour.border import read_json
from allfour.errors import RunFolderError
from allfour.files import read_regular
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.record import Note, Record
from allfour.pipeline.run.seal import sealed, unsealed
from allfour.pipeline.run.writing import write_json

BASIS_VERSION = 1
"""Raise it when the same scores would give other analyses."""
OUTDATED = "outdated"
"""Code of the note that an analysis belongs to scores that the run no longer has."""
STOPPED = "made_in_rounds"
"""Code of the note that says why a run in rounds stopped, and that its other intervals are of one look."""
BEYOND = "images_of_some_prompts"
"""Code of the note that says which images, made for single prompts, are in no other figure."""


def basis(run: RunFolder) -> str:
    """Fingerprint of what any analysis of a run rests on: the scores, and how sets of them are counted."""
    header = run.header()
    return fingerprint(
        BASIS_VERSION,
        header.fingerprint_of("scores"),
        (header.attributes or {}).get("headline"),
        header.block("prompts").get("set_size"),
        header.block("statistics").get("confidence"),
    )


class Analysis(Protocol):
    """One analysis, as metrics.json and the report know it. All of them stand in `allfour.pipeline.analyses.listing`."""

    @property
    def name(self) -> str:
        """Its key in metrics.json."""
        ...

    def summary(self, run: RunFolder) -> tuple[Record | None, Note | None]:
        """What metrics.json says of it, and a note where what is kept belongs to scores that the run no longer has.

        Raises
        ------
        RunFolderError
            The kept document is damaged.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeptAnalysis:
    """An analysis whose whole document is of one set of scores."""

    name: str
    file: str
    """In the run folder."""
    format: int
    record: Callable[[dict[str, Any]], Record]
    """The document -> its part of metrics.json. A document that is not as expected ends in KeyError, TypeError or ValueError."""
    what: str
    """In words, such as `a second opinion`."""
    again: str
    """The command that makes it, with RUN for the run folder."""

    def write(self, run: RunFolder, document: dict[str, Any]) -> None:
        """Keep a document, of the scores that stand."""
        write_json(run.path / self.file, sealed({"format": self.format, "basis": basis(run), **document}))

    def read(self, run: RunFolder) -> dict[str, Any] | None:
        """The kept document, also one of earlier scores; None where there is none.

        Raises
        ------
        RunFolderError
            It is damaged, or of another format.
        """
        path = run.path / self.file
        try:
            found = unsealed(read_json(read_regular(path)))
            if found["format"] != self.format or "basis" not in found:
                raise ValueError("not of this version's format")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise self._damaged(run) from None
        return dict(found)

    def stands(self, run: RunFolder, document: dict[str, Any]) -> bool:
        """Whether a kept document is of the scores that the run has."""
        return bool(document.get("basis") == basis(run))

    def summary(self, run: RunFolder) -> tuple[Record | None, Note | None]:
        """See `Analysis`."""
        found = self.read(run)
        if found is None:
            return None, None
        if not self.stands(run, found):
            text = f"{self.file} is of earlier scores and is left out: repeat `{self.again}`."
            return None, Note(code=OUTDATED, text=text, about=self.name)
        try:
            return self.record(found), None
        except (KeyError, TypeError, ValueError, AttributeError, ValidationError):
            raise self._damaged(run) from None

    def _damaged(self, run: RunFolder) -> RunFolderError:
        again = self.again.replace("RUN", str(run.path))
        return RunFolderError(f"{run.path / self.file}: not {self.what}, or damaged. Remove it, or repeat `{again}`")
