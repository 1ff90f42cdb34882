"""How probable each answer was to a judge, from the log probabilities of its tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LEAST = 0.01
"""Of all probability, what must be on the answers: below, the tokens are not those of a choice between them."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer, and what could have stood in its place."""

    data: bytes
    logprob: float
    others: tuple[tuple[bytes, float], ...] = ()
    """The most probable tokens of this place, with their log probabilities; the token itself may be among them."""


def read_tokens(choice: Mapping[str, Any], text: str) -> tuple[Token, ...]:
    """The tokens of a choice (`logprobs.content`); none where the server does not give them, or gives them of another text."""
    content = (choice.get("logprobs") or {}).get("content") if isinstance(choice.get("logprobs"), Mapping) else None
    if not isinstance(content, list):
        return ()
    tokens = []
    for entry in content:
        read = _token(entry)
        if read is None:
            return ()
        listed = entry.get("top_logprobs")
        others = [found for other in (listed if isinstance(listed, list) else ())[:64] if (found := _token(other))]
        tokens.append(Token(*read, tuple(others)))
    return tuple(tokens) if b"".join(token.data for token in tokens) == text.encode() else ()


def _token(entry: Any) -> tuple[bytes, float] | None:
    if not isinstance(entry, Mapping):
        return None
    text, logprob, data = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    if not isinstance(logprob, int | float) or isinstance(logprob, bool) or math.isnan(logprob) or logprob > 1e-6:
        return None
    if isinstance(data, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in data):
        return bytes(data), float(logprob)
    return (text.encode("utf-8", "replace"), float(logprob)) if isinstance(text, str) else None


def answer_probabilities(
    tokens: Sequence[Token], text: str, start: int, options: Sequence[str]
) -> dict[str, float] | None:
    """How probable every option was where the answer begins; None where the tokens do not tell.

    A token that fits one option is that option. One that fits several, as `2` does `20-29` and `2-9`, is followed along the text
    that was written; of one that was not written, the options have equal parts. What fits none, such as a line break, is left
    aside, and the rest is scaled to sum to 1.

    Parameters
    ----------
    start
        Where in `text` the answer begins, after its opening quote.
    """
    at = len(text[:start].encode())
    ends = [f'{option}"'.lower().encode() for option in options]
    number = position = 0
    while number < len(tokens) and position + len(tokens[number].data) <= at:
        position += len(tokens[number].data)
        number += 1
    if number == len(tokens):
        return None
    mass, reach = [0.0] * len(options), 1.0
    before, written = tokens[number].data[: at - position], b""
    for token in tokens[number:]:
        follows = 0.0
        for data, logprob in dict([*token.others, (token.data, token.logprob)]).items():
            if not data.startswith(before):
                continue
            piece = written + data[len(before) :].lower()
            fitting = [n for n, end in enumerate(ends) if end.startswith(piece) or piece.startswith(end)]
            probability = reach * math.exp(logprob)
            if data == token.data and len(fitting) > 1:
                follows = probability
                continue
            for n in fitting:
                mass[n] += probability / len(fitting)
        if not follows:
            break
        reach, written, before = follows, written + token.data[len(before) :].lower(), b""
    total = sum(mass)
    return {option: part / total for option, part in zip(options, mass, strict=True)} if total >= _LEAST else None
