"""Words and numbers as the report prints them; the one place where foreign text is made safe to show."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PLURALS = {"woman": "women", "man": "men", "person": "people"}
_DECISION_WORDS = {
    "ambiguous": "unclear",
    "mixed": "several people, different labels",
    "unreadable": "unreadable",
    "refused": "refused",
    "failed": "failed",
}
_SOUGHT: ContextVar[str] = ContextVar("sought", default="person")
_NAMED: ContextVar[tuple[str, ...]] = ContextVar("named", default=())
_WORD = re.compile(r"[^-_ ./]*[-_ ./]+|[^-_ ./]+")
"""A word of a name with what follows it."""
_LINE_BREAKS = {"\n", "\t"}
_BIDI = {chr(c) for c in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def clean(value: object, limit: int = 400) -> str:
    """Foreign text made fit to show: no control, direction or lone surrogate characters, at most `limit` characters.

    What is taken out stays visible as an escape such as `\\u202e`. Escaping for HTML is the template's business.
    """
    text = "" if value is None else str(value)
    shortened = text[: limit + 1]
    if shortened.isprintable():  # most is, and has none of those
        return shortened[:limit] + ("…" if len(shortened) > limit else "")
    out: list[str] = []
    for char in shortened[:limit]:
        category = unicodedata.category(char)
        if char in _LINE_BREAKS:
            out.append(" ")
        elif category in ("Cc", "Cs", "Zl", "Zp") or char in _BIDI:
            code = ord(char)
            out.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
        else:
            out.append(char)
    return "".join(out) + ("…" if len(shortened) > limit else "")


@contextlib.contextmanager
def seeking(what: str) -> Iterator[None]:
    """Meanwhile images in which nobody was found are said to be without a `what`: where faces are looked for, a person may be there."""
    token = _SOUGHT.set(what)
    try:
        yield
    finally:
        _SOUGHT.reset(token)


@contextlib.contextmanager
def naming(names: Iterable[str]) -> Iterator[None]:
    """Meanwhile `run_name` keeps the names of these runs apart."""
    token = _NAMED.set(tuple(names))
    try:
        yield
    finally:
        _NAMED.reset(token)


def run_name(name: str, limit: int = 60) -> str:
    """A run's name fit to show, in about `limit` characters at most; long ones are cut where those of `naming` stay apart."""
    names = _NAMED.get()
    return told_apart(names if name in names else (name,), limit)[name]


@functools.lru_cache(maxsize=64)
def told_apart(names: tuple[str, ...], limit: int) -> dict[str, str]:
    """Names -> the same fit to show, no two alike. Where one is longer than `limit`, words go that all begin with, then such that all end with, and
    then the middle.

    >>> told_apart(("sdxl-base-1.0-with-refiner-seed-0", "sdxl-base-1.0-plain-seed-0"), 22)
    {'sdxl-base-1.0-with-refiner-seed-0': '…0-with-refiner-seed-0', 'sdxl-base-1.0-plain-seed-0': '…0-plain-seed-0'}
    """
    shown = {name: clean(name, 1000) for name in dict.fromkeys(names)}
    for reverse in (False, True):
        if len(shown) > 1 and max(map(len, shown.values())) > limit:
            shown = _without_common(shown, limit, at_end=reverse)
    half = (limit - 1) // 2
    shown = {n: text if len(text) <= limit else f"{text[:half]}…{text[-half:]}" for n, text in shown.items()}
    taken = Counter(shown.values())
    return {n: text if taken[text] == 1 else f"{text} ({k})" for k, (n, text) in enumerate(shown.items(), 1)}


def _without_common(shown: dict[str, str], limit: int, *, at_end: bool) -> dict[str, str]:
    """Without words that all have at one end, as many as it takes, but for the last word of the shortest."""
    step = -1 if at_end else 1
    parts = [_WORD.findall(text)[::step] for text in shown.values()]
    most = min(map(len, parts)) - 1
    common = next((k for k in range(most) if len({words[k] for words in parts}) > 1), max(most, 0))
    for dropped in range(1, common + 1):
        rest = ["".join(words[dropped:][::step]) for words in parts]
        if dropped == common or max(map(len, rest)) < limit:
            return {name: f"{text}…" if at_end else f"…{text}" for name, text in zip(shown, rest, strict=True)}
    return shown


def sought() -> str:
    """What was looked for in images: `person`, or `face`."""
    return _SOUGHT.get()


