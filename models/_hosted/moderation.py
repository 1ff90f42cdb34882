"""How services say that a policy withheld an image: every shape in one place.

Each service has its own. Sources are named in docs/hosted-apis.md, under "What counts as refused".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

MODERATION_CODES = frozenset(
    {
        "content_policy_violation",
        "moderation_blocked",
        "content_filter",
        "contentfilter",
        "respect_moderation",
        "responsibleaipolicyviolation",
        "content_moderation",
        "content_moderated",
        "request_moderated",
        "nsfw_content_detected",
        "has_nsfw_concepts",
        "datainspectionfailed",
        "data_inspection_failed",
        "prompt_unsafe",
        "output_media_unsafe",
    }
)
"""Normalised codes (and error types) that say so: of the provider's API, of other hosts of its models, of gateways, and those
that this module gives to marks without a code."""

WITHHELD_FINISHES = frozenset(
    {
        "content_filter",
        "safety",
        "image_safety",
        "prohibited_content",
        "image_prohibited_content",
        "blocklist",
        "spii",
        "recitation",
        "image_recitation",
        "content_filtered",
        "refusal",
    }
)
"""Values of `finish_reason` (or `native_finish_reason`) under which an answer without an image was withheld."""

_SENSITIVE = "sensitivecontentdetected"
"""Volcengine's codes name what was looked at before it, and the kind of content after it."""
_MODERATED = frozenset({"request_moderated", "content_moderated"})
"""Values of `status` that stand in the place of a result (Black Forest Labs)."""

_REFUSING_STATUSES = frozenset({200, 400, 403, 422, 451})
_SENTENCE = re.compile(
    r"rejected as a result of our safety system|rejected by (?:the|our) safety system|content[ _-]?(?:moderation|policy)"
    r"|(?:safety|content) (?:filter|checker|guidelines)|usage guidelines|\bnsfw\b"
    r"|(?:input|prompt|request|image|output|content) (?:was|has been|is) (?:flagged|moderated)"
    r"|prohibited content|responsible ai",
    re.IGNORECASE,
)
_OF_THE_ACCOUNT = re.compile(
    r"\b(?:account|organi[sz]ation|project|api[ _-]?key|billing|verif(?:y|ied|ication)|suspended|subscription|banned)\b",
    re.IGNORECASE,
)
_DEPTH = 4


def normal(code: str | None) -> str:
    """A code as it is compared: lower case, words joined by underscores."""
    return (code or "").strip().lower().replace("-", "_").replace(" ", "_")


def _is_moderation(code: str | None) -> bool:
    return normal(code) in MODERATION_CODES or _SENSITIVE in normal(code)


def moderation_code(status: int, codes: Sequence[str | None], message: str, body: object = None) -> str | None:
    """The code under which an error is a refusal of this prompt; None where it is something else.

    Parameters
    ----------
    codes
        What the error gives as code, type and name.
    body
        The parsed answer, whose nested marks count too.
    """
    for code in codes:
        if _is_moderation(code):
            return normal(code)
    if status not in _REFUSING_STATUSES:
        return None  # an outage that mentions the safety system is an outage
    if (marked := mark_in(body)) is not None:
        return marked
    if _SENTENCE.search(message) and not _OF_THE_ACCOUNT.search(message):
        return "content_policy_violation"
    return None


def mark_in(value: object, depth: int = _DEPTH) -> str | None:
    """The code of a mark of refusal anywhere in an error's body: an inner code, a filter that fired, reasons of a gateway."""
    if depth == 0:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return next((found for v in value[:8] if (found := mark_in(v, depth - 1))), None)
    if not isinstance(value, Mapping):
        return None
    for name in ("code", "type", "name"):
        code = value.get(name)
        if isinstance(code, str) and _is_moderation(code):
            return normal(code)
    for name in ("content_filter_results", "content_filter_result", "prompt_filter_results"):
        if filtered_by(value.get(name)):
            return "content_filter"
    if isinstance(value.get("flagged_input"), str) or normal(_text(value.get("reason"))) in WITHHELD_FINISHES:
        return "content_moderation"
    inner = [value.get(k) for k in ("error", "errors", "detail", "inner_error", "innererror", "metadata")]
    return next((found for v in inner if (found := mark_in(v, depth - 1))), None)


def filtered_by(results: object) -> list[str]:
    """Categories of a content filter that withheld: `{"sexual": {"filtered": true, "severity": "high"}}`, or a list of such."""
    if isinstance(results, Sequence) and not isinstance(results, str):
        return sorted({c for r in results[:8] for c in filtered_by(r)})
    if not isinstance(results, Mapping):
        return []
    own = [str(name)[:60] for name, v in results.items() if isinstance(v, Mapping) and v.get("filtered") is True]
    nested = filtered_by(results.get("content_filter_results")) if "content_filter_results" in results else []
    return sorted({*own, *nested})


def withheld_item(entry: Mapping[str, object], *, has_image: bool) -> tuple[str, str] | None:
    """(code, reason) where an entry of an answer says that its image was withheld; None where it does not.

    Services that blacken what they withhold send an image all the same: their marks hold whatever stands beside them. A filter's
    report or a finish reason beside an image does not unmake the image.
    """
    for name in ("nsfw_content_detected", "has_nsfw_concepts", "nsfw"):
        if flagged(entry.get(name), 0):
            return ("nsfw_content_detected" if name == "nsfw" else name), f"the server flagged the image: {name}"
    if has_image:
        return None
    for name, withheld in (("respect_moderation", False), ("is_image_safe", False), ("content_violation", True)):
        if entry.get(name) is withheld:
            return name, "the server's moderation withheld the image"
    if normal(status := _text(entry.get("status"))) in _MODERATED:
        return normal(status), f"the server's moderation withheld the image: {status}"
    feedback = entry.get("promptFeedback")
    if isinstance(feedback, Mapping) and (blocked := _text(feedback.get("blockReason"))):
        return "content_filter", f"the server blocked the prompt: {blocked}"
    if categories := filtered_by(entry.get("content_filter_results")):
        return "content_filter", f"the server's content filter withheld the image: {', '.join(categories)}"
    if filtered_by(entry.get("prompt_filter_results")):
        return "content_filter", "the server's content filter withheld the prompt"
    for name in ("finish_reason", "native_finish_reason", "finishReason"):
        if normal(reason := _text(entry.get(name))) in WITHHELD_FINISHES:
            return normal(reason), f"the server finished without an image: {name} {reason}"
    if rai := _text(entry.get("raiFilteredReason")):
        return "content_filter", rai
    error = entry.get("error")
    if isinstance(error, Mapping) and (code := mark_in(error)):
        return code, _text(error.get("message")) or "the server's policy withheld the image"
    return None


def flagged(marks: object, position: int) -> bool:
    """Whether a mark is set: true for all, or the `position`-th of a list."""
    if isinstance(marks, Sequence) and not isinstance(marks, str):
        return position < len(marks) and marks[position] is True
    return marks is True


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
