"""What people's labels change: estimates where a classifier errs, the report, and the page in a browser."""

from __future__ import annotations

import json
import re
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.analyses.review.estimates import Sample, at_least_binomial, by_unit, powered_ratio, powered_share
from allfour.pipeline.analyses.review.labelled import labelled_images
from allfour.pipeline.analyses.review.results import import_answers
from allfour.pipeline.analyses.review.sample import (
    allocate,
    make_units,
    stratify,
)
from allfour.pipeline.commands.report import report_again
from allfour.pipeline.commands.review import forget, import_review
from allfour.pipeline.commands.review_draw import draw
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.statistics import Interval
from tests.browser import NEEDS_CHROMIUM, chromium, find_axe, violations
from tests.pipeline.analyses.review_runs import (
    CALIBRATION,
    HOSTILE,
    call,
    export,
    make_run,
    plan_of,
    simulated,
)
from tests.places import REPOSITORY


def test_metrics_behind_a_link_that_leads_nowhere_are_no_run_without_metrics(run: RunFolder) -> None:
    (run.path / "review.json").unlink(missing_ok=True)
    run.metrics_path.unlink(missing_ok=True)
    run.metrics_path.symlink_to(run.metrics_path.name)
    with pytest.raises((OSError, RunFolderError), match=r"metrics\.json"):
        forget(run, ["somebody"])
    assert not (run.path / "review.json").exists()


# --- a classifier that errs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "set"])
def test_intervals_hold_the_truth_where_the_classifier_does_not(kind: Any) -> None:
    repeats, hits, missed = 40, 0, 0
    for seed in range(repeats):
        population, truth = simulated(seed)
        units = make_units(population, kind, 4)
        strata = stratify(units, population, ("decision", "group") if kind == "image" else ("decision",))
        random = np.random.default_rng(seed + 1000)
        sizes = np.bincount(strata.code)
        take = allocate(sizes.astype(np.int64), 100 if kind == "image" else 25)
        chosen = np.concatenate(
            [random.choice(np.flatnonzero(strata.code == s), n, replace=False) for s, n in enumerate(take)]
        )
        rows = np.flatnonzero(np.isin(units.owner, chosen))
        label, unanimous = by_unit({"Ada": {int(r): int(truth[r]) for r in rows}}, population, units)
        sample = Sample(population, units, strata, label, unanimous, 0.95)
        if kind == "image":
            found, real = powered_ratio(sample, 0), float((truth == 0).sum() / (truth < 2).sum())
        else:
            predicted = (units.predicted[:, :2] == 1).astype(float).sum(axis=1)
            found = powered_share(sample, predicted, unanimous.sum(axis=1))
            sets = truth.reshape(-1, 4)
            real = float(((sets == 0).all(axis=1) | (sets == 1).all(axis=1)).mean())
        interval = found["this_run"]
        hits += interval["low"] <= real <= interval["high"]
        missed += not interval["low"] <= found["classifier"] <= interval["high"]
    assert hits >= 0.9 * repeats
    assert missed > 0.5 * repeats  # what the classifier says alone is mostly outside


def test_agreement_of_few_prompts_is_no_certainty() -> None:
    population, _ = simulated(0, prompts=5)
    units = make_units(population, "set", 4)
    sample = Sample(population, units, stratify(units, population, ()), np.zeros((5, 5)), np.zeros((5, 2)), 0.95)
    found = at_least_binomial(sample, Interval(1.0, 1.0, 1.0, "x"))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.566, abs=0.001)  # Wilson for 5 of 5


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command(run: RunFolder, tmp_path: Path) -> None:
    drawn = json.loads(call("review", run.path, "--sample", 20, "--out", tmp_path / "page.html", "--json").stdout)
    assert Path(drawn["page"]).read_text().startswith("<!doctype html>")
    file = export(run, drawn["id"], tmp_path / "ada.csv", lambda p, i: "woman" if p == "nurse" else "man")
    result = call("review", run.path, "--import", file)
    assert result.exit_code == 0, result.output
    assert "20 of 20 sampled images labelled, by Ada (20)" in result.output
    assert f"report: none yet, as the run has no metrics.json; `allfour report {run.path}` writes both" in result.output
    found = json.loads(call("review", run.path, "--import", file, "--json").stdout)
    assert found["answers"]["Ada"] and found["report"] is None
    assert not run.metrics_path.exists() and not (run.path / "report.html").exists()
    folder = call("review", run.path, "--out", tmp_path)
    assert (folder.exit_code, f"{tmp_path} is a folder. Name a file for the page" in folder.output) == (2, True)
    both = call("review", run.path, "--import", file, "--forget", "Ada")
    assert (both.exit_code, "forget first, then import" in both.output) == (2, True)
    gone = call("review", run.path, "--forget", "Ada")
    assert (gone.exit_code, gone.output.splitlines()[0]) == (0, "forgot Ada: 20 answers")
    again = call("review", run.path, "--forget", "Ada", "--json")
    assert again.exit_code == 2 and "nobody named 'Ada' has labelled. Raters: none" in again.output
    missing = call("review", run.path, "--import", tmp_path / "none.csv")
    assert missing.exit_code == 2
    assert "none.csv: cannot be read" in missing.output


