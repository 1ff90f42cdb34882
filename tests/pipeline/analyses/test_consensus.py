"""Several readers of one run: counted by hand, told in the report, and kept apart where they share weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from allfour.errors import AllfourError
from allfour.pipeline.analyses.consensus import (
    FEW_PROMPTS,
    SAME_SOURCE,
    TWO_READERS,
    disputed_images,
    source_of,
)
from allfour.pipeline.analyses.review.sample import Population, choose_scheme, draw_units, make_units, read_plan
from allfour.pipeline.commands import rescore as rescoring
from allfour.pipeline.commands import summary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.report import report_again
from allfour.pipeline.commands.review import import_review
from allfour.pipeline.commands.review_draw import draw
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.folder import RunFolder
from tests.loopback_chat_server import GREY, solid

QUIET = Reporter(quiet=True)
PROMPTS, IMAGES = 8, 4
ASKED = {
    "attributes": {
        "gender": {"labels": {"woman": ["w"], "man": ["m"]}},
        "age": {"labels": {"young": ["y"], "old": ["o"]}},
    }
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Three readers of 32 pictures, of which the second and the third err on one prompt each, and the third says nothing of age."""
    folder = tmp_path_factory.mktemp("readers")
    archive = folder / "archive"
    for prompt in range(PROMPTS):
        (archive / f"p{prompt}").mkdir(parents=True)
        for index in range(IMAGES):
            (archive / f"p{prompt}" / f"{index}.png").write_bytes(solid(GREY, IMAGES * prompt + index))
    prompts = [{"id": f"p{n}", "text": f"prompt {n}", "group": "first" if n < 4 else "second"} for n in range(PROMPTS)]
    (folder / "prompts.yaml").write_text(json.dumps({"name": "p", "prompts": prompts}))
    made = {}
    for name, wrong, ages in (("one", (), True), ("two", ("p1",), True), ("three", ("p5",), False)):
        lines = ["path,gender" + (",age" if ages else "")]
        for prompt in range(PROMPTS):
            for index in range(IMAGES):
                label = ("woman", "man")[(prompt + (f"p{prompt}" in wrong)) % 2]
                answer = "" if (name, prompt, index) == ("two", 7, 0) else label
                lines.append(f"p{prompt}/{index}.png,{answer}" + (",young" if ages else ""))
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        asked = ASKED if ages else {"attributes": {"gender": ASKED["attributes"]["gender"]}}
        (folder / f"{name}.yaml").write_text(json.dumps(asked))
        config = RunConfig.model_validate(
            {
                "classifier": {"backend": "recorded", "file": str(folder / f"{name}.csv")},
                "attributes": {"file": str(folder / f"{name}.yaml")},
                "prompts": {"file": str(folder / "prompts.yaml")},
            }
        )
        made[name] = RunFolder(folder / name)
        rescoring.rescore(config, str(archive), made[name], QUIET)
    return made


def test_agreement_by_pair_list_and_attribute_and_errors_of_three(runs: dict[str, RunFolder]) -> None:
    metrics = report_again(runs["one"], second_opinions=[runs["two"], runs["three"]]).metrics
    assert metrics.second_opinion is not None
    assert metrics.second_opinion.name == "two"
    found = metrics.consensus
    assert found is not None
    assert [reader.name for reader in found.readers] == ["", "two", "three"]
    gender, age = found.attributes
    assert (gender.attribute, gender.readers, gender.images, gender.prompts, gender.disputed) == (
        "gender",
        [0, 1, 2],
        32,
        8,
        8,
    )
    pairs = {(pair.first, pair.second): pair for pair in gender.pairs}
    assert (pairs[0, 1].images, pairs[0, 1].agreement.value) == (31, 27 / 31)
    assert (pairs[1, 2].images, pairs[1, 2].agreement.value) == (31, 23 / 31)
    lists = {group.name: (group.images, group.agreement.value) for group in pairs[0, 1].groups}
    assert lists == {"first": (16, 0.75), "second": (15, 1.0)}
    assert (age.readers, age.images, age.disputed, age.latent_missing) == ([0, 1], 32, 0, TWO_READERS)
    latent = gender.latent
    assert latent is not None
    errors = {reader.reader: reader.error for reader in latent.readers}
    assert errors[0].value == pytest.approx(0, abs=0.01)
    assert errors[1].value == pytest.approx(4 / 31, abs=0.01)
    assert errors[2].value == pytest.approx(4 / 32, abs=0.01)
    assert all(error.low is not None and error.low <= error.value <= error.high for error in errors.values())
    assert latent.shares["woman"].value == pytest.approx(0.5, abs=0.02)
    assert latent.readers[1].rates["man"]["woman"].value == pytest.approx(4 / 16, abs=0.02)
    # they never err on the same image, and by chance they would: 1 on women, 0.75 x 0.75 + 0.25 x 0.25 on men
    assert pairs[1, 2].expected == pytest.approx((1 + 0.625) / 2, abs=0.01)
    assert disputed_images(runs["one"]) == {(prompt, index) for prompt in ("p1", "p5") for index in range(IMAGES)}
    line = summary.describe_consensus(found)
    assert line.startswith(
        "3 readers give different labels to 8 of 32 images; estimated share of wrong labels, if the readers err independently: "
    )
    document = json.loads((runs["one"].path / "metrics.json").read_text())["consensus"]
    assert "disputed_images" not in document
    page = (runs["one"].path / "report.html").read_text()
    for answer in (
        "Several readers",
        "Wrong labels: three (recorded)",
        "Dawid and Skene",
        "different labels to 8 of these images",
    ):
        assert answer in page


