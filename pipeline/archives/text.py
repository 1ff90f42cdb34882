"""Names and texts that others wrote, made fit for tables, terminals and sorting."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from allfour.border import is_blank
from allfour.pipeline.config.ids import prompt_id_for

MAX_PROMPT_CHARS = 10_000
"""Longer prompts and captions are cut in the tables; their ids are made from the whole text."""
CUT = "prompt_characters"
"""Column of `extra` that says how long a prompt was that is cut."""

# Control characters, direction marks, line separators, byte order mark, and what UTF-8 cannot hold (lone surrogates,
# which is how Python holds the bytes of a file name that is not UTF-8).
_UNSAFE = re.compile(
    "[\\\\\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def escape_name(name: str) -> str:
    r"""A file name as text that any table, terminal and page can hold. Reversible, see `unescape_name`.

    >>> escape_name("a\nb"), escape_name("caf\udce9")
    ('a\\u000ab', 'caf\\xe9')
    """
    return _UNSAFE.sub(_escaped, name)


def unescape_name(text: str) -> str:
    """The file name that `escape_name` made the text from."""
    return _ESCAPE.sub(_unescaped, text)


def _escaped(match: re.Match[str]) -> str:
    char = match.group()
    if char == "\\":
        return "\\\\"
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte that is not UTF-8
    return f"\\u{code:04x}"


def _unescaped(match: re.Match[str]) -> str:
    byte, code = match.groups()
    if byte is not None:
        return chr(0xDC00 + int(byte, 16))
    return "\\" if code is None else chr(int(code, 16))


def clean_text(text: str) -> str:
    """A prompt, caption or column as one line of valid text: white space joined, unsafe characters escaped, and capped.

    Backslashes stay: prompts of Stable Diffusion web UIs use them.
    """
    line = _one_line(text)
    return line if len(line) <= MAX_PROMPT_CHARS else line[: MAX_PROMPT_CHARS - 1] + "…"


_NOTHINGS = frozenset(
    {"", "nan", "none", "null", "n/a", "na", "<na>", "nat", "undefined", "nil", "#n/a", "-", "[]", "{}"}
)
_LONGEST_NOTHING = max(map(len, _NOTHINGS))


def is_nothing(text: str) -> bool:
    """Whether a text is blank, or a word that tables have for "nothing": neither is a prompt."""
    text = text.strip()
    if len(text) <= _LONGEST_NOTHING and text.casefold() in _NOTHINGS:  # folding makes no text shorter
        return True
    return not text.isascii() and is_blank(text)


_DIGITS = re.compile(r"[0-9]+")


def _one_line(text: str) -> str:
    return _UNSAFE.sub(lambda match: "\\" if match.group() == "\\" else _escaped(match), " ".join(text.split()))


def natural_key(name: str) -> str:
    """Sort key by which 2 comes before 10. One string, so that ten million keys fit in memory.

    >>> sorted(["10.png", "2.png", "a1b10", "a1b9"], key=natural_key)
    ['2.png', '10.png', 'a1b9', 'a1b10']
    """
    return _DIGITS.sub(_padded, name)


def _padded(match: re.Match[str]) -> str:
    digits = match.group().lstrip("0")
    return f"{len(digits):04d}{digits}"


def path_key(folder: str) -> str:
    """Sort key of a '/'-separated folder: a folder before what lies in it, by parts and not by characters."""
    return natural_key(folder).replace("/", "\0")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as an archive names it."""

    id: str
    text: str
    group: str | None = None
    cut_from: int | None = None
    """Characters of the whole text, where `text` is cut."""

    def with_cut(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Further columns of an image of this prompt, with a word of the cut."""
        return {**extra} if self.cut_from is None else {**extra, CUT: str(self.cut_from)}


_KEPT, _KEPT_CHARS = 50_000, 1000
"""Texts whose prompts a book keeps, since they come again and again, and how long they may be."""


class PromptBook:
    """Turns what an archive says into prompts: those of a known set by id or by text, all others by themselves."""

    def __init__(self, known: Mapping[str, tuple[str, str | None]] | None = None) -> None:
        self._by_id = {id_: Prompt(id_, text, group) for id_, (text, group) in (known or {}).items()}
        self._by_text = {identity_of(prompt.text): prompt for prompt in self._by_id.values()}
        self._met: dict[str, Prompt] = {}

    def knows(self, name: str) -> bool:
        """Whether a folder's name stands for a prompt of the known set."""
        return self._known(name) is not None

    def from_name(self, name: str) -> Prompt:
        """The prompt that a folder's name stands for: underscores are spaces."""
        known = self._known(name)
        text = unicodedata.normalize("NFC", escape_name(name).replace("_", " "))
        return known or Prompt(prompt_id_for(identity_of(name)), clean_text(text))

    def from_text(self, text: str) -> Prompt:
        """The prompt of a caption, a column or an image's metadata."""
        prompt = self._met.get(text)
        if prompt is None:
            prompt = self._made_of(text)
            if len(self._met) < _KEPT and len(text) <= _KEPT_CHARS:
                self._met[text] = prompt
        return prompt

    def _made_of(self, text: str) -> Prompt:
        known = self._by_id.get(text) or self._by_text.get(identity_of(text))
        text = unicodedata.normalize("NFC", text)
        return known or Prompt(prompt_id_for(identity_of(text)), clean_text(text), cut_from=_cut_from(text))

    def _known(self, name: str) -> Prompt | None:
        for id_ in (name, prompt_id_for(name), prompt_id_for(identity_of(name))):
            if id_ in self._by_id:
                return self._by_id[id_]
        return self._by_text.get(identity_of(name))


_SPELLINGS = 50_000
"""Different texts whose spelling is remembered."""


class SpellingBook(PromptBook):
    """A book that notices texts which are one prompt and are spelled differently, for a summary."""

    def __init__(self, known: Mapping[str, tuple[str, str | None]] | None = None) -> None:
        super().__init__(known)
        self._first: dict[str, str] = {}
        self._others: dict[str, set[str]] = {}
        self._seen: set[str] = set()

    def from_name(self, name: str) -> Prompt:
        self._notice(name)
        return super().from_name(name)

    def from_text(self, text: str) -> Prompt:
        self._notice(text)
        return super().from_text(text)

    def notes(self) -> list[str]:
        """A word on the spellings seen, where there are several of one prompt."""
        note = spelled_note([self._first[key], *others] for key, others in self._others.items())
        return [note] if note else []

    def _notice(self, text: str) -> None:
        if text in self._seen or len(self._seen) >= _SPELLINGS:
            return
        self._seen.add(text)
        key = identity_of(text)
        if self._first.setdefault(key, text) != text:
            self._others.setdefault(key, set()).add(text)


def identity_of(text: str) -> str:
    """What makes two texts one prompt: the same but for case, white space and Unicode form."""
    if text.isascii():
        return " ".join(text.split()).lower()
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", text).split()).casefold())


def cut_note(cut: int) -> str:
    """What a summary says of prompts that are cut."""
    what = "1 prompt is" if cut == 1 else f"{cut:,} prompts are"
    return (
        f"{what} longer than {MAX_PROMPT_CHARS:,} characters and cut in the tables; each stays a prompt of its own, and {CUT} in the "
        "column extra has the full length"
    )


def alike_note(prompts: Iterable[Prompt]) -> str | None:
    """What a summary says of prompts, each given once, that read alike and are counted apart."""
    first: dict[str, str] = {}
    alike: list[tuple[str, str]] = []
    for prompt in prompts:
        if first.setdefault(prompt.text, prompt.id) != prompt.id:
            alike.append((prompt.text, prompt.id))
    if not alike:
        return None
    text = alike[0][0]
    return (
        f"{len(alike) + len({text for text, _ in alike}):,} prompts read as another one does, such as {text[:80]!r}, and are counted "
        "apart, as their folders are named differently (a space, an underscore); name them alike to make them one"
    )


def spelled_note(groups: Iterable[Iterable[str]]) -> str | None:
    """What a summary says of prompts that are spelled in several ways, given the spellings of each prompt."""
    several = [sorted(group) for group in groups if len(set(group)) > 1]
    if not several:
        return None
    shown = " and ".join(repr(escape_name(name)[:80]) for name in several[0][:3])
    what = "1 prompt is" if len(several) == 1 else f"{len(several):,} prompts are"
    return f"{what} spelled in several ways (case, white space, Unicode form), such as {shown}, and {what.rsplit(maxsplit=1)[-1]} one each".replace(
        "is one each", "is one"
    )


def _cut_from(text: str) -> int | None:
    long = 6 * len(text) > MAX_PROMPT_CHARS  # an unsafe character takes six
    return len(text) if long and len(_one_line(text)) > MAX_PROMPT_CHARS else None
