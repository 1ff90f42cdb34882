"""The words that all prompts share, said once: `a photo of a nurse`, `a photo of a maestro` are `nurse` and `maestro`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

_ARTICLES = frozenset({"a", "an", "the"})
FEWEST_PROMPTS = 3
"""Two prompts may begin alike by accident."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before and after the words that tell prompts apart."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    article: bool = False
    """Whether an article, which may differ, follows `before` in every prompt."""

    @property
    def text(self) -> str:
        """`a photo of a …`; nothing where prompts share no words."""
        parts = [*self.before, *(["a"] if self.article else []), "…", *self.after]
        return " ".join(parts) if len(parts) > 1 else ""

    def short(self, text: str) -> str:
        """A prompt without the shared words."""
        words = text.split()
        end = len(words) - len(self.after)
        own = words[len(self.before) + (1 if self.article else 0) : end]
        return " ".join(own) or text


def common_frame(texts: Sequence[str]) -> Frame:
    """The words that every prompt begins and ends with; none where a prompt would have no word left."""
    split = [text.split() for text in texts]
    if len(split) < FEWEST_PROMPTS:
        return Frame()
    before = _shared(split)
    rest = [words[len(before) :] for words in split]
    article = bool(before) and all(len(words) > 1 and words[0] in _ARTICLES for words in rest)
    rest = [words[1:] for words in rest] if article else rest
    after = tuple(reversed(_shared([words[::-1] for words in rest])))
    if any(len(words) <= len(after) for words in rest):
        return Frame()
    return Frame(before, after, article)


def _shared(split: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The longest common beginning of lists of words."""
    together = zip(*split, strict=False)
    return tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, together))
