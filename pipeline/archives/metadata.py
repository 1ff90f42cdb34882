"""Prompts that come with an image: in caption files beside it, or in the image itself."""

from __future__ import annotations


def prompt_in_image(data: bytes) -> str | None:
    """The prompt in an image's own metadata, or None."""
    raise NotImplementedError


def caption_in_file(name: str, data: bytes) -> tuple[str | None, dict[str, str]]:
    """Prompt and further fields of a caption file."""
    raise NotImplementedError
