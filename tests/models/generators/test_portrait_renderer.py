"""The drawn world: truth, planted rates, prompts, determinism."""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from allfour.errors import BackendError
from allfour.models.generators._portrait.attributes import AGES, GENDERS, OCCUPATIONS, SKIN_TONES
from allfour.models.generators._portrait.draw import render, render_empty
from allfour.models.generators._portrait.person import sample_figure
from allfour.models.generators._portrait.prompts import PlantedTable, read_prompt
from allfour.models.generators.base import Generated, GenerationRequest, Generator, image_seed
from allfour.models.generators.portrait_renderer import PortraitAttributes, PortraitRenderer

PLANTED = Path(__file__).parents[3] / "configs" / "references" / "sandbox-planted.yaml"


def requests(prompt: str, count: int = 1, *, prompt_id: str = "p") -> list[GenerationRequest]:
    return [GenerationRequest(prompt_id, k, prompt, image_seed(7, prompt_id, k)) for k in range(count)]


def truths(prompt: str, count: int, *, prompt_id: str = "p") -> list[dict[str, str]]:
    small = PortraitRenderer(planted=PLANTED, size=16)  # whatever its size, a portrait shows the same
    outcomes = small.generate(requests(prompt, count, prompt_id=prompt_id))
    return [dict(o.truth or {}) for o in outcomes if isinstance(o, Generated)]


@pytest.mark.parametrize("occupation", [*OCCUPATIONS, None])
def test_every_occupation_is_drawn_for_every_label(occupation: str | None) -> None:
    for seed, (gender, tone, age) in enumerate((g, s, a) for g in GENDERS for s in SKIN_TONES for a in AGES):
        attributes = PortraitAttributes(gender=gender, skin_tone=tone, age=age, occupation=occupation)
        image = render(attributes, seed=seed)
        assert image.size == (64, 64) and image.mode == "RGB"
        assert attributes.truth() == {"presence": "person", "gender": gender, "skin_tone": tone, "age": age}


def test_occupations_look_different() -> None:
    def mean(occupation: str) -> np.ndarray:
        attributes = [
            PortraitAttributes(gender=g, skin_tone="medium", age="young", occupation=occupation) for g in GENDERS
        ]
        return np.mean([np.asarray(render(a, seed=s), float) for s in range(4) for a in attributes], axis=0)

    means = [mean(name) for name in OCCUPATIONS]
    distances = [np.abs(a - b).mean() for k, a in enumerate(means) for b in means[:k]]
    assert min(distances) > 8


def test_skin_tones_are_ordered_and_apart() -> None:
    def cheek(tone: str, seed: int) -> float:
        image = render(PortraitAttributes(gender="woman", skin_tone=tone, age="young"), seed=seed)
        return float(np.median(np.asarray(image, float)[30:33, 27:38].mean(2)))

    seen = [[cheek(tone, seed) for seed in range(20)] for tone in SKIN_TONES]
    assert all(min(lighter) > max(darker) for lighter, darker in pairwise(seen))


def test_no_cue_decides_alone() -> None:
    figures = {
        g: [
            sample_figure(PortraitAttributes(gender=g, skin_tone="light", age="young"), random.Random(s))
            for s in range(400)
        ]
        for g in GENDERS
    }
    for cue in ("hair_style", "lashes"):
        women, men = ({getattr(f, cue) for f in figures[g]} for g in GENDERS)
        assert women & men
    assert any(f.earrings for f in figures["man"]) and any(f.beard == "none" for f in figures["man"])
    assert max(f.jaw for f in figures["woman"]) > min(f.jaw for f in figures["man"])