def test_an_import_writes_the_report_again_and_no_other_metric(run: RunFolder, tmp_path: Path) -> None:
    header = run.header().document()
    header["config"]["classifier"] = {"backend": "clip", "model": "ViT-B-16", "pretrained": "openai"}
    header["classifier"] = {"backend": "clip", "encoder": {"architecture": "ViT-B-16", "pretrained": "openai"}}
    header["attributes"]["attributes"]["gender"]["margin"] = 0.0  # the published rates know no abstention
    run.header_path.write_text(json.dumps(sealed(header)))
    calibration = REPOSITORY / "configs" / "calibrations" / "clip-vit-b-16-openai-fairface.json"
    assert call("report", run.path, "--calibration", calibration).exit_code == 3  # one image of the run is missing
    page = run.path / "report.html"
    before = json.loads(run.metrics_path.read_text())
    assert before["calibration"] and "What people said" not in page.read_text()

    drawn = draw(run, sample=20)
    result = call("review", run.path, "--import", export(run, drawn.id, tmp_path / "ada.csv", lambda *_: "man"))
    assert result.exit_code == 0, result.output
    assert f"report: {page}" in result.output
    after = json.loads(run.metrics_path.read_text())
    review = after.pop("review")
    assert before.pop("review") is None
    lead = after["summary"].pop("headline")  # why no better evidence leads is told anew
    before["summary"].pop("headline")
    assert lead["evidence"] == "measured" and "review_of_images" in lead["because"]
    assert after == before
    assert review["samples"][0]["labelled"] == 20 and "answers" not in review["samples"][0]
    assert re.search(r"What people said(?s:.*)1\s+person labelled", page.read_text())

    bo = export(run, drawn.id, tmp_path / "bo.csv", lambda *_: "woman", "Bo")
    assert json.loads(call("review", run.path, "--import", bo, "--json").stdout)["report"] == str(page)
    assert re.search(r"2\s+people labelled", page.read_text())


