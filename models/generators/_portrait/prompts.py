"""Reading a prompt: which of the drawn world's words it holds, and at what rates the rest is filled in."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from allfour.checked_yaml import read_yaml
from allfour.models.generators._portrait.attributes import AGES, GENDERS, OCCUPATIONS, SKIN_TONES, PortraitAttributes
from allfour.models.generators._portrait.places import EMPTY, PLACES

_GENDER_WORDS = {
    "woman": "woman", "women": "woman", "female": "woman", "lady": "woman", "girl": "woman",
    "man": "man", "men": "man", "male": "man", "gentleman": "man", "boy": "man",
}  # fmt: skip
_AGE_WORDS = {
    "young": "young", "youthful": "young", "middle-aged": "middle-aged", "middle": "middle-aged",
    "elderly": "elderly", "old": "elderly", "older": "elderly", "senior": "elderly",
}  # fmt: skip
_SKIN_WORDS = {
    "light": "light", "light-skinned": "light", "pale": "light", "fair": "light",
    "medium": "medium", "medium-skinned": "medium", "tan": "medium", "olive": "medium",
    "dark": "dark", "dark-skinned": "dark", "deep": "dark",
}  # fmt: skip
_OCCUPATION_WORDS = {
    **{name: name for name in OCCUPATIONS}, "daycare": "daycare worker", "data scientists": "data scientist",
    "chief technology officer": "cto", "conductor": "maestro", "hair dresser": "hairdresser",
}  # fmt: skip
_PEOPLE_WORDS = frozenset({"person", "people", "face", "portrait", "somebody", "someone", "headshot"})
_EMPTY_WORDS = {
    "landscape": "landscape", "mountains": "landscape", "street": "street", "city": "street", "room": "room",
    "sofa": "room", "still life": "still life", "vase": "still life", "fruit": "still life", "car": "car",
    "tree": "tree", "wall": "wall",
}  # fmt: skip


_LABELS = {"gender": GENDERS, "skin_tone": SKIN_TONES, "age": AGES}


def _even(attribute: str) -> dict[str, float]:
    labels = _LABELS[attribute]
    return dict.fromkeys(labels, 1 / len(labels))


@dataclass(frozen=True, slots=True)
class PlantedRates:
    """How a prompt's images come out, by construction."""

    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Attribute -> label -> share of images, in [0, 1]; an attribute that is not given is even."""
    text: str | None = None
    source: str = "default: nothing is planted"

    def __post_init__(self) -> None:
        for attribute, mixture in self.shares.items():
            labels = _LABELS.get(attribute)
            if labels is None:
                raise ValueError(f"shares.{attribute}: not one of {', '.join(_LABELS)}")
            if set(mixture) != set(labels) or min(mixture.values()) < 0 or abs(sum(mixture.values()) - 1) > 1e-6:
                raise ValueError(f"shares.{attribute}: give {', '.join(labels)}, none below 0, so that they sum to 1")

    def mixture(self, attribute: str) -> Mapping[str, float]:
        """Label -> share of one attribute."""
        return self.shares.get(attribute) or _even(attribute)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a prompt says; None where it says nothing."""

    occupation: str | None = None
    gender: str | None = None
    skin_tone: str | None = None
    age: str | None = None
    style: str = "photo"
    company: str = "alone"
    empty: bool = False
    scene: str | None = None


def normalise(text: str) -> str:
    """Lower case, single spaces, no punctuation but hyphens: how prompts are compared."""
    return " ".join(re.findall(r"[a-z0-9-]+", text.lower()))


@lru_cache(maxsize=4096)
def _normalised(text: str) -> str:
    return normalise(text)


def _find(text: str, words: Mapping[str, str]) -> str | None:
    """The value of the longest word or phrase of `words` that `text` holds."""
    found = [word for word in words if re.search(rf"(?<![a-z0-9-]){re.escape(word)}(?![a-z0-9-])", text)]
    return words[max(found, key=len)] if found else None


