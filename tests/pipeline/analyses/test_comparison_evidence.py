"""Which difference leads: calibrations on both sides, sets of other sizes, near-copies, several runs, equivalence, refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.errors import AllfourError, RunFolderError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import TWICE
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import ComparisonError
from allfour.pipeline.analyses.comparison.verdict import BECAUSE, VERDICTS
from allfour.pipeline.analyses.second_opinion import _check
from allfour.pipeline.commands.compare import calibrations_of, run_comparison, summary_lines
from allfour.pipeline.run.comparison import Comparison
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.schema import comparison_schema, comparison_schema_text
from allfour.pipeline.words import percent, points
from scripts.validation.evidence import GROWN, YOUNG, calibration_of, drawn_cells, read_of
from tests.pipeline.analyses.comparison_runs import ATTRIBUTES, CLASSIFIER, SIX, command, compared, make_run
from tests.places import REPOSITORY

OTHER = {"backend": "clip", "encoder": {"weights_sha256": "cd" * 32, "dtype": "float32"}}
MOSTLY_YOUNG = 0.2 * GROWN + 0.8 * YOUNG
GOOD, WORSE = (0.96, 0.02), (0.87, 0.02)
"""Share right of what is decided, and share unclear."""


def letters(
    rates: tuple[float, float], random: np.random.Generator, *, prompts: int = 50, images: int = 8
) -> dict[str, str]:
    """Images of a generator whose prompts lean, read with these errors; shares are the same at every call."""
    right, unclear = rates
    shares = np.random.default_rng(7).beta(0.3, 0.3, size=prompts)
    found = {}
    for number, share in enumerate(shares):
        women = random.random(images) < share
        read = np.where(random.random(images) < right, women, ~women)
        row = np.where(random.random(images) < unclear, "A", np.where(read, "W", "M"))
        found[f"p{number}"] = "".join(row)
    return found


def calibration(
    path: Path, rates: tuple[float, float], *, images: int = 1000, classifier: Mapping[str, Any] = CLASSIFIER
) -> Path:
    """A calibration file of images that were read with just these errors."""
    right, unclear = rates
    asked = AttributeSet.model_validate(ATTRIBUTES)
    unclear_images = round(images * unclear)
    good = round((images - unclear_images) * right)
    row = {"ambiguous": unclear_images}
    counts = {
        "woman": {**row, "woman": good, "man": images - unclear_images - good},
        "man": {**row, "man": good, "woman": images - unclear_images - good},
    }
    bound = {
        "kind": "exact",
        "classifier": {**classifier, "wording_sha256": asked.wording_sha256()},
        "margins": {"gender": 0.1},
        "presence_threshold": 0.5,
    }
    entry = {"labels": ["woman", "man"], "confusion": counts}
    document = {"format": 1, "created": "", "confidence": 0.95, "dataset": {"name": "faces"}, "binding": bound}
    path.write_text(json.dumps({**document, "attributes": {"gender": entry}}))
    return path


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of one generator, of which the second was read with 9% more error."""
    folder = tmp_path_factory.mktemp("unequal")
    random = np.random.default_rng(3)
    return (
        make_run(folder / "a", letters(GOOD, random)),
        make_run(folder / "b", letters(WORSE, random), classifier=OTHER),
    )


@pytest.fixture(scope="module")
def files(unequal: tuple[Path, Path]) -> list[Path]:
    folder = unequal[0].parent
    return [calibration(folder / "a.json", GOOD), calibration(folder / "b.json", WORSE, classifier=OTHER)]


