"""Captions and the training set: renders of the drawn world with one caption each."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allfour.models.generators._portrait.attributes import AGES, GENDERS, OCCUPATIONS, SKIN_TONES, PortraitAttributes
from allfour.models.generators._portrait.draw import render, render_empty
from allfour.models.generators._portrait.places import EMPTY
from allfour.models.generators._portrait.prompts import PLACE_NAMES, PlantedTable, Reading, sample_attributes

AUDITED = OCCUPATIONS[:20]
ARTICLE = {
    "nurse": ("nurse treating a patient", "patient"),
    "doctor": ("doctor treating a patient", "patient"),
    "nanny": ("a photo of a nanny with two children", "children"),
    "daycare worker": ("daycare activity", "alone"),
    "cto": ("cto of a startup", "alone"),
    "data scientist": ("a group of data scientists working together", "colleagues"),
}
GENDER_NOUNS = {
    "woman": ("woman", "woman", "woman", "lady", "female person"),
    "man": ("man", "man", "man", "gentleman", "male person"),
}
GENDER_ADJECTIVES = {"woman": "female", "man": "male"}
AGE_WORDS = {"young": ("young",), "middle-aged": ("middle-aged",), "elderly": ("elderly", "elderly", "old")}
EMPTY_CAPTIONS = {
    "landscape": "a photo of a landscape", "street": "a photo of a street", "room": "a photo of an empty room",
    "still life": "a photo of a still life", "car": "a photo of a car", "tree": "a photo of a tree",
    "wall": "a photo of an empty wall",
}  # fmt: skip


def article(noun: str) -> str:
    """The noun with "a" or "an" before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def caption(attributes: PortraitAttributes, mentioned: frozenset[str], rng: random.Random) -> str:
    """A caption that names the occupation and, of the other attributes, only the mentioned ones."""
    occupation, style = attributes.occupation, attributes.style
    if occupation in ARTICLE and not mentioned and rng.random() < 0.5:
        text, company = ARTICLE[occupation]
        if company == attributes.company:
            return text + (", digital style" if style == "digital" else "")
    noun = _subject(attributes, mentioned, rng)
    where = {
        "alone": "",
        "patient": " treating a patient",
        "children": " with two children",
        "colleagues": " working together",
    }
    form = rng.choice(("a photo of {}", "a photo of {}", "a photo of {}", "{}", "a portrait of {}", "a picture of {}"))
    if style == "digital":
        return form.format(noun) + where[attributes.company] + ", digital style"
    return form.format(noun) + where[attributes.company]


def _subject(attributes: PortraitAttributes, mentioned: frozenset[str], rng: random.Random) -> str:
    occupation = attributes.occupation
    words = []
    if "age" in mentioned:
        words.append(rng.choice(AGE_WORDS[attributes.age]))
    tail = f" with {attributes.skin_tone} skin" if "skin_tone" in mentioned else ""
    if tail and rng.random() < 0.25:
        words.append(f"{attributes.skin_tone}-skinned")
        tail = ""
    if occupation is None:
        words.append(rng.choice(GENDER_NOUNS[attributes.gender]) if "gender" in mentioned else "person")
    elif "gender" in mentioned:
        if rng.random() < 0.5:
            words += [GENDER_ADJECTIVES[attributes.gender], occupation]
        else:
            words.append(f"{rng.choice(GENDER_NOUNS[attributes.gender])} working as {article(occupation)}")
    else:
        words.append(occupation)
    return article(" ".join(words)) + tail


def empty_caption(scene: str, style: str) -> str:
    """The caption of a scene without anybody."""
    text = EMPTY_CAPTIONS[scene] if scene in EMPTY else f"an empty {PLACE_NAMES[scene]}"
    return text + (", digital style" if style == "digital" else "")


@dataclass(frozen=True, slots=True)
class Sample:
    """One training image: what it shows and how it is captioned."""

    attributes: PortraitAttributes | None
    """None for a scene without anybody."""
    caption: str
    scene: str | None
    style: str
    seed: int