def test_two_readers_and_shared_weights_give_no_errors(
    runs: dict[str, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = report_again(runs["one"], second_opinions=[runs["two"]]).metrics.consensus
    assert found is not None
    assert (found.attributes[0].latent, found.attributes[0].latent_missing) == (None, TWO_READERS)
    assert "Two readers are not enough to tell how often each errs" in (runs["one"].path / "report.html").read_text()
    monkeypatch.setattr("allfour.pipeline.analyses.consensus.source_of", lambda classifier: "one encoder")
    found = report_again(runs["one"], second_opinions=[runs["two"], runs["three"]]).metrics.consensus
    assert found is not None
    assert found.attributes[0].latent_missing == SAME_SOURCE
    monkeypatch.undo()
    monkeypatch.setattr("allfour.pipeline.analyses.consensus.FEWEST_PROMPTS", PROMPTS + 1)
    found = report_again(runs["one"], second_opinions=[runs["two"], runs["three"]]).metrics.consensus
    assert found is not None
    assert found.attributes[0].latent_missing == FEW_PROMPTS


def test_a_run_that_is_no_opinion_stops_all_of_it(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    before = (runs["one"].path / "consensus.json").read_bytes()
    with pytest.raises(AllfourError, match="read by the same classifier"):
        report_again(runs["one"], second_opinions=[runs["two"], runs["one"]])
    assert (runs["one"].path / "consensus.json").read_bytes() == before
    assert pq.read_table(runs["one"].scores_path).num_rows == 64


def test_the_same_weights_are_one_source_whatever_they_are_asked() -> None:
    def clip(wording: str) -> dict[str, Any]:
        return {"backend": "clip", "encoder": {"weights_sha256": "ab"}, "wording_sha256": wording}

    assert source_of(clip("x")) == source_of(clip("y")) != source_of({"backend": "face", "reader": {"a": 1}})
    assert source_of({"backend": "judge", "model": "m", "question": "x"}) == source_of(
        {"backend": "judge", "model": "m"}
    )
    assert source_of({"backend": "recorded", "records_sha256": "1"}) != source_of(
        {"backend": "recorded", "records_sha256": "2"}
    )
    assert source_of(None) == source_of(None)


def test_images_on_which_readers_differ_come_first_in_review(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    run = runs["one"]
    plain = draw(run, sample=12, out=tmp_path / "plain.html") if not disputed_images(run) else None
    report_again(run, second_opinions=[runs["two"], runs["three"]])
    drawn = draw(run, sample=12, out=tmp_path / "page.html")
    assert plain is None or plain.id != drawn.id
    plan = read_plan(run, drawn.id)
    assert plan is not None
    assert plan["scheme"][0] == "dispute"
    differ = disputed_images(run)
    first = [(entry["prompt_id"], entry["index"]) in differ for entry in plan["images"]]
    assert first == sorted(first, reverse=True)
    assert sum(first) == 6  # 8 of 32, drawn three times as often as the others
    lines = ["review,rater,image,label"]
    for entry in plan["images"]:
        lines.append(f"{drawn.id},Ada,{entry['image']},{('woman', 'man')[int(entry['prompt_id'][1:]) % 2]}")
    (tmp_path / "ada.csv").write_text("\n".join(lines) + "\n")
    report_again(run, second_opinions=[runs["two"]])  # another consensus since: the sample stays what it was
    share = import_review(run, [tmp_path / "ada.csv"]).result["shares"]["woman"]["this_run"]
    assert share["value"] == pytest.approx(0.5)
    assert share["low"] <= 0.5 <= share["high"]


def test_units_on_which_readers_differ_are_drawn_more_often_and_weigh_less() -> None:
    """The mean of draws weighed by their probability is that of all units."""
    random = np.random.default_rng(0)
    rows = 200
    truth, differ = random.random(rows) < 0.4, random.random(rows) < 0.2
    wrong = random.random(rows) < np.where(differ, 0.5, 0.1)
    population = Population(
        prompt_ids=[str(n) for n in range(50)], groups=["no group"] * 50, prompt=np.repeat(np.arange(50), 4),
        index=np.tile(np.arange(4), 50), rank=np.tile(np.arange(1, 5), 50), category=(~(truth ^ wrong)).astype(np.int64),
        categories=("woman", "man", "ambiguous", "no_person", "mixed"), labels=2, disputed=differ,
    )  # fmt: skip
    units = make_units(population, "image", 4)
    strata = choose_scheme(units, population, 60)
    assert strata.scheme[0] == "dispute"
    means = []
    for seed in range(300):
        chosen, probability = draw_units(units, strata, 60, seed)
        means.append(float((truth[chosen] / probability[chosen]).sum() / rows))
        assert differ[chosen].mean() > 1.5 * differ.mean()
    assert np.mean(means) == pytest.approx(truth.mean(), abs=3 * np.std(means) / len(means) ** 0.5)
