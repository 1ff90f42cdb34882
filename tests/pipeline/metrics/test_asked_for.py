"""Labels that prompts ask for: shown, overridden, refused; and whether that differs by what is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from allfour.errors import ConfigError
from allfour.pipeline.config import load_attributes, load_config
from allfour.pipeline.metrics.asked_for import ASKED_NOTE, asked_for, asked_notes, asked_of, with_asked
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.headline import with_headline
from allfour.pipeline.metrics.tallies import PromptTally, Tallies
from allfour.pipeline.report.lead import chance, headline, standfirst
from allfour.pipeline.report.model_card import model_index
from allfour.pipeline.run.asked import AskedPrompt
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics

LABELS = {"gender": ("woman", "man")}


def prompt(key: str, shown: dict[str, int], *, refused: int = 0) -> PromptTally:
    scored = sum(shown.values())
    return PromptTally(
        id=key, text=key, group=None, statuses={"generated": scored, "refused": refused}, labels={"gender": shown}
    )


def planted() -> tuple[list[PromptTally], dict[str, AskedPrompt]]:
    """Eight occupations, each asked for as a woman (8 of 10 shown, 2 overridden) and as a man (7 shown, 1 unclear, 2 refused)."""
    prompts, asked = [], {}
    for k in range(8):
        prompts.append(prompt(f"w{k}", {"woman": 8, "man": 2}))
        prompts.append(prompt(f"m{k}", {"man": 7, "ambiguous": 1}, refused=2))
        for who, key in (("woman", f"w{k}"), ("man", f"m{k}")):
            asked[key] = AskedPrompt(subject=f"job {k}", expect={"gender": who})
    return prompts, asked


def test_rates_are_of_all_images_that_were_requested_and_add_up() -> None:
    prompts, asked = planted()
    found = asked_for([*prompts, prompt("other", {"man": 10})], asked, labels=LABELS, confidence=0.95)
    assert found is not None
    woman, man = found["gender"].labels["woman"], found["gender"].labels["man"]
    assert woman.counts == {"shown": 64, "other": 16, "unclear": 0, "refused": 0, "failed": 0}
    assert (man.shown.value, man.unclear.value, man.refused.value) == (0.7, 0.1, 0.2)
    assert man.shown_of_labelled.value == 1.0
    for entry in (woman, man):
        rates = [entry.shown, entry.other, entry.unclear, entry.refused, entry.failed]
        assert sum(rate.value or 0 for rate in rates) == pytest.approx(1)


def test_identities_are_compared_over_the_subjects_that_have_both() -> None:
    prompts, asked = planted()
    alone = prompt("alone", {"woman": 0, "man": 10})
    found = asked_for(
        [*prompts, alone], {**asked, "alone": AskedPrompt(subject="lone", expect={"gender": "woman"})},
        labels=LABELS, confidence=0.95,
    )  # fmt: skip
    assert found is not None
    (pair,) = found["gender"].differences
    assert (pair.first, pair.second, pair.subjects) == ("woman", "man", 8)
    assert pair.shown.value == pytest.approx(-0.1)
    assert pair.refused.value == pytest.approx(0.2)
    assert pair.refused_p_value == pytest.approx(2 / 2**8)  # all eight differences have one sign


def measured(prompts: list[PromptTally], asked: dict[str, AskedPrompt], **options: Any) -> Metrics:
    """Of counts in which every set is the whole prompt."""
    whole = tuple(replace(p, set_labels=p.labels) for p in prompts)
    tallies = Tallies(prompts=whole, joint={}, duplicates=(), duplicate_images=0, persons=0)
    found = compute_metrics(tallies, labels=LABELS, headline="gender", set_size=10, asked=asked, **options)
    return with_headline(with_asked(found, whole, asked))


def test_prompts_that_ask_for_a_label_are_in_no_figure_of_it() -> None:
    prompts, asked = planted()
    plain = [prompt("a", {"man": 10}), prompt("b", {"man": 5, "woman": 5})]
    found, alone = measured([*prompts, *plain], asked), measured(plain, {})
    same = found.summary.model_copy(update={"prompts_asked_for": None, "scored_share": None})
    assert same == alone.summary.model_copy(update={"scored_share": None})
    assert found.summary.prompts_asked_for == 16
    assert found.attributes["gender"] == alone.attributes["gender"]
    assert found.accounting.requested == 180  # nothing is lost
    assert len(found.prompts) == 18
    assert found.prompts[0].share["woman"].value == 0.8
    (note,) = [n for n in found.notes if n.code == ASKED_NOTE]
    assert note.text.startswith("16 of 18 prompts ask explicitly for a perceived gender")
    assert "16 more prompts ask explicitly for a perceived gender" in (standfirst(found) or "")


def test_where_every_prompt_asks_there_is_no_headline_of_bias() -> None:
    prompts, asked = planted()
    found = measured(prompts, asked)
    top = found.summary.headline
    assert top is not None and (top.value, top.verdict) == (None, "asked_for")
    assert headline(found).startswith("Women were asked for in 8 prompts, and 64 of 80 images show one.")
    assert chance(found) is None
    card = yaml.safe_load(model_index(found, Header()))["model-index"][0]["results"][0]["metrics"]
    assert [(row["type"], row["value"]) for row in card] == [
        ("shown-where-asked-for", 0.8),
        ("shown-where-asked-for", 0.7),
    ]
    assert not asked_notes(asked, headline="age", prompts=[p.id for p in prompts])


@pytest.mark.parametrize(
    ("expect", "message"),
    [("{race: x}", "asks about gender"), ("{gender: lady}", "the labels of gender are woman, man")],
)
def test_an_expected_label_that_is_not_asked_about_is_an_error_before_anything_is_made(
    tmp_path: Path, expect: str, message: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"name: p\nprompts: [{{text: a, expect: {expect}}}]\n", encoding="utf-8")
    config = load_config(Path("sandbox"), [f"prompts.file={path}"])
    with pytest.raises(ConfigError, match=message):
        asked_of(config, load_attributes(config.attributes.file))
