"""What was paid for a run's images, where the ledger that says so is lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from allfour.models.generators.base import Generator, Recounts
from allfour.pipeline.generation.existing import read_outcomes
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.outcome import Outcome

_LOG = logging.getLogger(__name__)


def recount(run: RunFolder, generator: Generator) -> None:
    """Let a generator that is paid compare its account with the run's own documents, and say what it had lost.

    Without this, a ledger that was deleted would begin at zero, and `max_cost` could be spent again.

    Raises
    ------
    BackendError
        The account cannot be used.
    """
    if not isinstance(generator, Recounts):
        return
    header, identity = run.header(), dict(generator.identity())
    made_by = [identity] + (
        [header.generator] if (header.generator or {}).get("backend") == identity.get("backend") else []
    )
    existing = sum(_made_by(outcome, made_by) for outcome in read_outcomes(run)[0])
    if (note := generator.recount(header.spent or {}, existing=existing)) is not None:
        _LOG.warning("%s", note)  # also where progress is off


def _made_by(outcome: Outcome, generators: list[Any]) -> bool:
    """Whether a line is of an image of one of these: an image that was made twice has two lines, and was paid twice."""
    return outcome.status == "generated" and any(
        outcome.fingerprint == fingerprint(outcome.prompt_id, outcome.index, outcome.prompt, outcome.seed, generator)
        for generator in generators
        if isinstance(generator, Mapping)
    )