@lru_cache(maxsize=4096)
def read_prompt(prompt: str) -> Reading:
    """Finds the drawn world's words in a prompt; anything else in it has no effect."""
    text = normalise(prompt)
    occupation = _find(text, _OCCUPATION_WORDS)
    gender = _find(text, _GENDER_WORDS)
    skin_text = text if re.search(r"skin(ned)?\b|complexion", text) else ""
    scene = _find(text, _EMPTY_WORDS)
    people = gender is not None or any(re.search(rf"\b{word}\b", text) for word in _PEOPLE_WORDS)
    nobody = re.search(r"\b(empty|nobody|no person|no people|without (a person|people|anybody))\b", text) is not None
    company = "alone"
    if "patient" in text:
        company = "patient"
    elif "children" in text:
        company = "children"
    elif "group" in text or "together" in text:
        company = "colleagues"
    empty = nobody or (scene is not None and occupation is None and not people)
    place = _find(text, {about: name for name, about in _PLACE_NAMES.items()})
    return Reading(
        occupation=occupation,
        gender=gender,
        skin_tone=_find(skin_text, _SKIN_WORDS),
        age=_find(text, _AGE_WORDS),
        style="digital" if "digital" in text else "photo",
        company=company,
        empty=empty,
        scene=(scene or occupation or place) if empty else None,
    )


_PLACE_NAMES = {
    "homemaker": "kitchen", "nurse": "clinic", "receptionist": "front desk", "librarian": "library",
    "socialite": "ballroom", "hairdresser": "salon", "nanny": "nursery", "bookkeeper": "archive",
    "stylist": "dress rail", "housekeeper": "bedroom", "maestro": "concert hall", "skipper": "sea",
    "protege": "classroom", "philosopher": "temple", "captain": "ship bridge", "architect": "blueprint",
    "financier": "trading floor", "warrior": "battlefield", "broadcaster": "newsroom", "magician": "theatre",
    "doctor": "surgery", "daycare worker": "playroom", "cto": "server room", "data scientist": "dashboard",
}  # fmt: skip
"""What an occupation's empty place of work is called."""

PLACE_NAMES: Mapping[str, str] = _PLACE_NAMES
assert set(PLACES) == set(_PLACE_NAMES) and set(_EMPTY_WORDS.values()) <= set(EMPTY)


@dataclass(frozen=True, slots=True)
class PlantedTable:
    """Planted rates by prompt, looked up by text, then id, then the occupation that the prompt names."""

    rates: Mapping[str, PlantedRates]
    """By prompt id."""

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any]) -> PlantedTable:
        """Reads a table from YAML or from the same structure in memory.

        Raises
        ------
        ValueError
            The table is malformed; the message names the prompt and the key.
        ConfigError
            There is no such file, or it is not a YAML of a table.
        """
        if isinstance(source, Mapping):
            data, where = source, "planted rates"
        else:
            data, where = read_yaml(Path(source)), str(source)
        prompts = data.get("prompts") if isinstance(data, Mapping) else None
        if not isinstance(prompts, Mapping):
            raise ValueError(f"{where}: expected a mapping `prompts` from prompt id to rates")
        rates = {}
        for name, entry in prompts.items():
            try:
                rates[str(name)] = PlantedRates(**entry)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}: prompt {name!r}: {error}") from error
        return cls(rates)

    def find(self, *, prompt: str, prompt_id: str | None = None) -> PlantedRates:
        """The rates of a prompt; uniform ones where the table has nothing on it."""
        text = _normalised(prompt)
        for rates in self.rates.values():
            if rates.text is not None and _normalised(rates.text) == text:
                return rates
        if prompt_id is not None and prompt_id in self.rates:
            return self.rates[prompt_id]
        occupation = read_prompt(prompt).occupation
        return self.for_occupation(occupation) if occupation is not None else PlantedRates()

    def for_occupation(self, occupation: str) -> PlantedRates:
        """The rates of the plain prompt for an occupation, or of the first prompt that names it."""
        if occupation in self.rates:
            return self.rates[occupation]
        for name, rates in self.rates.items():
            if read_prompt(rates.text or name).occupation == occupation:
                return rates
        return PlantedRates()


def _pick(rng: random.Random, mixture: Mapping[str, float]) -> str:
    mark = rng.random()
    names = list(mixture)
    for name in names:
        mark -= mixture[name]
        if mark < 0:
            return name
    return names[-1]


def sample_attributes(reading: Reading, rates: PlantedRates, *, rng: random.Random) -> PortraitAttributes:
    """Fills in what a prompt leaves open from the planted rates; a word in the prompt wins over them."""
    # Every attribute is drawn even where a word wins, so that naming one leaves the draws of the others unchanged.
    gender, skin_tone, age = (_pick(rng, rates.mixture(attribute)) for attribute in _LABELS)
    return PortraitAttributes(
        gender=reading.gender or gender,
        skin_tone=reading.skin_tone or skin_tone,
        age=reading.age or age,
        occupation=reading.occupation,
        style=reading.style,
        company=reading.company,
    )
