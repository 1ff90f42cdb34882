"""Identifiers of prompts."""

from __future__ import annotations

import hashlib
import re

_SAFE_ID = re.compile(r"[a-z0-9][a-z0-9_\-]{0,63}")


def prompt_id_for(text: str) -> str:
    """Identifier of a prompt, safe as a folder name and the same everywhere.

    A text that is already safe is its own id. Anything else becomes a slug with 8 hex digits of the text's sha256, so
    that two prompts that differ only in marks stay two prompts.
    """
    if _SAFE_ID.fullmatch(text):
        return text
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48]
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else digest
