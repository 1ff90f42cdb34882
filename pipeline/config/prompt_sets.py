"""Prompt sets: single prompts, and templates that are filled in from lists of words.

A template stands for a prompt per combination of the words that it names:

    templates:
      - {text: "{a} photo of {a} {occupation}", subject: "{occupation}", id: "photo-{occupation}"}
    variables:
      occupation: [nurse, engineer, {value: stay-at-home parent, group: home}]
      adjective: {file: configs/prompts/lists/adjectives-en.yaml}

`{a}` is `a` or `an`, whichever the next word wants; `{A}` the same with a capital. `{occupation.group}` is a further field of a word.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from allfour.border import is_blank
from allfour.models.attributes import Name
from allfour.models.settings import Block, LocalPath
from allfour.pipeline.config.ids import prompt_id_for

MAX_PROMPTS = 200_000
"""Of one set. Templates multiply: a slip in one would ask for millions."""
_ARTICLES = ("a", "A")
_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?\}|[{}]")


class Prompt(Block):
    """One prompt of a prompt set."""

    text: str = Field(min_length=1, max_length=4000)
    id: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9_\-]{0,63}$")
    """Safe as a folder name; made from the text where it is not given."""
    group: str | None = Field(default=None, max_length=64)
    """Prompts of one group are summed up together, such as extreme-she."""
    people: Literal["one", "several"] = "one"
    """`several`: the prompt asks for a group of people, who are counted and read one by one where a detector is installed."""
    subject: str | None = Field(default=None, min_length=1, max_length=100)
    """What the prompt is about, whatever its words: prompts of one subject are paired by `--pair-by subject`. By default its id."""
    expect: dict[Name, Name] = Field(default_factory=dict)
    """Attribute -> the label that the prompt asks for in so many words, as `{gender: woman}` for "a woman who is a plumber"."""

    @field_validator("text")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if is_blank(text):
            raise ValueError("a prompt without a word: leave it out")
        return text

    @property
    def key(self) -> str:
        return self.id or prompt_id_for(self.text)


class PromptSet(Block):
    """A file of prompts: `name`, `source`, and `prompts`, a list of texts or of {id, text, group, people, subject, expect}."""

    name: str = Field(min_length=1, max_length=100)
    source: str = ""
    """Where the list is from, for the report."""
    prompts: tuple[Prompt, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _texts_are_prompts(cls, data: Any) -> Any:
        return _with_texts(data)

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        seen: dict[str, str] = {}
        for prompt in self.prompts:
            if prompt.key in seen:
                raise ValueError(f"two prompts have the id {prompt.key!r}: {seen[prompt.key]!r} and {prompt.text!r}")
            seen[prompt.key] = prompt.text
        return self


# --- templates -------------------------------------------------------------------------------------------------------

Word = dict[str, str]
"""One word of a list: its `value`, and further fields by name."""


def _as_word(given: Any) -> Any:
    return given if isinstance(given, dict) else {"value": given}


class WordList(Block):
    """A file of words for a variable."""

    name: str = Field(min_length=1, max_length=100)
    source: str = ""
    license: str = ""
    language: str = ""
    """As in HTML, such as `en` or `de`."""
    values: tuple[dict[str, str], ...] = Field(min_length=1, max_length=100_000)
    """Words, or {value, and further fields}."""

    @field_validator("values", mode="before")
    @classmethod
    def _words(cls, given: Any) -> Any:
        return [_as_word(item) for item in given] if isinstance(given, list) else given

    @field_validator("values")
    @classmethod
    def _have_values(cls, words: tuple[Word, ...]) -> tuple[Word, ...]:
        if lacking := [word for word in words if not word.get("value")]:
            raise ValueError(f"a word has no `value`: {lacking[0]}")
        return words


class WordFile(Block):
    """Words of a variable that stand in a file, such as configs/prompts/lists/adjectives-en.yaml."""

    file: LocalPath


class Template(Block):
    """Prompts alike but for the words in braces."""

    text: str = Field(min_length=1, max_length=4000)
    id: str | None = Field(default=None, max_length=200)
    group: str | None = Field(default=None, max_length=200)
    people: Literal["one", "several"] = "one"
    subject: str | None = Field(default=None, max_length=200)
    expect: dict[Name, str] = Field(default_factory=dict)

    def parts(self) -> tuple[str, ...]:
        """Every text in it that may name variables."""
        return tuple(
            part for part in (self.text, self.id, self.group, self.subject, *self.expect.values()) if part is not None
        )


class PromptFile(Block):
    """A prompt set as it is written: `prompts`, or `templates` with `variables`, or both."""

    name: str = Field(min_length=1, max_length=100)
    source: str = ""
    prompts: tuple[Prompt, ...] = ()
    templates: tuple[Template, ...] = ()
    variables: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)], WordFile | tuple[dict[str, str], ...]
    ] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _texts_are_prompts(cls, data: Any) -> Any:
        data = _with_texts(data)
        if isinstance(data, dict) and isinstance(data.get("templates"), list):
            data = {**data, "templates": [{"text": t} if isinstance(t, str) else t for t in data["templates"]]}
        if isinstance(data, dict) and isinstance(data.get("variables"), dict):
            words = {k: [_as_word(w) for w in v] if isinstance(v, list) else v for k, v in data["variables"].items()}
            data = {**data, "variables": words}
        return data

    @model_validator(mode="after")
    def _holds_prompts(self) -> Self:
        if not self.prompts and not self.templates:
            raise ValueError("it holds no prompt: give `prompts`, or `templates` with `variables`")
        if reserved := [name for name in self.variables if name in _ARTICLES]:
            raise ValueError(f"variables: {reserved[0]!r} stands for the indefinite article; choose another name")
        return self

    def expanded(self, lists: Mapping[str, Sequence[Word]]) -> dict[str, Any]:
        """The prompt set that it stands for, as `PromptSet` reads it.

        Parameters
        ----------
        lists
            Variable -> its words, those of files read.

        Raises
        ------
        ValueError
            A template names what is not a variable, or the set would be larger than `MAX_PROMPTS`.
        """
        prompts = [prompt.model_dump(exclude_defaults=True) for prompt in self.prompts]
        for template in self.templates:
            used = _variables(template, lists)
            count = math.prod(len(lists[name]) for name in used)
            if len(prompts) + count > MAX_PROMPTS:
                raise ValueError(
                    f"templates: {template.text!r} stands for {count:,} prompts, and a set holds at most {MAX_PROMPTS:,}"
                )
            for words in itertools.product(*(lists[name] for name in used)):
                prompts.append(_filled(template, dict(zip(used, words, strict=True))))
        return {"name": self.name, "source": self.source, "prompts": prompts}


def _with_texts(data: Any) -> Any:
    if isinstance(data, dict) and isinstance(data.get("prompts"), list):
        return {**data, "prompts": [{"text": p} if isinstance(p, str) else p for p in data["prompts"]]}
    return data


def _variables(template: Template, lists: Mapping[str, Sequence[Word]]) -> list[str]:
    """Variables of a template, in the order in which it names them."""
    found: dict[str, None] = {}
    for part in template.parts():
        for match in _FIELD.finditer(part):
            name = match[1]
            if name is None and match[0] in "{}":
                raise ValueError(
                    f"templates: {part!r} has a single {match[0]!r}; write {match[0] * 2} for the sign itself"
                )
            if name is None or name in _ARTICLES:
                continue
            if name not in lists:
                known = ", ".join(lists) or "none"
                raise ValueError(f"templates: {part!r} names {{{name}}}, which is no variable. Variables: {known}")
            found[name] = None
    return list(found)


def _filled(template: Template, words: Mapping[str, Word]) -> dict[str, Any]:
    text = fill(template.text, words)
    prompt: dict[str, Any] = {"text": text, "people": template.people}
    if template.id is not None:
        prompt["id"] = _safe_id(fill(template.id, words))
    for key in ("group", "subject"):
        if (part := getattr(template, key)) is not None:
            prompt[key] = fill(part, words)
    prompt["expect"] = {attribute: fill(label, words) for attribute, label in template.expect.items()}
    return prompt


def _safe_id(text: str) -> str:
    plain = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")
    return plain if plain and len(plain) <= 64 else prompt_id_for(text)


def fill(text: str, words: Mapping[str, Word]) -> str:
    """A template with its words.

    >>> fill("{a} photo of {a} {job.value}", {"job": {"value": "honest engineer"}})
    'a photo of an honest engineer'
    >>> fill("{A} {job}", {"job": {"value": "university teacher"}})
    'A university teacher'

    Raises
    ------
    ValueError
        A word lacks the field that is asked for.
    """
    pieces: list[str | None] = []  # None: an article, settled by what follows
    capital: list[bool] = []
    end = 0
    for match in _FIELD.finditer(text):
        pieces.append(text[end : match.start()])
        end = match.end()
        name, field = match[1], match[2] or "value"
        if name is None:
            pieces.append(match[0][0])
        elif name in _ARTICLES:
            capital.append(name == "A")
            pieces.append(None)
        else:
            if field not in words[name]:
                raise ValueError(
                    f"templates: {text!r}: the word {words[name]['value']!r} of {name} has no field {field!r}"
                )
            pieces.append(words[name][field])
    pieces.append(text[end:])
    return "".join(_with_articles(pieces, capital))


def _with_articles(pieces: Sequence[str | None], capital: Sequence[bool]) -> Iterator[str]:
    capitals = iter(capital)
    for place, piece in enumerate(pieces):
        if piece is not None:
            yield piece
            continue
        following = "".join(p for p in pieces[place + 1 :] if p is not None).lstrip()
        article = indefinite_article(following)
        yield article.capitalize() if next(capitals) else article


_SPOKEN_VOWEL = re.compile(r"(?:hour|honest|hono[u]?r|heir)", re.IGNORECASE)
_SPOKEN_CONSONANT = re.compile(
    r"(?:uni(?!n[a-z]*d|m[a-z])|us[aeiu]|u[bkt][aeiou]|ur[aeiou]|eu|ew|one\b|once\b)", re.IGNORECASE
)
_NUMBER_VOWEL = re.compile(r"8\d*|1[18](?:\d\d|\d{3})?(?!\d)")
"""Eight and all that begins with it; eleven and eighteen, and their hundreds and thousands."""
_LETTER_VOWEL = "AEFHILMNORSX"
"""Letters whose names begin with a vowel."""


def indefinite_article(following: str) -> str:
    """`a` or `an`, by how the next word begins to sound in English.

    >>> [indefinite_article(w) for w in ("nurse", "engineer", "hourly worker", "university", "MRI technician", "unemployed man", "X-ray")]
    ['a', 'an', 'an', 'a', 'an', 'an', 'an']
    >>> [indefinite_article(w) for w in ("80-year-old man", "18-year-old", "1890s portrait", "1-year-old", "100-year-old")]
    ['an', 'an', 'an', 'a', 'a']
    """
    word = re.match(r"[\w]+", following)
    first = word[0] if word else ""
    if not first:
        return "a"
    if first[0].isdecimal():
        return "an" if _NUMBER_VOWEL.match(first) else "a"
    if (len(first) > 1 and first.isupper() and len(first) <= 5) or len(first) == 1:
        return "an" if first[0].upper() in _LETTER_VOWEL else "a"
    if _SPOKEN_VOWEL.match(first):
        return "an"
    if _SPOKEN_CONSONANT.match(first):
        return "a"
    return "an" if first[0].lower() in "aeiou" else "a"