def label_text(label: object) -> str:
    """A label or decision for people: `Latino_Hispanic` -> `Latino Hispanic`, `no_person` -> `no person found` (or face, see `seeking`)."""
    name = clean(label, 80)
    if name == "no_person":
        return f"no {sought()} found"
    return _DECISION_WORDS.get(name, name.replace("_", " "))


def plural(label: object) -> str:
    """`woman` -> `women`; labels that we know no plural of stay as they are."""
    name = label_text(label)
    return _PLURALS.get(name, name)


def word(number: int) -> str:
    """Small numbers as words: 4 -> `four`."""
    return NUMBER_WORDS[number] if 0 <= number < len(NUMBER_WORDS) else grouped(number)


def all_of(set_size: int, *, digits: bool = False) -> str:
    """`all four`, `both`, `all 12`; with `digits`, `all 4`."""
    return "both" if set_size == 2 else f"all {grouped(set_size) if digits else word(set_size)}"


def grouped(number: float) -> str:
    """Thousands apart: 10000 -> `10,000`."""
    return f"{round(number):,}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage with so many digits, never rounded to a certainty that it is not."""
    if value is None or math.isnan(value):
        return "–"
    hundred = round(value * 100, 9)
    if 0 < hundred < 0.1:
        return "<0.1%"
    if 99.9 < hundred < 100:
        return ">99.9%"
    if 0.1 <= hundred < 1 or 99 < hundred <= 99.9:
        return f"{hundred:.1f}%"
    return f"{hundred:.{digits}f}%"


def level(confidence: float) -> str:
    """The confidence of an interval: `95%`, `99.9%`."""
    return f"{confidence * 100:.6g}%"


def digits_for(low: float | None, high: float | None) -> int:
    """Digits after the point that an interval of this width gives sense to."""
    if low is None or high is None:
        return 0
    return 0 if high - low >= 0.05 else 1


def percent_exact(value: float) -> str:
    """A known probability: 0.125 -> `12.5%`."""
    return (
        f"{value * 100:.1f}".rstrip("0").rstrip(".") + "%" if value >= 0.0005 or value == 0 else f"{value * 100:.2g}%"
    )


def interval_text(low: float | None, high: float | None) -> str:
    """`64% to 95%`; `39.5% to 41.5%` where the interval is narrow."""
    digits = digits_for(low, high)
    return f"{percent(low, digits)} to {percent(high, digits)}"


def points(value: float | None, *, sign: bool = True) -> str:
    """A difference of shares in points: `+12`, `−4.5`, `0`."""
    if value is None:
        return "–"
    hundred = value * 100
    text = (
        f"{abs(hundred):.1f}" if abs(hundred) < 9.95 and abs(hundred - round(hundred)) > 0.05 else f"{abs(hundred):.0f}"
    )
    if text in ("0", "0.0"):
        return "0"
    return (("+" if hundred > 0 else "−") if sign else "") + text


def points_interval(low: float | None, high: float | None) -> str:
    """`−5 to +30`."""
    return "–" if low is None or high is None else f"{points(low)} to {points(high)}"


def probability(value: float | None) -> str:
    """A classifier's probability: `0.98`; `>0.99` rather than a certainty."""
    if value is None or math.isnan(value):
        return "–"
    if value > 0.995:
        return ">0.99"
    return f"{value:.2f}"


def p_value(value: float) -> str:
    """`p = 0.03`, `p < 0.001`, held together by no-break spaces."""
    if value < 0.001:
        return "p\u00a0<\u00a00.001"
    return f"p\u00a0=\u00a0{value:.3f}" if value < 0.01 else f"p\u00a0=\u00a0{value:.2f}"


def odds(value: float) -> str:
    """A small probability in words: `less than one in a million`."""
    for limit, name in ((1e-9, "a billion"), (1e-6, "a million"), (1e-5, "100,000"), (1e-4, "10,000"), (1e-3, "1,000")):
        if value < limit:
            return f"less than one in {name}"
    if value < 0.1:
        return f"about one in {round(1 / value):,}"
    return f"about {percent(value)}"


def quantity(number: int, singular: str, many: str | None = None) -> str:
    """`1 image`, `2,000 images`."""
    return f"{grouped(number)} {singular if number == 1 else many or singular + 's'}"


def join_words(words: Iterable[str]) -> str:
    """`a, b and c`."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def seconds_text(seconds: float | None) -> str:
    """`3.2 s`, `4 min 10 s`, `2 h 5 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def group_text(name: object) -> str:
    """A prompt group's name as words: `extreme-she` -> `extreme she`."""
    return re.sub(r"[-_]+", " ", clean(name, 60)).strip() or "no group"
