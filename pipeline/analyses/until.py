"""How a run that was made in rounds stopped: kept in RUN/until.json."""

from __future__ import annotations

from typing import Any

from allfour.pipeline.analyses.base import STOPPED, KeptAnalysis
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.record import Note
from allfour.pipeline.run.until import Until


class _UntilAnalysis:
    """As a kept analysis, with a note: whoever quotes another interval of this run must know."""

    name = "until"
    file = "until.json"

    def __init__(self) -> None:
        self.kept = KeptAnalysis(
            name=self.name,
            file=self.file,
            format=1,
            record=_record,
            what="an account of rounds",
            again="allfour audit --until EXPR --run RUN",
        )

    def summary(self, run: RunFolder) -> tuple[Until | None, Note | None]:
        """See `Analysis`."""
        found, note = self.kept.summary(run)
        if not isinstance(found, Until):
            return None, note
        text = (
            f"{found.because} Quote this interval. The others on this page assume that the number of images was fixed beforehand, and are too "
            "narrow for a run that could stop as soon as its question was settled."
        )
        return found, Note(code=STOPPED, text=text, about=self.name)


def _record(document: dict[str, Any]) -> Until:
    return Until.model_validate({key: value for key, value in document.items() if key not in ("format", "basis")})


UNTIL = _UntilAnalysis()
