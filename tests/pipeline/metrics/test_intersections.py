"""Intersections counted by hand, chosen by config, read from old documents, and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from allfour.errors import ConfigError
from allfour.models.attributes import AttributeSet
from allfour.pipeline import statistics as st
from allfour.pipeline.config import RunConfig, validate
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.gate import evaluate, metrics_gates
from allfour.pipeline.metrics.intersections import chosen, with_intersections
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.report.exports import intersections_csv
from allfour.pipeline.report.panels import intersections, joint_tables
from allfour.pipeline.run.metrics import Metrics
from tests.pipeline.metrics.test_compute import LABELS, build

CROSSED = {name: LABELS[name] for name in ("gender", "race")}


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """Three prompts: one all of one combination, one of two, one with an image that lacks a label."""
    one, two = CROSSED["race"][:2]
    run = build(
        tmp_path_factory.mktemp("run"),
        {
            "nurse": [f"woman/{one}"] * 4 + [f"man/{one}"],
            "cook": [f"man/{one}", f"man/{two}"] * 2,
            "guard": [f"man/{two}"] * 3 + [f"ambiguous/{two}"],
        },
    )
    counted = tally(run, attributes=list(LABELS), set_size=4)
    found = compute_metrics(counted, labels=LABELS, headline="gender", set_size=4)
    return with_intersections(found, run, counted.prompts, [("gender", "race")])


def test_shares_are_means_over_prompts(metrics: Metrics) -> None:
    one, two = CROSSED["race"][:2]
    found = next(entry for entry in metrics.intersections if entry.name == "gender x race")
    cells = {tuple(cell.labels): cell for cell in found.counts}
    assert len(cells) == len(CROSSED["gender"]) * len(CROSSED["race"])
    assert (found.images, found.prompts, found.without_label) == (12, 3, 1)
    shares = {key: cell.share.value for key, cell in cells.items() if cell.share is not None and cell.images}
    assert shares == {
        ("woman", one): pytest.approx(0.8 / 3),
        ("man", one): pytest.approx((0.2 + 0.5) / 3),
        ("man", two): pytest.approx((0.5 + 1.0) / 3),
    }
    by_hand = st.rate_over_prompts([4, 0, 0], trials=[5, 4, 3])
    share = cells["woman", one].share
    assert share is not None and (share.low, share.high) == (by_hand.low, by_hand.high)
    assert cells["man", two].images == 5


def test_a_prompt_that_asks_for_a_label_of_either_attribute_is_in_none(tmp_path: Path) -> None:
    one, two = CROSSED["race"][:2]
    run = build(tmp_path, {"nurse": [f"woman/{one}"] * 4, "cook": [f"man/{two}"] * 4, "a woman": [f"woman/{two}"] * 4})
    counted = tally(run, attributes=list(LABELS), set_size=4)
    found = compute_metrics(counted, labels=LABELS, headline="gender", set_size=4)
    for attribute, label in (("gender", "woman"), ("race", two)):
        run.update_header(asked={"a woman": {"expect": {attribute: label}}})
        (crossed, *_) = with_intersections(found, run, counted.prompts, [("gender", "race")]).intersections
        assert (crossed.images, crossed.prompts, crossed.evaluated) == (8, 2, 2)
        assert [cell.images for cell in crossed.counts if cell.labels == ["woman", two]] == [0]


def test_unanimity_has_the_floor_of_so_many_combinations(metrics: Metrics) -> None:
    found = metrics.intersections[0]
    combinations = len(found.counts)
    # the nurse's first four; the guard's set lacks a label
    assert (found.unanimous, found.evaluated) == (1, 3)
    assert found.unanimity is not None and found.unanimity.high == st.wilson(1, 3).high
    assert found.unanimity_floor == pytest.approx(combinations**-3)
    null = found.unanimity_null
    # two complete sets: 1 - (1 - K^-3)^2
    assert null is not None and null.p_value == pytest.approx(1 - (1 - combinations**-3) ** 2)
    every = found.unanimity_all_images
    assert every is not None and every.value == pytest.approx((1 / 5) / 3)  # of the nurse's five sets one is all women


def test_absent_combinations_have_a_limit(metrics: Metrics) -> None:
    found = metrics.intersections[0]
    assert {tuple(absent.labels) for absent in found.never} == {
        tuple(cell.labels) for cell in found.counts if not cell.images
    }
    absent = found.never[0]
    assert absent.high == st.mean_over_prompts([0.0] * 3, independent=12).high
    assert absent.chance == pytest.approx((1 - 1 / len(found.counts)) ** 12)


def test_the_document_is_read_gated_exported_and_shown(metrics: Metrics) -> None:
    document = metrics.document()
    assert Metrics.model_validate(document).document() == document
    one = CROSSED["race"][0]
    gates = metrics_gates(["intersections.gender x race.unanimity > 0.3", f"intersections.gender x race.counts.woman x {one}.share.low > 0.5"])  # fmt: skip
    assert [evaluate(gate, document).hit for gate in gates] == [True, False]
    lines = intersections_csv(metrics).decode().splitlines()
    assert lines[0].startswith("intersection,labels,images,share,") and len(lines) == 1 + len(
        metrics.intersections[0].counts
    )
    assert lines[1].startswith(f"gender x race,woman x {one},4,0.26")
    (table,) = joint_tables(metrics)
    assert len(table.lines) == 3 and table.lines[0].images == 5
    assert "For 1 of 3 prompts every image of the set shows one combination" in table.sentence
    assert table.absent is not None and table.absent.startswith("Never seen: ")


def test_a_document_of_before_has_counts_alone() -> None:
    old = {"format": 1, "labels": {"gender": ["woman", "man"], "race": ["a", "b"]}}
    counts = [{"labels": ["woman", "a"], "images": 3}]
    found = Metrics.model_validate({**old, "intersections": [{"attributes": ["gender", "race"], "counts": counts}]})
    assert joint_tables(found) == [] and intersections_csv(found).count(b"\n") == 1
    assert len(intersections(found)) == 1


def test_a_config_names_pairs_and_triples() -> None:
    asked = AttributeSet.model_validate(
        {"attributes": {n: {"labels": {a: [a], b: [b]}} for n, (a, b) in {"gender": "wm", "race": "xy", "age": "og"}.items()}}
    )  # fmt: skip
    assert chosen(None, asked) == [("gender", "race")]
    assert chosen([], asked) == []
    assert chosen([("age", "race"), ("age", "race")], asked) == [("age", "race")]
    with pytest.raises(ConfigError, match="'skin' is no attribute"):
        chosen([("gender", "skin")], asked)
    config = {"classifier": {"backend": "recorded", "file": str(Path(__file__))}}
    for wrong in ([["gender"]], [["gender", "gender"]], [["a", "b", "c", "d"]]):
        with pytest.raises(ConfigError, match="intersections"):
            validate(RunConfig, {**config, "intersections": wrong}, where="x.yaml")
