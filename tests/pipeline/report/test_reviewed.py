"""The report's section on what people said of a sample: a real sample, labelled by rule, imported, and put on the page."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from allfour.pipeline.analyses.listing import with_analyses
from allfour.pipeline.analyses.review.results import REVIEW, import_answers
from allfour.pipeline.commands.review_draw import draw
from allfour.pipeline.report import exports, write_report
from allfour.pipeline.report.reviewed import reviewed_view
from allfour.pipeline.run.columns import AMBIGUOUS
from allfour.pipeline.run.documents import read_metrics
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.words import interval_text, percent
from tests.pipeline.analyses.review_runs import ATTRIBUTES, export
from tests.pipeline.report.fixture_run import Options, build_run
from tests.pipeline.report.test_report import Page

HOSTILE_RATER = "<script>window.pwned=1</script>"


def reviewed_run(
    folder: Path, *, hostile: bool = False, raters: tuple[str, ...] = ("Ada",), options: Options | None = None
) -> RunFolder:
    """A fixture run of which a sample of images and one of whole sets were labelled, and imported."""
    run = RunFolder(build_run(folder / "run", options or Options(prompts=20, hostile=hostile)))
    header = run.header().document()
    header["config"] = {
        "prompts": {"images_per_prompt": 4, "set_size": 4},
        "classifier": {"backend": "face"},
        "attributes": {"file": "configs/attributes/face.yaml"},
    }
    header["attributes"] = ATTRIBUTES
    header["stages"]["scores"] = {"fingerprint": "f" * 64}
    run.header_path.write_text(json.dumps(sealed(header)))
    for whole_sets in (False, True):
        identity = draw(run, sample=48, whole_sets=whole_sets, seed=2).id
        for shift, rater in enumerate(raters):

            def label(prompt: str, index: int, shift: int = shift) -> str:
                number = int(prompt[:5])
                if (number + index + shift) % 11 == 0:
                    return AMBIGUOUS
                return "woman" if number % 2 else "man"

            import_answers(run, [export(run, identity, folder / f"{whole_sets}{shift}.csv", label, rater)])
    metrics = with_analyses(read_metrics(run.path), run)
    run.metrics_path.write_text(json.dumps(metrics.document()))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return reviewed_run(tmp_path_factory.mktemp("reviewed"), raters=("Ada Lovelace", "Bo"))


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Page:
    return Page(write_report(run.path).read_text(encoding="utf-8"))


def samples(run: RunFolder) -> list[dict[str, Any]]:
    summary, _ = REVIEW.summary(run)
    assert summary is not None
    return list(summary.document()["samples"])


def test_who_labelled_and_how_far_they_agree(run: RunFolder, page: Page) -> None:
    assert "What people said" in page.text
    assert "perceived presentation, never identity" in page.text
    for sample in samples(run):
        at, kappa = sample["agreement"]["agreement"], sample["agreement"]["kappa"]
        assert f"2 people labelled {sample['labelled']} of {sample['sampled']} sampled images by perceived gender" in page.text  # fmt: skip
        assert f"agree on {percent(at['value'])} ({interval_text(at['low'], at['high'])}) of the run's images" in page.text  # fmt: skip
        assert f"Cohen's kappa {kappa['value']:.2f} ({kappa['low']:.2f} to {kappa['high']:.2f})" in page.text
        between = sample["between_raters"][0]["agreement"]["value"]
        assert f"The two of them agree with each other on {percent(between)}" in page.text


def test_people_who_labelled_are_not_named(page: Page) -> None:
    assert "Lovelace" not in page.text


def test_shares_and_unanimity_by_the_classifier_and_corrected(run: RunFolder, page: Page) -> None:
    images, sets = samples(run)
    for found in (images["shares"]["woman"], sets["shares"]["woman"], sets["unanimity"], *sets["unanimity"]["by_label"].values()):  # fmt: skip
        here, like = found["this_run"], found["prompts_like_these"]
        cells = [percent(found["classifier"], 1), percent(here["value"], 1)]
        cells += [interval_text(at["low"], at["high"]) for at in (here, like)]
        assert " ".join(cells) in page.text
    assert "One label in the whole set" in page.text
    assert "For unanimity, label whole sets: allfour review RUN --whole-sets." in page.text


def test_agreement_by_list(run: RunFolder, page: Page) -> None:
    images, _ = samples(run)
    assert set(images["by_group"]) == {"extreme-she", "extreme-he"}
    for name, found in images["by_group"].items():
        at = found["agreement"]
        label = f"{name.replace('-', ' ')} {found['images']} {percent(at['value'])} ({interval_text(at['low'], at['high'])})"  # fmt: skip
        assert label in page.text


def test_a_stratum_without_a_label_leaves_agreement_and_says_why(run: RunFolder, tmp_path: Path) -> None:
    metrics = read_metrics(run.path)
    assert metrics.review is not None
    first = metrics.review.samples[0].model_copy(
        update={"shares": None, "unanimity": None, "note": "no estimate yet: nothing of 'a'. Label on"}
    )
    found = reviewed_view(metrics.model_copy(update={"review": metrics.review.model_copy(update={"samples": [first]})}))
    assert found is not None
    assert not found.samples[0].lines
    assert found.samples[0].note == "No estimate yet: nothing of 'a'. Label on."
    assert "agree on" in found.samples[0].sentence


def test_samples_of_scores_made_again_are_counted_only(run: RunFolder) -> None:
    metrics = read_metrics(run.path)
    assert metrics.review is not None
    gone = metrics.review.model_copy(update={"samples": [], "outdated": 2})
    found = reviewed_view(metrics.model_copy(update={"review": gone}))
    assert found is not None
    assert found.outdated.startswith("2 samples of earlier scores are left out")


def test_no_section_without_a_review(tmp_path: Path) -> None:
    words = Page(write_report(build_run(tmp_path)).read_text(encoding="utf-8"))
    assert "What people said" not in words.text
    assert "#reviewed" not in {attributes.get("href") for _, attributes in words.tags}


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = reviewed_run(tmp_path, hostile=True)
    for path in (
        run.metrics_path,
        run.path / "review.json",
    ):  # as another program may leave it: no import takes such a name
        path.write_text(path.read_text().replace('"Ada"', json.dumps(HOSTILE_RATER)))
    html = write_report(run.path).read_text(encoding="utf-8")
    found = Page(html)
    assert len(found.scripts) == 2
    assert HOSTILE_RATER not in html
    section = html[html.index('id="reviewed"') :]
    assert "&lt;script&gt;" in section[: section.index("</section>")]
    assert not {tag for tag, _ in found.tags} & {"iframe", "object", "embed", "base"}
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
    schema().validate(json.loads(run.metrics_path.read_text()))


@functools.cache
def schema() -> jsonschema.Draft202012Validator:
    content = json.loads((Path(exports.__file__).parents[1] / "run" / "metrics.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def test_the_schema_knows_a_review(run: RunFolder) -> None:
    metrics = json.loads(run.metrics_path.read_text())
    schema().validate(metrics)
    known = set(schema().schema["$defs"]["ReviewSample"]["properties"])
    assert set(metrics["review"]["samples"][0]) == known


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("agreement", "kappa", "low"), -1.5),
        (("agreement", "agreement"), 0.9),
        (("unit",), "prompt"),
        (("raters", "Bo"), -1),
        (("shares", "woman", "this_run", "high"), 1.2),
        (("shares",), []),
        (("between_raters", 0, "raters"), ["Bo"]),
    ],
)
def test_the_schema_refuses_a_wrong_review(run: RunFolder, path: tuple[Any, ...], value: object) -> None:
    broken = json.loads(run.metrics_path.read_text())
    node = broken["review"]["samples"][0]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert not schema().is_valid(broken)