def test_labels_tell_how_much_a_calibration_s_errors_differ_by_prompt(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    women = np.arange(20)[:, None] % 2 == np.zeros((1, 8), dtype=int)
    wrong = random.random(women.shape) < 0.1
    reads = {f"p{n}": ["woman" if w else "man" for w in row] for n, row in enumerate(women ^ wrong)}
    run = make_run(tmp_path / "run", reads)
    (tmp_path / "run" / "calibration.json").write_text(json.dumps(sealed(CALIBRATION)))
    report_again(run)
    before = json.loads(run.metrics_path.read_text())
    assert before["summary"]["headline"]["because"] == ["error_may_differ_by_prompt"]
    drawn = draw(run, sample=60)
    said = export(
        run, drawn.id, tmp_path / "ada.csv", lambda prompt, index: "woman" if women[int(prompt[1:]), index] else "man"
    )
    import_review(run, [said])
    top = json.loads(run.metrics_path.read_text())["summary"]
    spread = top["unanimity_corrected"]["error_spread"]
    assert (spread["source"], spread["images"], spread["prompts"]) == (
        "labelled images",
        60,
        len({e["prompt_id"] for e in plan_of(run, drawn.id)["images"]}),
    )
    lead, plain = top["headline"], top["unanimity_corrected"]
    assert lead["because"] == ["review_of_images", "error_spread_open"] and spread["alike"] > 0.05
    assert spread["low"] < lead["low"] < lead["value"] == spread["value"] <= lead["high"]
    assert lead["high"] - lead["low"] <= plain["high"] - plain["low"] + 1e-9  # labels that show no spread widen nothing
    assert labelled_images(run)["p0"][("man" if not women[0, 0] else "woman", "woman")] >= 1
    forget(run, ["Ada"])  # and it is as it was
    assert json.loads(run.metrics_path.read_text())["summary"] == before["summary"]


def test_an_import_that_could_not_be_reported_writes_nothing(run: RunFolder, tmp_path: Path) -> None:
    drawn = draw(run, sample=20)
    file = export(run, drawn.id, tmp_path / "ada.csv", lambda *_: "man")
    run.metrics_path.write_text("{")
    result = call("review", run.path, "--import", file)
    assert result.exit_code == 2
    assert "metrics.json is not valid JSON" in result.output
    assert not (run.path / "review.json").exists()
    nowhere = call("review", tmp_path / "nowhere", "--import", file)
    assert nowhere.exit_code == 2 and "no scored run" in nowhere.output
    assert not (tmp_path / "nowhere").exists()


def test_metrics_made_again_keep_the_review(run: RunFolder, tmp_path: Path) -> None:
    drawn = draw(run, sample=20)
    import_answers(run, [export(run, drawn.id, tmp_path / "ada.csv", lambda *_: "man")])
    result = call("report", run.path, "--json")
    assert result.exit_code in (0, 3), result.output
    review = json.loads(run.metrics_path.read_text())["review"]
    assert review["samples"][0]["id"] == drawn.id and review["outdated"] == 0


# --- the page in a browser -------------------------------------------------------------------------------------------


@pytest.mark.browser
@NEEDS_CHROMIUM
def test_labelling_by_keyboard(tmp_path: Path) -> None:
    reads = {HOSTILE: ["woman"] * 3, "b": ["man"] * 3}
    run = make_run(tmp_path / "run", reads, groups={HOSTILE: HOSTILE}, name=HOSTILE)
    drawn = draw(run, sample=6)
    requests: list[str] = []
    complaints: list[str] = []
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(drawn.page.as_uri())
        page.fill("#rater", "=HYPERLINK(1)")
        page.keyboard.press("Enter")
        assert page.get_attribute("#rater", "aria-invalid") == "true"
        page.fill("#rater", "Ada O'Hara 2")
        page.keyboard.press("Enter")
        assert page.inner_text("#place") == "Image 1 of 6"
        assert page.evaluate("document.getElementById('image').naturalWidth") > 0
        for key in ("1", "2", "Backspace", "0", "n"):
            page.keyboard.press(key)
        assert "labelled" in page.inner_text("#done-count") and page.inner_text("#place") == "Image 4 of 6"
        page.keyboard.press("ArrowLeft")
        pressed = page.locator(".answer[aria-pressed=true]")
        assert pressed.count() == 1 and pressed.get_attribute("data-value") == NO_PERSON
        page.keyboard.press("7")  # no such answer
        page.keyboard.press("Control+1")  # the browser's, not ours
        assert page.inner_text("#place") == "Image 3 of 6"
        page.reload()
        assert page.inner_text("#place") == "Image 4 of 6"  # goes on where it was left
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#place") == "Image 4 of 6"  # no skipping of what is not labelled
        page.uncheck("#keys")
        page.keyboard.press("1")
        assert page.inner_text("#place") == "Image 4 of 6"
        page.check("#keys")
        if (axe := find_axe()) is not None:
            page.evaluate(axe.read_text())  # as a debugger's expression: the page's policy lets no script in
            assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.keyboard.press("m")
        page.get_by_role("button", name="Woman").click()
        page.keyboard.press("2")
        assert page.inner_text("#finish-title") == "You have labelled all 6 images."
        with page.expect_download() as download:
            page.click("#export-end")
        download.value.save_as(tmp_path / "ada.csv")
        assert page.evaluate("window.pwned") is None
    assert complaints == []
    assert {urllib.parse.urlsplit(url).scheme for url in requests} <= {"file", "data", "blob"}
    result = import_answers(run, [tmp_path / "ada.csv"])
    order = [entry["image"] for entry in plan_of(run, drawn.id)["images"]]
    assert [result["answers"]["Ada O'Hara 2"][image] for image in order] == [
        "woman", AMBIGUOUS, NO_PERSON, MIXED, "woman", "man"
    ]  # fmt: skip