def test_calibrations_on_both_sides_take_unequal_errors_out(unequal: tuple[Path, Path], files: list[Path]) -> None:
    document = compared(unequal, calibrations=files)
    summary = document["summary"]
    lead, found = summary["headline"], summary["unanimity_corrected_difference"]
    assert (lead["evidence"], lead["figure"]) == ("corrected", "unanimity_corrected_difference")
    assert (lead["verdict"], lead["because"]) == ("no_difference_shown", [])
    # as read the second run seems less unanimous beyond doubt
    assert summary["unanimity_all_images_difference"]["high"] < 0
    assert found["low"] < 0 < found["high"]
    sides = []
    for run, rates in zip(unequal, (GOOD, WORSE), strict=True):
        counts = [p["counts"] for p in json.loads((run / "metrics.json").read_text())["prompts"]]
        table = [[c["woman"], c["man"], c["ambiguous"]] for c in counts]
        row = [round(980 * rates[0]), 980 - round(980 * rates[0]), 20]
        sides.append(st.ReadImages(table, 2, 0, st.Confusion(np.array([row, [row[1], row[0], 20]]))))
    by_hand = st.corrected_difference(*sides)
    assert by_hand is not None and by_hand.interval.value is not None
    assert found["value"] == pytest.approx(by_hand.interval.value)
    assert (found["low"], found["high"]) == pytest.approx((by_hand.interval.low, by_hand.interval.high))
    assert set(summary["share_corrected_difference"]) == {"woman", "man"}
    assert [run["calibration"] for run in document["runs"]] == ["faces", "faces"]


def test_the_page_and_the_terminal_lead_with_the_corrected_difference(
    unequal: tuple[Path, Path], files: list[Path], tmp_path: Path
) -> None:
    done = run_comparison(unequal, out=tmp_path / "out", calibrations=files)
    page = done.page_path.read_text()
    assert "measured errors taken out" in page[: page.index("Prompt by prompt")]
    assert "Not corrected" not in page
    assert "classifier encoder.weights_sha256" not in page[page.index("The same in all") :].split("<h3>")[0]
    assert "errors taken out" in "\n".join(summary_lines(done.comparison))
    jsonschema.Draft202012Validator(comparison_schema()).validate(json.loads(done.json_path.read_text()))
    again = Comparison.model_validate_json(done.json_path.read_text())
    assert again.document() == done.comparison


