"""Gates, exports, page, terminal, index and comparison say one first line, also of a run that was measured before there was one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from allfour.pipeline.analyses.comparison.compare import compare_paths
from allfour.pipeline.commands.export import evaluate_gates, text_export
from allfour.pipeline.commands.summary import print_headline
from allfour.pipeline.metrics.gate import metrics_gates
from allfour.pipeline.metrics.headline import EVIDENCE, headline_of
from allfour.pipeline.report import write_report
from allfour.pipeline.report.index_page import read_line
from allfour.pipeline.run.documents import read_metrics
from allfour.pipeline.words import interval_text, percent
from tests.pipeline.report.fixture_run import Options, build_run

Document = dict[str, Any]
CORRECTED = {"value": 0.63, "low": 0.52, "high": 0.71, "prompts": 18, "prompts_of": 20, "sets_read": 0.9, "images": 72}


def as_measured(found: Document) -> None:
    found["calibration"] = None


def as_corrected(found: Document) -> None:
    found["calibration"] = {"binding": "exact"}
    found["summary"] |= {"unanimity_corrected": CORRECTED, "calibration_fit": {"fits": True, "p_value": 0.4}}


def as_not_fitting(found: Document) -> None:
    as_corrected(found)
    found["summary"]["calibration_fit"] = {"fits": False, "p_value": 1e-9, "prompts": 20, "images": 80}


def as_reviewed(found: Document) -> None:
    as_corrected(found)
    ends = {"this_run": {"value": 0.42, "low": 0.35, "high": 0.5}, "prompts_like_these": {"value": 0.42, "low": 0.21, "high": 0.64}}  # fmt: skip
    sample = {"id": "s", "unit": "set", "attribute": "gender", "units_labelled": 20, "labelled": 80, "unanimity": ends}
    found["review"] = {"samples": [sample]}


def as_untold(found: Document) -> None:
    summary = found["summary"]
    summary |= {"unanimous": 1, "unanimity": {"value": 0.05, "low": 0.009, "high": 0.236}}
    summary["unanimity_identified"] = {"least": 0.05, "most": 0.8, "low": 0.013, "high": 0.91, "prompts": 20}


KINDS: dict[str, tuple[Callable[[Document], None], str, str]] = {
    "measured": (as_measured, "measured", ""),
    "corrected": (as_corrected, "corrected", ""),
    "reviewed": (as_reviewed, "reviewed", ""),
    "does not fit": (as_not_fitting, "measured", "errors_unknown"),
    "cannot be told": (as_untold, "measured", "cannot_be_told"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("headline") / "r", Options(pictures=False))


@pytest.fixture(scope="module")
def plain(run: Path) -> Document:
    found: Document = json.loads((run / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("before", [False, True], ids=["as written now", "of before"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_place_says_the_same_first_line(
    kind: str, before: bool, run: Path, plain: Document, capsys: pytest.CaptureFixture[str]
) -> None:
    change, evidence, verdict = KINDS[kind]
    document = json.loads(json.dumps(plain))
    document["summary"].pop("headline", None)
    change(document)
    (run / "metrics.json").write_text(json.dumps(document))
    at = headline_of(read_metrics(run))
    if not before:
        document["summary"]["headline"] = at.document()
        (run / "metrics.json").write_text(json.dumps(document))
    assert at.evidence == evidence and (not verdict or at.verdict == verdict)
    metrics = read_metrics(run)
    assert headline_of(metrics) == at
    low, high, value = at.low or 0.0, at.high or 0.0, at.value or 0.0

    paths = ("headline.value", "headline.low", "summary.headline.high", "headline", "headline.prompts")
    gates = evaluate_gates(run, metrics_gates([f"{path} >= 0" for path in paths]))
    assert [gate.value for gate in gates] == [at.value, at.low, at.high, at.value, at.prompts]

    text = {kind: text_export(run, kind).decode() for kind in ("markdown", "latex", "junit", "model-card")}  # type: ignore[arg-type]
    figures = yaml.safe_load(text["model-card"])["model-index"][0]["results"][0]["metrics"]
    leading = {figure["type"]: figure for figure in figures}["unanimity-headline"]
    assert (
        leading["value"] == round(value, 4)
        and f"{low:.4f} to {high:.4f}, {at.prompts} prompts" in leading["args"]["interval"]
    )
    assert f'name="headline.value" value="{at.value}"' in text["junit"] and f'value="{at.verdict}"' in text["junit"]
    assert text["latex"].startswith(f"% {percent(value)} ({interval_text(low, high)}), {EVIDENCE[evidence]}")
    shown = (percent(value), *(percent(end) for end in (low, high)))
    assert all(part in "\n".join(text["markdown"].split("\n")[:4]) for part in shown)

    page = write_report(run).read_text(encoding="utf-8")
    first_screen = page[page.index("<main") : page.index('class="perceived"')]
    assert all(part in first_screen for part in shown)
    assert EVIDENCE[evidence][1:].replace("'", "&#39;") in first_screen

    print_headline(metrics)
    shown = capsys.readouterr().out.splitlines()[0]
    assert f"{value:.1%}" in shown and f"{low:.1%} to {high:.1%}" in shown

    line = read_line(run, "")
    assert line.value == at.value and f"{percent(value)} ({interval_text(low, high)}), {EVIDENCE[evidence]}" in str(
        line
    )


def test_a_run_of_before_there_were_headlines_is_compared(run: Path, plain: Document, tmp_path: Path) -> None:
    old = json.loads(json.dumps(plain))
    for key in ("headline", "nulls", "unanimity_identified", "near_copies", "sets_with_copies"):
        old["summary"].pop(key, None)
    old.pop("notes", None)
    (run / "metrics.json").write_text(json.dumps(old))
    other = build_run(tmp_path / "other", Options(pictures=False, seed=2))
    pair = compare_paths([run, other]).comparisons[0]
    assert pair.summary.headline is not None and pair.summary.headline.value is not None
    assert evaluate_gates(run, metrics_gates(["headline.low > 99.9%"]))[0].hit is False
    write_report(run)
    assert read_line(run, "").value == old["summary"]["unanimity"]["value"]


@pytest.mark.parametrize("fits", [True, False])
def test_shares_corrected_by_a_calibration_that_does_not_fit_are_on_no_page(
    fits: bool, run: Path, plain: Document
) -> None:
    document = json.loads(json.dumps(plain))
    as_corrected(document)
    fit = {"fits": fits, "p_value": 0.4 if fits else 1e-9}
    document["summary"] |= {"headline": None, "calibration_fit": fit}
    odd = {"woman": {"value": 0.7213, "low": 0.61, "high": 0.81}}
    document["prompts"][0]["share_corrected"] = odd
    document["attributes"]["gender"] |= {"share_corrected": odd, "calibration_fit": fit}
    (run / "metrics.json").write_text(json.dumps(document))
    page = write_report(run).read_text(encoding="utf-8")
    assert ("corrected 72%" in page) is fits
    assert ("the hollow dot the share with the classifier" in page) is fits