def test_same_seed_gives_the_same_bytes_in_another_process() -> None:
    request = requests("a photo of a nurse")[0]
    here = next(iter(PortraitRenderer(planted=PLANTED).generate([request])))
    assert isinstance(here, Generated)
    code = (
        "import hashlib, sys\n"
        "from allfour.models.generators.base import GenerationRequest\n"
        "from allfour.models.generators.portrait_renderer import PortraitRenderer\n"
        f"r = GenerationRequest('p', 0, 'a photo of a nurse', {request.seed})\n"
        f"o = next(iter(PortraitRenderer(planted={str(PLANTED)!r}).generate([r])))\n"
        "sys.stdout.write(hashlib.sha256(o.data).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert there.stdout == hashlib.sha256(here.data).hexdigest()


def test_size_and_png() -> None:
    (outcome,) = PortraitRenderer(planted=PLANTED, size=128).generate(requests("a photo of a captain"))
    assert isinstance(outcome, Generated) and outcome.extension == "png"
    with Image.open(io.BytesIO(outcome.data)) as image:
        assert image.format == "PNG" and image.size == (128, 128)


@pytest.mark.parametrize(
    ("prompt_id", "low", "high"), [("nurse", 0.95, 1.0), ("warrior", 0.0, 0.12), ("financier", 0.36, 0.56)]
)
def test_planted_rates_are_followed(prompt_id: str, low: float, high: float) -> None:
    article = "an" if prompt_id[0] in "aeiou" else "a"
    seen = Counter(t["gender"] for t in truths(f"a photo of {article} {prompt_id}", 300, prompt_id=prompt_id))
    assert low <= seen["woman"] / 300 <= high


def test_a_word_in_the_prompt_wins_over_the_rates() -> None:
    assert {t["gender"] for t in truths("a photo of a male nurse", 30)} == {"man"}
    seen = truths("a photo of an elderly woman with dark skin", 20)
    assert seen == [{"presence": "person", "gender": "woman", "skin_tone": "dark", "age": "elderly"}] * 20


def test_naming_one_attribute_leaves_the_others_as_they_were() -> None:
    plain, gendered = truths("a photo of a magician", 30), truths("a photo of a female magician", 30)
    assert [(t["age"], t["skin_tone"]) for t in plain] == [(t["age"], t["skin_tone"]) for t in gendered]


@pytest.mark.parametrize("prompt", ["an empty room", "a photo of a landscape", "an empty kitchen", "a still life"])
def test_empty_scenes_hold_nobody(prompt: str) -> None:
    assert truths(prompt, 3) == [{"presence": "no_person"}] * 3


def test_unknown_prompts_are_drawn_evenly() -> None:
    seen = Counter(t["gender"] for t in truths("a dreamlike xyzzy", 200))
    assert 70 < seen["woman"] < 130


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("nurse treating a patient", ("nurse", "patient", "photo")),
        ("daycare activity", ("daycare worker", "alone", "photo")),
        ("a photo of a nanny with two children", ("nanny", "children", "photo")),
        ("cto of a startup, digital style", ("cto", "alone", "digital")),
        ("a group of data scientists working together", ("data scientist", "colleagues", "photo")),
        ("A photo of an Architect.", ("architect", "alone", "photo")),
    ],
)
def test_prompts_are_read(prompt: str, expected: tuple[str, str, str]) -> None:
    reading = read_prompt(prompt)
    assert (reading.occupation, reading.company, reading.style) == expected and not reading.empty


def test_a_paraphrase_takes_the_rates_of_its_occupation() -> None:
    table = PlantedTable.load(PLANTED)
    assert table.find(prompt="portrait of a librarian, oil") == table.rates["librarian"]
    assert table.find(prompt="anything", prompt_id="captain") == table.rates["captain"]


def test_every_audited_prompt_is_planted() -> None:
    root = PLANTED.parents[1] / "prompts"
    table = PlantedTable.load(PLANTED)
    for name in ("bolukbasi-extremes", "article"):
        for prompt in yaml.safe_load((root / f"{name}.yaml").read_text())["prompts"]:
            assert table.rates[prompt["id"]].text == prompt["text"]


def test_presence_of_a_person_is_visible() -> None:
    empty = [np.asarray(render_empty(seed=s, scene="nurse"), float) for s in range(3)]
    drawn = [
        np.asarray(
            render(PortraitAttributes(gender="man", skin_tone="dark", age="young", occupation="nurse"), seed=s), float
        )
        for s in range(3)
    ]
    assert np.abs(np.mean(empty, 0) - np.mean(drawn, 0)).mean() > 15


def test_bad_rates_are_named() -> None:
    bad = {"prompts": {"nurse": {"shares": {"gender": {"woman": 0.9, "man": 0.3}}}}}
    with pytest.raises(BackendError, match=r"nurse.*gender"):
        PortraitRenderer(planted=bad)
    with pytest.raises(BackendError, match="planted"):
        PortraitRenderer(planted="no/such/file.yaml")


def test_the_rates_file_is_bounded_as_every_yaml_is(tmp_path: Path) -> None:
    levels = ["l0: &l0 [1]", *(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9))]
    (tmp_path / "bomb.yaml").write_text("\n".join([*levels, "prompts: {nurse: {text: *l8}}"]))
    (tmp_path / "tag.yaml").write_text("prompts: !!python/object/apply:os.getcwd []")
    for name, problem in (("bomb", "aliases"), ("tag", "not valid YAML")):
        with pytest.raises(BackendError, match=problem):
            PortraitRenderer(planted=tmp_path / f"{name}.yaml")


def test_identity_follows_the_rates_and_fits_the_protocol() -> None:
    generator = PortraitRenderer(planted=PLANTED)
    other = PortraitRenderer(planted={"prompts": {}})
    assert isinstance(generator, Generator)
    assert generator.identity() == PortraitRenderer(planted=PLANTED).identity() != other.identity()


def test_bad_attributes_are_named() -> None:
    with pytest.raises(ValueError, match="skin_tone='blue'"):
        PortraitAttributes(gender="woman", skin_tone="blue", age="young")
