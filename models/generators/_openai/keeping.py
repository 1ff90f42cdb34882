"""Outcomes of requests as the ledger keeps them, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from allfour.models._hosted.ledger import Kept
from allfour.models.generators.base import Generated, GenerationRequest, Outcome, Refused


def fingerprint(identity: Mapping[str, Any], request: GenerationRequest) -> str:
    """What an answer kept in the ledger must match to be taken for `request`."""
    parts = json.dumps([identity, request.prompt_id, request.index, request.prompt, request.seed], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()


def kept_of(fingerprint: str, outcome: Outcome) -> Kept | None:
    """An outcome as it is kept; None for a failure, which is nothing to keep: whether it is asked for again is the caller's choice."""
    data: bytes | None = None
    if isinstance(outcome, Generated):
        data = outcome.data
        record: dict[str, Any] = {
            "kind": "generated",
            "extension": outcome.extension,
            "revised_prompt": outcome.revised_prompt,
            "details": dict(outcome.details),
        }
    elif isinstance(outcome, Refused):
        record = {
            "kind": "refused",
            "reason": outcome.reason,
            "code": outcome.code,
            "request_id": outcome.request_id,
        }
    else:
        return None
    return Kept(fingerprint, outcome.request.prompt_id, outcome.request.index, record, data)


def outcome_of(request: GenerationRequest, kept: Kept) -> Outcome:
    """What was kept, as the outcome of `request`."""
    record = kept.record
    if record["kind"] == "refused":
        return Refused(request, reason=record["reason"], code=record["code"], request_id=record["request_id"])
    return Generated(
        request,
        data=kept.data or b"",
        extension=record["extension"],
        revised_prompt=record["revised_prompt"],
        details=record["details"],
    )