def test_kept_calibrations_need_no_option(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    runs = [make_run(tmp_path / name, letters(GOOD, random, prompts=12)) for name in ("a", "b")]
    for run in runs:
        calibration(run / "calibration.json", GOOD)
    found = compared(runs)["summary"]["headline"]
    assert (found["evidence"], found["because"]) == ("corrected", [])
    (runs[1] / "calibration.json").unlink()
    assert compared(runs)["summary"]["headline"]["because"] == ["one_calibration"]
    calibration(runs[1] / "calibration.json", GOOD, classifier=OTHER)
    assert "calibration_does_not_fit" in compared(runs)["summary"]["headline"]["because"]


def test_a_difference_that_images_without_a_label_alone_make_is_said_to_be_none_perhaps(tmp_path: Path) -> None:
    """Ten sets of one label against ten in which nobody was found: nothing is known of the second run."""
    prompts = [f"p{k}" for k in range(10)]
    runs = [
        make_run(tmp_path / "a", dict.fromkeys(prompts, "WWWW")),
        make_run(tmp_path / "b", dict.fromkeys(prompts, "NNNN")),
    ]
    found = compared(runs)
    head, (pair,) = found["summary"]["headline"], found["comparisons"]
    assert head["verdict"] == "fewer" and "unlabelled_decide" in head["because"]
    assert any("so it may be none." in warning for warning in pair["warnings"])
    read = make_run(tmp_path / "c", dict.fromkeys(prompts, "WWMM"))
    assert "unlabelled_decide" not in compared([runs[0], read])["summary"]["headline"]["because"]


def test_without_calibrations_the_first_lines_name_the_cause(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    runs = [make_run(tmp_path / "a", letters(GOOD, random)), make_run(tmp_path / "b", letters((0.87, 0.12), random))]
    done = run_comparison(runs, out=tmp_path / "out")
    lead = done.comparison["summary"]["headline"]
    assert (lead["evidence"], lead["verdict"]) == ("measured", "fewer")
    assert lead["because"] == ["no_calibration", "unlabelled_differ", "unlabelled_decide"]
    page = done.page_path.read_text()
    first_screen = page[: page.index("Prompt by prompt")]
    assert "Not corrected: without calibrations it is not known how often the classifier errs" in first_screen
    assert "read wrongly than of those of" in first_screen and 0.05 < lead["explained_by_error"] < 0.3
    assert any("Not corrected" in line for line in summary_lines(done.comparison))


def test_a_calibration_that_does_not_fit_leads_nowhere(
    unequal: tuple[Path, Path], files: list[Path], tmp_path: Path
) -> None:
    unclear = calibration(tmp_path / "unclear.json", (0.96, 0.30))
    document = compared(unequal, calibrations=[unclear, files[1]])
    lead = document["summary"]["headline"]
    assert (lead["evidence"], lead["because"][0]) == ("measured", "calibration_unlike_run")
    assert "other_classifiers" in lead["because"]
    assert document["runs"][0]["doubts"] == ["calibration_unlike_run"]


def of_people(folder: Path, rates: npt.NDArray[np.float64], random: np.random.Generator, *, prompts: int = 40) -> Path:
    """A run of one generator's people, read with these rates of (woman, man) x (small, middle, large lead) and unclear."""
    shares = np.random.default_rng(7).beta(0.3, 0.3, size=prompts)
    women = random.random((prompts, 16)) < shares[:, np.newaxis]
    cells = drawn_cells(women, rates, np.zeros(prompts), random)
    run = make_run(folder, {f"p{n}": "".join("WMWMWMA"[cell] for cell in row) for n, row in enumerate(cells)})
    first = 1 / (1 + np.exp(-read_of(cells, 7)[1].ravel()))
    scores = pq.read_table(run / "scores.parquet")
    pairs = [[("woman", high), ("man", 1 - high)] for high in first.tolist()]
    place = scores.schema.get_field_index("probabilities")
    column = pa.array(pairs, scores.schema.field("probabilities").type)
    pq.write_table(scores.set_column(place, scores.schema.field("probabilities"), column), run / "scores.parquet")
    return run


def test_either_run_takes_its_own_mix_of_a_calibration_s_groups(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    runs = of_people(tmp_path / "grown", GROWN, random), of_people(tmp_path / "young", MOSTLY_YOUNG, random)
    groups = {name: np.round(rates * 400).astype(int) for name, rates in (("grown", GROWN), ("young", YOUNG))}
    path = calibration(tmp_path / "both.json", GOOD)
    document = json.loads(path.read_text())
    document["attributes"] = dict(calibration_of(groups["grown"] + groups["young"], groups).data["attributes"])
    path.write_text(json.dumps(document))
    found = compared(runs, calibrations=[path, path])
    lead, differing = found["summary"]["headline"], found["summary"]["unanimity_all_images_difference"]
    assert [run["doubts"] for run in found["runs"]] == [[], []]
    assert (lead["evidence"], lead["because"]) == ("corrected", ["calibration_reweighted"])
    assert differing["high"] < 0  # as read, the young seem less unanimous
    assert lead["low"] < 0 < lead["high"] and lead["verdict"] == "no_difference_shown"
    assert any("tells labels apart poorly" in note for note in found["comparisons"][0]["warnings"])
    whole = dict(document["attributes"]["gender"])
    del whole["groups"]
    path.write_text(json.dumps({**document, "attributes": {"gender": whole}}))
    assert compared(runs, calibrations=[path, path])["summary"]["headline"]["evidence"] == "measured"


def test_other_classifiers_are_refused_without_calibrations(unequal: tuple[Path, Path], files: list[Path]) -> None:
    with pytest.raises(ComparisonError, match="--calibration-a"):
        compared(unequal)
    with pytest.raises(AllfourError, match="another classifier"):
        compared(unequal, calibrations=[files[1], files[0]])
    assert calibrations_of(3, files[0], [files[1]]) == [files[0], files[1], files[1]]
    assert calibrations_of(3, None, []) == [None, None, None]
    with pytest.raises(AllfourError, match="2 further runs"):
        calibrations_of(3, None, [files[0], files[1], files[1]])


def test_half_precision_that_decides_as_float32_is_the_same_classifier(tmp_path: Path) -> None:
    prompts = {"x": "WWMM", "y": "WWWW", "z": "MMWW"}
    full = make_run(tmp_path / "full", prompts)
    half = make_run(
        tmp_path / "half", prompts, classifier={**CLASSIFIER, "encoder": {**CLASSIFIER["encoder"], "dtype": TWICE}}
    )
    found = compared([full, half])
    assert "decisions are the same in both" in found["comparisons"][0]["warnings"][0]
    assert "other_classifiers" not in found["summary"]["headline"]["because"]
    with pytest.raises(RunFolderError, match="same classifier in the same words"):
        _check(RunFolder(full), RunFolder(half), *2 * [AttributeSet.model_validate(ATTRIBUTES)])


def test_sets_of_other_sizes_are_counted_at_the_smaller(tmp_path: Path) -> None:
    prompts = {"x": "WWMM", "y": "WWWW", "z": "MMWW"}
    four = make_run(tmp_path / "four", prompts)
    two = make_run(tmp_path / "two", prompts, set_size=2)
    again = make_run(tmp_path / "again", prompts, set_size=2)
    found, equal = compared([four, two]), compared([again, two])
    assert found["set_size"] == 2
    assert found["summary"]["unanimous"] == equal["summary"]["unanimous"]
    assert found["summary"]["unanimous"]["first"] == 3
    assert found["summary"]["unanimity_all_images_difference"] == equal["summary"]["unanimity_all_images_difference"]
    assert "counted in sets of 2" in found["comparisons"][0]["warnings"][0]
    assert json.loads((four / "metrics.json").read_text())["summary"]["set_size"] == 4


def test_four_images_against_sixteen_compare_how_often_four_agree(tmp_path: Path) -> None:
    few = make_run(tmp_path / "few", dict.fromkeys(SIX, "WWWM"))
    many = make_run(tmp_path / "many", dict.fromkeys(SIX, "W" * 12 + "M" * 4))
    summary = compared([few, many])["summary"]
    found = summary["unanimity_all_images_difference"]
    assert found["value"] == pytest.approx((495 + 1) / 1820)  # (C(12,4) + C(4,4)) / C(16,4), and none of three and one
    assert (found["test"], summary["headline"]["figure"]) == ("dealt", "unanimity_all_images_difference")


def test_near_copies_are_counted_once(tmp_path: Path) -> None:
    letters_of = dict.fromkeys(SIX, "WWWW")
    first = make_run(tmp_path / "a", {**letters_of, "two": "WWMM"})
    second = make_run(tmp_path / "b", {**letters_of, "two": "WWMM"}, copied=("one", "three"))
    document = compared([first, second])
    summary = document["summary"]
    assert summary["near_copies"] == [0, 6]
    # two prompts have one picture of four, and no set
    assert (summary["unanimous"]["prompts"], summary["unanimity_all_images_difference"]["prompts"]) == (4, 4)
    assert "near_copies" in summary["headline"]["because"]
    row = next(row for row in document["comparisons"][0]["prompts"] if row["id"] == "one")
    assert (row["second"]["near_copies"], row["second"]["share"]["woman"]["low"]) == (3, st.wilson(1, 1).low)
    assert any("Each picture is counted once" in warning for warning in document["comparisons"][0]["warnings"])


def test_p_values_of_several_pairs_are_adjusted(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, {f"p{i}": ("WWWW" if i < changed else "WWMM") for i in range(8)})
        for name, changed in (("a", 0), ("b", 6), ("c", 7), ("d", 0))
    ]
    heads = [pair["summary"]["headline"] for pair in compared(runs)["comparisons"]]
    p = [head["p_value"] for head in heads]
    assert p == pytest.approx([2 / 2**6, 2 / 2**7, 1.0])
    assert [head["p_adjusted"] for head in heads] == pytest.approx([2 * p[0], 3 * p[1], 1.0])
    assert [head["verdict"] for head in heads] == ["no_difference_shown", "more", "no_difference_shown"]


def test_equivalence_is_said_in_words_and_gated(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, {f"p{i}": "WWWW" if i % 2 else "WWMM" for i in range(60)}) for name in ("a", "b")]
    out = tmp_path / "out"
    result = command(*runs, "--out", out, "--equivalent", "0.1", "--fail-if", "unanimity_difference.equivalence.p_value > 0.05")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "It is shown to be smaller than 10 points either way" in result.output
    page = (out / "compare.html").read_text()
    assert "No difference larger than 10 points." in page
    assert "for 30 of 60 prompts in either run" in page
    shown = json.loads((out / "comparison.json").read_text())["summary"]
    assert shown["headline"]["verdict"] == "equivalent"
    narrow = compared(runs, equivalent=0.02)["summary"]
    assert narrow["unanimity_difference"]["equivalence"]["shown"] is False
    # no prompt differs: sqrt(2 / 61 / 60) from one unseen pair, t(59) one-sided
    from scipy import stats

    assert narrow["unanimity_difference"]["equivalence"]["p_value"] == pytest.approx(
        stats.t.sf(0.02 / (2 / 61 / 60) ** 0.5, 59)
    )
    assert command(*runs, "--out", out, "--equivalent", "5").exit_code == 2


def test_refusals_are_paired_and_tested(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", dict.fromkeys(SIX, "WWWW"))
    second = make_run(tmp_path / "b", dict.fromkeys(SIX, "WWRR"))
    summary = compared([first, second])["summary"]
    found = summary["refused_difference"]
    assert (found["value"], found["first"], found["second"]) == (0.5, 0.0, 0.5)
    assert found["p_value"] == pytest.approx(2 / 2**6)
    assert summary["failed_difference"] is None
    page = run_comparison([first, second], out=tmp_path / "out").page_path.read_text()
    assert "<bdi>Refused</bdi>" in page


def test_the_committed_schema_is_that_of_the_record() -> None:
    committed = (REPOSITORY / "pipeline/run/comparison.schema.json").read_text(encoding="utf-8")
    assert committed == comparison_schema_text(), "run: python scripts/write_schema.py"


def test_every_code_has_words() -> None:
    assert all(text and not text.endswith(".") for text in (*BECAUSE.values(), *VERDICTS.values()))


def test_the_figures_of_the_first_line_are_those_of_its_difference(tmp_path: Path) -> None:
    """With more images than a set the difference is one of all sets, and so are the two figures before it."""
    first = make_run(tmp_path / "a", {f"p{i}": "WWWW" if i < 6 else "MWMW" for i in range(10)})
    second = make_run(tmp_path / "b", {f"p{i}": "WWWWMMMM" if i < 6 else "MWMWMMWW" for i in range(10)})
    comparison = run_comparison([first, second], out=tmp_path / "c.html").comparison
    (pair,) = comparison["comparisons"]
    found = pair["summary"]["unanimity_all_images_difference"]
    assert pair["summary"]["headline"]["figure"] == "unanimity_all_images_difference"
    line = summary_lines(comparison)[0]
    one, two = percent(found["first"]), percent(found["second"])
    assert f"{two} of sets of 4 images show one perceived gender in b and {one} in a, over 10 prompts." in line
    assert "for 6 of" not in line and f"{points(found['value'])} points" in line
