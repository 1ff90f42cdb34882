"""A line of a journal (outcomes.jsonl): what became of one request."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_EXTENSION = re.compile(r"[a-z0-9]+")

Key = tuple[str, int]
"""Prompt id and index."""


class Outcome(BaseModel):
    """What became of one request: a line of a journal. A run folder may come from anywhere, so every line is checked as it is read."""

    model_config = ConfigDict(frozen=True, strict=True, defer_build=True)

    prompt_id: str = Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,63}$")
    index: int = Field(ge=0, lt=2**63)
    fingerprint: str
    status: Literal["generated", "refused", "failed"]
    prompt: str | None = None
    seed: int | None = None
    path: str | None = None
    sha256: str | None = None
    size: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    width: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    height: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    revised_prompt: str | None = None
    code: str | None = None
    error: str | None = None
    truth: dict[str, str] | None = None
    extra: dict[str, str] | None = None

    @model_validator(mode="after")
    def _an_image_has_its_file(self) -> Outcome:
        if self.status == "generated" and (
            self.sha256 is None or self.size is None or not is_image_path(self.path, (self.prompt_id, self.index))
        ):
            raise ValueError("no file")
        return self

    @property
    def key(self) -> Key:
        """Of its image."""
        return self.prompt_id, self.index

    def line(self) -> dict[str, Any]:
        """As it is written: plain JSON values, without the fields that nobody set."""
        return self.model_dump(mode="json", exclude_unset=True)


def is_image_path(path: Any, key: Key) -> bool:
    """Whether it is images/PROMPT_ID/INDEX.EXT of this very image, and so leads nowhere else."""
    stem = f"images/{key[0]}/{key[1]}."
    return isinstance(path, str) and path.startswith(stem) and _EXTENSION.fullmatch(path, len(stem)) is not None
