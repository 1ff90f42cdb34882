"""Prompt sets: templates, lists of words, subjects and expected labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from allfour.errors import ConfigError
from allfour.pipeline.config import load_prompts
from allfour.pipeline.config.prompt_sets import indefinite_article

SET = """
name: t
templates:
  - {text: "{a} photo of {a} {adj} {occ}", id: "{adj}-{occ}", subject: "{occ}", group: "{adj.kind}"}
  - {text: "{A} {{drawing}} of {a} {occ}", subject: "{occ}", expect: {gender: "{occ.g}"}}
variables:
  occ: [{value: nurse, g: woman}, {value: hourly worker, g: man}]
  adj: {file: words.yaml}
"""
WORDS = "name: w\nvalues: [{value: ambitious, kind: x}, {value: kind, kind: y}]\n"


def write(folder: Path, text: str = SET, words: str = WORDS) -> Path:
    (folder / "words.yaml").write_text(words, encoding="utf-8")
    path = folder / "set.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_template_stands_for_a_prompt_per_combination_of_its_words(tmp_path: Path) -> None:
    prompts = load_prompts(write(tmp_path)).prompts
    assert [p.text for p in prompts] == [
        "a photo of an ambitious nurse",
        "a photo of an ambitious hourly worker",
        "a photo of a kind nurse",
        "a photo of a kind hourly worker",
        "A {drawing} of a nurse",
        "A {drawing} of an hourly worker",
    ]
    assert [p.key for p in prompts[:2]] == ["ambitious-nurse", "ambitious-hourly-worker"]
    assert [p.subject for p in prompts] == ["nurse", "hourly worker"] * 3
    assert [p.group for p in prompts] == ["x", "x", "y", "y", None, None]
    assert [dict(p.expect) for p in prompts[4:]] == [{"gender": "woman"}, {"gender": "man"}]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{occ.g}", "{occ.h}", "'nurse' of occ has no field 'h'"),
        ("{a} {occ}", "{a} {job}", "names {job}, which is no variable. Variables: occ, adj"),
        ("{a} {occ}", "{a {occ}", "has a single '{'"),
        ("occ: [", "a: [x]\n  occ: [", "'a' stands for the indefinite article"),
        ("words.yaml", "wordz.yaml", "Did you mean"),
        ('id: "{adj}-{occ}"', 'id: "{occ}"', "two prompts have the id 'nurse'"),
    ],
)
def test_a_mistake_in_a_template_is_one_clear_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"set\.yaml") as caught:
        load_prompts(write(tmp_path, SET.replace(old, new)))
    assert message in str(caught.value)


def test_a_slip_that_asks_for_millions_of_prompts_is_refused(tmp_path: Path) -> None:
    many = "name: w\nvalues: [" + ", ".join(f"w{i}" for i in range(600)) + "]\n"
    text = 'name: t\ntemplates: ["{x} {y}"]\nvariables: {x: {file: words.yaml}, y: {file: words.yaml}}\n'
    with pytest.raises(ConfigError, match="360,000 prompts, and a set holds at most 200,000"):
        load_prompts(write(tmp_path, text, many))


def test_the_article_goes_by_sound() -> None:
    expected = {
        "a": "nurse university union unicorn user European one-armed ukulele 1-year-old 12-year-old 110-year-old 180° 70s 2180s",
        "an": "actor hour honest heir unemployed umbrella urban usher MRI X-ray onerous 8-bit 80-year-old 11-year-old 18th 1890s 11000",
    }
    for article, words in expected.items():
        assert {word: indefinite_article(word) for word in words.split()} == dict.fromkeys(words.split(), article)
