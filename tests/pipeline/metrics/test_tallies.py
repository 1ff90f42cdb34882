"""Counts are those of a loop over the rows, in whatever order and however complete the tables are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.metrics.intersections import joint_counts
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.run import tables
from allfour.pipeline.run.folder import RunFolder
from tests.pipeline.metrics.test_compute import LABELS, build

SIZE = 4
NAMES = ["gender", "race"]


def made(folder: Path) -> RunFolder:
    """Five prompts of 3 to 17 images, drawn by chance, a few of them ambiguous."""
    random = np.random.default_rng(3)
    races = LABELS["race"][:2]

    def image() -> str:
        return f"{random.choice(['woman', 'woman', 'woman', 'man', 'ambiguous'])}/{random.choice(races)}"

    return build(folder, {f"p{count}": [image() for _ in range(count)] for count in (3, 4, 8, 13, 17)})


def by_hand(run: RunFolder) -> tuple[dict[str, tuple[int, int]], Counter[Any], Counter[Any]]:
    """Sets by prompt, pairs of labels, and triples of prompt and labels."""
    labels = {
        (r["prompt_id"], r["index"], r["attribute"]): r["decision"] for r in pq.read_table(run.scores_path).to_pylist()
    }
    images: dict[str, list[int]] = {}
    for row in pq.read_table(run.images_path, columns=["prompt_id", "index"]).to_pylist():
        images.setdefault(row["prompt_id"], []).append(row["index"])
    sets = {}
    for prompt, numbers in images.items():
        ordered = [labels.get((prompt, number, "gender")) for number in sorted(numbers)]
        whole = [set(ordered[start : start + SIZE]) for start in range(0, len(ordered) - SIZE + 1, SIZE)]
        sets[prompt] = len(whole), sum(one in ({"woman"}, {"man"}) for one in whole)
    both = [
        (p, labels.get((p, i, "gender")), labels.get((p, i, "race"))) for p, numbers in images.items() for i in numbers
    ]
    both = [row for row in both if None not in row]
    return sets, Counter((a, b) for _, a, b in both), Counter(both)


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(np.random.default_rng(1).permutation(len(table)))


def without(attribute: str) -> Callable[[pa.Table], pa.Table]:
    """Some images without a row of one attribute."""
    return lambda table: table.filter(pc.or_(pc.not_equal(table["attribute"], attribute), pc.less(table["index"], 11)))


def as_it_is(table: pa.Table) -> pa.Table:
    return table


@pytest.mark.parametrize("images", ["numbered", "with gaps"])
@pytest.mark.parametrize(
    ("change", "by_row"),
    [(as_it_is, True), (shuffled, False), (without("race"), False), (without("gender"), False)],
    ids=["in order", "shuffled", "no race of some", "no gender of some"],
)
def test_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str, change: Callable[[pa.Table], pa.Table], by_row: bool
) -> None:
    run = made(tmp_path)
    if images == "with gaps":  # of two prompts, one without its first image
        for path in (run.images_path, run.scores_path):
            table = pq.read_table(path)
            gone = pc.or_(
                pc.and_(pc.equal(table["prompt_id"], "p13"), pc.equal(table["index"], 0)),
                pc.and_(pc.equal(table["prompt_id"], "p17"), pc.is_in(table["index"], pa.array([5, 6]))),
            )
            pq.write_table(table.filter(pc.invert(gone)), path)
    pq.write_table(change(pq.read_table(run.scores_path)), run.scores_path)
    sets, pairs, triples = by_hand(run)
    assert any(unanimous for _, unanimous in sets.values())
    monkeypatch.setattr(RunFolder, "check_tables", lambda self, *paths: None)  # they were changed here
    counted = tally(run, attributes=NAMES, set_size=SIZE)
    assert {prompt.id: prompt.sets for prompt in counted.prompts} == sets
    assert counted.joint["gender", "race"] == pairs
    joint = joint_counts(run, NAMES, set_size=SIZE)
    assert {(prompt, *cell): count for prompt, (_, every) in joint.items() for cell, count in every.items()} == triples
    if by_row:  # nothing is joined where rows stand side by side
        monkeypatch.setattr(tables, "_BY_KEY", "no SQL")
        assert joint_counts(run, NAMES, set_size=SIZE) == joint


def test_with_several_people_in_an_image_rows_are_not_tried_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their labels are of several rows each, which come in no order."""
    run = build(tmp_path, {"p": [("woman/White", "woman/Black"), "man/White", ("man/Black", "woman/Black"), "woman/White"]})  # fmt: skip
    monkeypatch.setattr(tables, "_BY_ROW", "no SQL")
    expected = {("woman", "mixed"): 1, ("man", "White"): 1, ("mixed", "Black"): 1, ("woman", "White"): 1}
    assert tally(run, attributes=NAMES, set_size=SIZE).joint["gender", "race"] == expected
