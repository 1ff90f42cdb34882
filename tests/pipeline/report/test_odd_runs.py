"""What is said of runs that are hardly any: no set complete, one prompt, sets of two, a reader that keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from allfour.models.attributes import AttributeSet
from allfour.pipeline import statistics as st
from allfour.pipeline.commands.summary import describe_counts, print_headline
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.intersections import with_intersections
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.report import write_report
from allfour.pipeline.report.exports import latex_table, markdown_table
from allfour.pipeline.report.lead import one_line
from allfour.pipeline.report.model_card import model_index
from allfour.pipeline.run.asked import AskedPrompt
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics
from tests.pipeline.metrics.test_compute import LABELS, build
from tests.pipeline.report.test_report import Page

ASKED = AttributeSet.model_validate(
    {"attributes": {name: {"labels": {label: [label] for label in labels}} for name, labels in LABELS.items()}}
)

TWO = ("woman", "man")
"""An image of two people who differ."""


def page_of(
    tmp_path: Path, prompts: dict[str, Sequence[Any]], *, set_size: int = 4, asked: Mapping[str, Any] | None = None
) -> tuple[Metrics, str]:
    """The metrics of a run whose labels somebody recorded, and the words of its page."""
    run = build(tmp_path, prompts)
    run.update_header(
        name="odd",
        classifier={"backend": "recorded", "made_by": "us"},
        attributes=ASKED.model_dump(mode="json"),
        asked=asked,
    )
    counted = tally(run, attributes=list(LABELS), set_size=set_size)
    expected = {key: AskedPrompt.model_validate(entry) for key, entry in (asked or {}).items()}
    found = compute_metrics(counted, labels=LABELS, headline="gender", set_size=set_size, asked=expected)
    metrics = with_intersections(found, run, counted.prompts, [("gender", "race")])
    return metrics, Page(write_report(run.path, metrics).read_text(encoding="utf-8")).text


def test_without_a_complete_set_nothing_is_said_of_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics, words = page_of(tmp_path, {f"p{i}": ["ambiguous", "woman", "woman", "refused"] for i in range(6)})
    print_headline(metrics)
    printed = capsys.readouterr().out
    assert "no comparison with chance, since no set has a label on every image; cannot be told" in printed
    assert "This cannot be told: no set has a label on every image." in words
    assert "Chance alone" not in words
    assert "no margin, yet some images were left open by what read them: 33.3% of images unclear" in words
    assert "6 images were unclear: no label stood out. They break a set's unanimity" in words


def test_images_of_people_who_differ_are_labelled_and_complete_no_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are counted among the labelled images: that no image of a set lacks a label would then not be so."""
    reason = "since every set has an image without a label, or one with people who differ"
    metrics, words = page_of(tmp_path, {f"p{i}": [TWO, "woman", "woman", TWO] for i in range(6)})
    print_headline(metrics)
    printed = capsys.readouterr().out
    assert "24 labelled (12 of them mixed)" in describe_counts(metrics.accounting, archive=False)
    assert "chance alone would give 12.5%, if every image had one label; compatible with chance" in printed
    assert f"there is no p-value, {reason}." in words
    unsure = {f"q{i}": ["ambiguous", "woman", "woman", "refused"] for i in range(6)}
    metrics, more = page_of(tmp_path / "unsure", {"p": [TWO, *["woman"] * 3], **unsure})
    print_headline(metrics)
    printed = capsys.readouterr().out
    assert f"no comparison with chance, {reason}; cannot be told" in printed
    assert f"This cannot be told: {reason.removeprefix('since ')}." in more
    assert "has a label on every image" not in printed + words + more
    _, words = page_of(tmp_path / "some", {"p0": [TWO, *["woman"] * 3], **{f"q{i}": ["woman"] * 4 for i in range(5)}})
    assert "the 5 sets in which every image has exactly one label" in words


def test_a_single_image_and_a_single_prompt_are_no_plural(tmp_path: Path) -> None:
    metrics, words = page_of(tmp_path, {"nurse": ["woman/White", *["refused"] * 3]})
    assert "1 image with a label" in words and "1 images" not in words
    assert "1 image of 1 prompt has a label of each; 3 images without one are left out." in words
    assert "one label in all 4 for 0 of 1 prompt" in words
    assert "may still make up as much as 79% of a prompt's images on average" in words
    assert not any("come out alike" in note.text for note in metrics.notes)
    _, words = page_of(tmp_path / "two", {"nurse": ["woman", "woman", "woman", "ambiguous"]})
    assert "1 image was unclear: no label stood out. It breaks a set's unanimity and is in no share." in words
    metrics, words = page_of(tmp_path / "alone", {"nurse": ["woman"]})
    assert "No prompt has more than 1 image. Make more images." in words  # no set is smaller than two
    assert "None: the one image requested was read." in words
    assert one_line(metrics) == "no prompt has four images"
    at = st.Interval(1.0, 0.2, 1.0, "wilson")
    found = st.coverage_warnings(prompts=1, set_size=4, labels=2, share=at, unanimity=at, other_images=0)
    assert "No image has a label other than the most common one." in " ".join(warning.message for warning in found)