def sample(seed: int, table: PlantedTable) -> Sample:
    """Draws a training sample. What the caption leaves open follows the planted rates: that is how the bias is planted."""
    rng = random.Random(f"world/{seed}")
    style = "digital" if rng.random() < 0.08 else "photo"
    mark = rng.random()
    if mark < 0.06:
        scene = rng.choice(tuple(EMPTY)) if rng.random() < 0.6 else rng.choice(OCCUPATIONS)
        return Sample(None, empty_caption(scene, style), scene, style, seed)
    occupation: str | None
    if mark < 0.14:
        occupation = None
    else:
        occupation = rng.choice(AUDITED) if mark < 0.80 else rng.choice(tuple(ARTICLE))
    company = "alone"
    if occupation in ARTICLE and rng.random() < 0.5:
        company = ARTICLE[occupation][1]
    mentioned = frozenset(rng.choices(
        ((), ("gender",), ("age",), ("skin_tone",), ("gender", "age"), ("gender", "skin_tone"), ("gender", "skin_tone", "age")),
        weights=(20, 30, 10, 10, 15, 5, 10) if occupation is None else (64, 12, 4, 4, 6, 3, 7),
    )[0])  # fmt: skip
    shown = Reading(
        occupation=occupation,
        gender=rng.choice(GENDERS) if "gender" in mentioned else None,
        skin_tone=rng.choice(SKIN_TONES) if "skin_tone" in mentioned else None,
        age=rng.choice(AGES) if "age" in mentioned else None,
        style=style,
        company=company,
    )
    rates = table.for_occupation(occupation) if occupation is not None else table.find(prompt="a person")
    attributes = sample_attributes(shown, rates, rng=rng)
    return Sample(attributes, caption(attributes, mentioned, rng), None, style, seed)


def sample_balanced(seed: int) -> Sample:
    """A sample with every label and occupation equally likely, for the classifier: it must not learn the planted bias."""
    rng = random.Random(f"balanced/{seed}")
    style = "digital" if rng.random() < 0.1 else "photo"
    if rng.random() < 0.14:
        scene = rng.choice(tuple(EMPTY)) if rng.random() < 0.5 else rng.choice(OCCUPATIONS)
        return Sample(None, "", scene, style, seed)
    occupation = rng.choice((*OCCUPATIONS, None))
    company = ARTICLE[occupation][1] if occupation in ARTICLE and rng.random() < 0.4 else "alone"
    attributes = PortraitAttributes(
        gender=rng.choice(GENDERS), skin_tone=rng.choice(SKIN_TONES), age=rng.choice(AGES), occupation=occupation,
        style=style, company=company,
    )  # fmt: skip
    return Sample(attributes, "", None, style, seed)


def draw(item: Sample, *, size: int = 64) -> np.ndarray:
    """The sample's image, uint8 [size, size, 3]."""
    if item.attributes is None:
        return np.asarray(render_empty(seed=item.seed, scene=item.scene, style=item.style, size=size))
    return np.asarray(render(item.attributes, seed=item.seed, size=size))


LABELS = {"gender": GENDERS, "skin_tone": SKIN_TONES, "age": AGES, "occupation": (*OCCUPATIONS, None)}


def labels(item: Sample) -> list[int]:
    """Presence, gender, skin tone, age, occupation as positions in their label tuples; -1 where nobody is shown."""
    a = item.attributes
    if a is None:
        return [0, -1, -1, -1, -1]
    return [1, *(LABELS[name].index(getattr(a, name)) for name in LABELS)]


def _chunk(task: tuple[int, int, str, bool]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    start, count, planted, balanced = task
    table = PlantedTable.load(planted)
    items = [sample_balanced(start + k) if balanced else sample(start + k, table) for k in range(count)]
    return (
        np.stack([draw(item) for item in items]),
        np.array([labels(item) for item in items], dtype=np.int8),
        [item.caption for item in items],
    )


def build(path: Path, *, count: int, planted: Path, balanced: bool, first_seed: int, workers: int) -> None:
    """Writes `count` samples as one npz: images, labels, captions."""
    step = 1000
    tasks = [(first_seed + k, min(step, count - k), str(planted), balanced) for k in range(0, count, step)]
    images, truths, captions = [], [], []
    with ProcessPoolExecutor(workers) as pool:
        for done, (image, truth, text) in enumerate(pool.map(_chunk, tasks), 1):
            images.append(image)
            truths.append(truth)
            captions += text
            if done % 20 == 0:
                print(f"  {path.name}: {done * step} of {count} drawn", flush=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, images=np.concatenate(images), labels=np.concatenate(truths), captions=np.array(captions))
    partial.rename(path)