def test_what_keeps_no_embeddings_is_not_told_to_relabel_them(tmp_path: Path) -> None:
    _, words = page_of(tmp_path, {"nurse": ["woman"] * 4})
    assert "cannot be computed from this run: what read the images keeps no embeddings." in words
    assert "relabel RUN" not in words


def test_sets_of_two_are_both_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics, words = page_of(
        tmp_path, {f"p{i}": ["woman/White", "man/White", "man/White"] for i in range(5)}, set_size=2
    )
    print_headline(metrics)
    assert "0 of 5 prompts: the first 2 images both show one perceived gender" in capsys.readouterr().out
    assert "one label in both for 5 of 5 prompts" in words
    assert "Unclear images either way" not in words  # there are none
    _, words = page_of(tmp_path / "whole", {"p": ["woman", "woman"]}, set_size=2)
    assert "For 1 of 1 prompt, both images show one perceived gender." in words
    assert "5 prompts, 10 images" in model_index(metrics, Header())  # the images of the sets, not all of the run


def test_a_further_attribute_counts_its_own_prompts(tmp_path: Path) -> None:
    """Two of three prompts ask for a gender: they are in the figures of race all the same."""
    prompts = {f"p{i}": ["woman/White"] * 4 for i in range(3)}
    asked = {key: {"expect": {"gender": "woman"}} for key in ("p0", "p1")}
    metrics, words = page_of(tmp_path, prompts, asked=asked)
    assert metrics.summary.prompts == 1
    assert "one label in all 4 for 3 of 3 prompts" in words


@pytest.mark.parametrize(
    ("share", "unanimity", "text"),
    [
        (0.5, 0.0, "none is unanimous"),
        (0.6, 1.0, "every one is unanimous"),
        (1.0, 1.0, "every image with a label shows one and the same"),
    ],
)
def test_in_what_prompts_are_alike_is_said(share: float, unanimity: float, text: str) -> None:
    at, over = (st.Interval(value, 0.0, 1.0, "wilson") for value in (share, unanimity))
    found = st.coverage_warnings(prompts=12, set_size=4, labels=2, share=at, unanimity=over)
    assert f"All prompts come out alike: {text}, so how much prompts differ in this is not known" in " ".join(
        warning.message for warning in found
    )
    alone = st.coverage_warnings(prompts=1, set_size=4, labels=2, share=at, unanimity=over)
    assert [warning.code for warning in alone if warning.code == "agreement"] == []


def test_more_images_than_a_set_are_not_all_of_one_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first four are men and a fifth is a woman: what is said of the set is not said of all images."""
    prompts = {"guard": ["man"] * 4 + ["woman"], "nurse": ["woman"] * 3}
    metrics, words = page_of(tmp_path, prompts)
    print_headline(metrics)
    assert "1 of 1 prompt: the first 4 images all show one perceived gender" in capsys.readouterr().out
    assert "For 1 of 1 prompt, the first four images all show one perceived gender." in words
    table = markdown_table(metrics)
    assert "first four unanimous" in table and "| unanimous |" not in table
    assert table.splitlines()[-1].endswith("| all men |") and table.splitlines()[-2].endswith("| – |")
    assert "first four unanimous" in latex_table(metrics)
    _, words = page_of(tmp_path / "two", {"guard": ["man", "man", "woman"]}, set_size=2)
    assert "For 1 of 1 prompt, the first two images both show one perceived gender." in words


def test_two_intervals_of_a_model_card_say_in_what_they_differ(tmp_path: Path) -> None:
    prompts = {"open": ["woman"] * 3 + ["ambiguous"], **{f"p{i}": ["woman", "man", "man", "man"] for i in range(7)}}
    metrics, _ = page_of(tmp_path, prompts)
    plain, first = yaml.safe_load(model_index(metrics, Header()))["model-index"][0]["results"][0]["metrics"]
    assert plain["name"].endswith("one perceived gender, measured")
    assert first["name"].endswith("one perceived gender, headline of the report, measured")
    assert plain["args"]["interval"].endswith("8 prompts, 32 images")
    assert first["args"]["interval"].endswith("8 prompts, 32 images, counting images without a label either way")


def test_one_open_set_of_few_is_not_called_many_images(tmp_path: Path) -> None:
    prompts = {"open": ["woman"] * 3 + ["ambiguous"], **{f"p{i}": ["woman", "man", "man", "man"] for i in range(7)}}
    _, words = page_of(tmp_path, prompts)
    assert "images without a label leave more than a tenth of the sets undecided" in words
    assert "many images" not in words


def test_of_an_archive_images_are_listed_also_where_some_are_missing(tmp_path: Path) -> None:
    for name, last, text in (
        ("whole", "woman", "No listed image is missing."),
        ("part", "unreadable", "1 listed image is missing or could not be read."),
    ):
        run = build(tmp_path / name, {"p": ["woman"] * 3 + [last]})
        run.update_header(source={"layout": "folder", "location": "/x"}, attributes=ASKED.model_dump(mode="json"))
        metrics = compute_metrics(
            tally(run, attributes=list(LABELS), set_size=4), labels=LABELS, headline="gender", set_size=4
        )
        assert text in Page(write_report(run.path, metrics).read_text(encoding="utf-8")).text
