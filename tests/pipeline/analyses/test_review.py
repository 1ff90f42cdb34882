"""A sample for people to label: drawn with known probabilities, and answers that are read strictly."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.errors import InputError, RunFolderError
from allfour.pipeline.analyses.review.results import REVIEW, describe_result, import_answers
from allfour.pipeline.analyses.review.sample import (
    allocate,
    draw_units,
    make_units,
    plan_path,
    stratify,
)
from allfour.pipeline.archives.text import escape_name
from allfour.pipeline.commands.report import report_again
from allfour.pipeline.commands.review import forget, import_review
from allfour.pipeline.commands.review_draw import draw
from allfour.pipeline.run.columns import AMBIGUOUS, IMAGES_SCHEMA, MIXED, NO_PERSON, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Review
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.statistics import wilson
from tests.light_backends import picture
from tests.pipeline.analyses.review_runs import (
    CATEGORIES,
    HOSTILE,
    call,
    export,
    make_run,
    plan_of,
    simulated,
)

# --- the draw --------------------------------------------------------------------------------------------------------


def test_every_image_has_a_known_probability(run: RunFolder) -> None:
    drawn = draw(run, sample=20, seed=3)
    plan = plan_of(run, drawn.id)
    assert (drawn.units, drawn.population, plan["scheme"]) == (20, 35, ["decision", "group"])
    strata = {s["name"]: s for s in plan["strata"]}
    assert {name: s["units"] for name, s in strata.items()} == {
        "woman / she": 10, "man / she": 1, "ambiguous / she": 1, "man / he": 21, "no_person / he": 1, "woman / he": 1
    }  # fmt: skip
    for entry in plan["images"]:
        stratum = strata[entry["stratum"]]
        assert entry["probability"] == stratum["probability"] == stratum["sampled"] / stratum["units"] > 0
    assert sum(1 / entry["probability"] for entry in plan["images"]) == pytest.approx(35)  # Horvitz-Thompson


def test_the_draw_follows_the_seed(run: RunFolder) -> None:
    first, again, other = (draw(run, sample=12, seed=seed) for seed in (1, 1, 2))
    assert first.id == again.id != other.id
    assert plan_path(run, first.id).exists() and plan_path(run, other.id).exists()
    assert plan_of(run, first.id)["images"] != plan_of(run, other.id)["images"]


def test_every_unit_of_a_stratum_is_as_likely() -> None:
    population, _ = simulated(0)
    units = make_units(population, "image", 4)
    strata = stratify(units, population, ("decision",))
    times, repeats = np.zeros(len(units.prompt)), 400
    for seed in range(repeats):
        chosen, probability = draw_units(units, strata, 60, seed)
        times[chosen] += 1
    error = np.sqrt(repeats * (probability * (1 - probability)).clip(1e-12))
    assert (np.abs(times - repeats * probability) <= 4 * error).all()


def test_allocation_is_proportional_and_leaves_no_stratum_out() -> None:
    assert allocate(np.array([100, 50, 3, 1]), 31).tolist() == [19, 9, 2, 1]
    assert allocate(np.array([4, 3]), 50).tolist() == [4, 3]


def test_a_picture_that_cannot_be_shown_is_an_error(run: RunFolder) -> None:
    (run.path / "images/0/0.png").unlink()
    with pytest.raises(
        RunFolderError, match=r"1 of 35 sampled images cannot be read here, the first being 'images/0/0.png'"
    ):
        draw(run, sample=100)


def test_an_image_that_changed_since_it_was_scored_is_not_shown(run: RunFolder) -> None:
    table = pq.read_table(run.images_path).to_pylist()
    for row in table:
        if row["path"]:
            row["sha256"] = hashlib.sha256((run.path / row["path"]).read_bytes()).hexdigest()
    pq.write_table(pa.Table.from_pylist(table, schema=IMAGES_SCHEMA), run.images_path)
    assert call("review", run.path, "--sample", 40).exit_code == 0
    (run.path / "review.html").unlink()
    (run.path / "images" / "0" / "0.png").write_bytes(picture(999))
    result = call("review", run.path, "--sample", 40)
    assert result.exit_code == 2
    assert (
        "1 of 35 sampled images cannot be read here (1 because the file has changed since it was scored)"
        in result.output
    )
    assert not (run.path / "review.html").exists()


def test_names_of_folders_with_control_characters(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "new\nline \x1b \u202e"
    (run.path / "images").rename(folder)
    table = pq.read_table(run.images_path).to_pylist()
    for row in table:
        row["path"] = row["path"] and escape_name(str(folder / row["path"].removeprefix("images/")))
    pq.write_table(pa.Table.from_pylist(table, schema=IMAGES_SCHEMA), run.images_path)
    result = call("review", run.path, "--sample", 40)
    assert result.exit_code == 0, result.output
    assert (run.path / "review.html").read_text().count("data:image/jpeg") == 35


def test_whole_sets(tmp_path: Path) -> None:
    reads = {
        "a": ["woman"] * 4 + ["man"],
        "b": ["man", "man", "woman", "man"],
        "c": ["man", "missing"] * 2,
        "d": ["man"] * 3,
        "e": ["missing"] * 4,
    }
    run = make_run(tmp_path / "run", reads)
    drawn = draw(run, sample=200, whole_sets=True)
    assert (drawn.units, drawn.population, drawn.images) == (3, 3, 10)  # d is no whole set; of e nothing can be seen
    truth = {"a": "woman", "b": "man", "c": "man"}
    file = export(run, drawn.id, tmp_path / "ada.csv", lambda prompt, index: truth[prompt])
    result = import_answers(run, [file])
    assert result["unanimity"]["this_run"]["value"] == pytest.approx(
        2 / 4
    )  # a and b; c has an image missing, e has none
    assert result["unanimity"]["classifier"] == pytest.approx(1 / 4)
    assert result["unanimity"]["by_label"]["woman"]["this_run"]["value"] == pytest.approx(1 / 4)
    like = result["unanimity"]["prompts_like_these"]
    plain = wilson(2, 4)  # all are labelled: a count as any other
    assert (like["low"], like["high"]) == (pytest.approx(plain.low), pytest.approx(plain.high))
    assert like["low"] < 0.2 and like["high"] > 0.8  # four prompts say little of others, however well they are labelled
    assert result["shares"]["woman"]["this_run"]["value"] == pytest.approx(4 / 10, abs=1e-6)


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_sways_nobody_and_loads_nothing(tmp_path: Path) -> None:
    prompt = "zebrawood-nurse" + HOSTILE
    run = make_run(tmp_path / "run", {prompt: ["woman", "man", AMBIGUOUS, NO_PERSON]}, groups={prompt: HOSTILE}, name=HOSTILE)  # fmt: skip
    page = draw(run, sample=9).page.read_text()
    assert "zebrawood" not in page  # neither prompt nor group, and no decision beside a picture
    shown = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert {tuple(sorted(entry)) for entry in shown["images"]} == {("image", "src")}
    assert "<img src=x" not in page and "<script>window" not in page
    assert "unsafe" not in page and "http" not in page.replace("http-equiv", "")
    assert [(a["key"], a["value"]) for a in shown["answers"]] == [
        ("1", "woman"), ("2", "man"), ("0", AMBIGUOUS), ("N", NO_PERSON), ("M", MIXED)
    ]  # fmt: skip


# --- the import ------------------------------------------------------------------------------------------------------


def test_a_file_with_a_fault_is_refused_whole(run: RunFolder, tmp_path: Path) -> None:
    drawn = draw(run, sample=12)
    good = export(run, drawn.id, tmp_path / "good.csv", lambda *_: "woman").read_text()
    lines = good.splitlines()
    faults = {
        "line 3: image 'deadbeef' is not in this sample": good.replace(lines[2].split(",")[2], "deadbeef"),
        "line 5: unknown label 'Woman'. Known: woman, man, ambiguous, no_person, mixed": "\n".join(
            [*lines[:4], lines[4].replace(",woman", ",Woman"), *lines[5:]]
        ),
        r"line 14: 'Ada' has labelled this image already, at .* line 3": good + lines[2] + "\n",
        "line 2: review '0123456789abcdef' was not drawn from": good.replace(drawn.id, "0123456789abcdef"),
        r"line 2: review '../../../../run' was not drawn from": good.replace(drawn.id, "../../../../run"),
        "line 4: belongs to review": "\n".join([*lines[:3], lines[3].replace(drawn.id, "0" * 16)]),
        "line 1: the header must be review,rater,image,label": good.replace("rater,", "person,", 1),
        "line 3: 3 values in place of 4": "\n".join([*lines[:2], lines[2].rsplit(",", 1)[0]]),
        "line 3: not CSV": "\n".join([*lines[:2], lines[2].replace("Ada", '"A"da')]),
        r"line 2: 'A\\x1b' is no rater's name": good.replace("Ada", "A\x1b"),
        r"line 2: '=1\+1' is no rater's name: letters, digits": good.replace("Ada", "=1+1"),
        "line 2: '-Ada' is no rater's name": good.replace("Ada", "-Ada"),
        "line 2: '@Ada' is no rater's name": good.replace("Ada", "@Ada"),
        r"line 2: '\+Ada' is no rater's name": good.replace("Ada", "+Ada"),
        "line 2: 'A<b>' is no rater's name": good.replace("Ada", "A<b>"),
        "line 2: '' is no rater's name": good.replace("Ada", ""),
        "line 2: 'AAAA": good.replace("Ada", "A" * 61),
        "no answers": lines[0] + "\n",
    }
    for message, content in faults.items():
        bad = tmp_path / "bad.csv"
        bad.write_text(content)
        with pytest.raises(InputError, match=message):
            import_answers(run, [bad])
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="no UTF-8 text"):
        import_answers(run, [tmp_path / "bad.csv"])
    assert not (run.path / "review.json").exists()


def test_scores_that_changed_are_refused(run: RunFolder, tmp_path: Path) -> None:
    drawn = draw(run, sample=12)
    file = export(run, drawn.id, tmp_path / "ada.csv", lambda *_: "woman")
    import_answers(run, [file])
    header = json.loads(run.header_path.read_text())
    header["stages"]["scores"]["fingerprint"] = "0" * 64
    run.header_path.write_text(json.dumps(sealed(header)))
    with pytest.raises(InputError, match="scored again after review"):
        import_answers(run, [file])
    summary, _ = REVIEW.summary(run)
    assert summary == Review(format=1, samples=[], outdated=1)


def test_tables_that_changed_without_a_word_are_refused(run: RunFolder, tmp_path: Path) -> None:
    drawn = draw(run, sample=12)
    file = export(run, drawn.id, tmp_path / "ada.csv", lambda *_: "woman")
    table = pq.read_table(run.scores_path).to_pylist()
    table[0]["decision"] = "man"
    pq.write_table(pa.Table.from_pylist(table, schema=SCORES_SCHEMA), run.scores_path)
    with pytest.raises(RunFolderError, match="tables are not those that review"):
        import_answers(run, [file])


def test_nothing_that_was_imported_gets_lost(run: RunFolder, tmp_path: Path) -> None:
    drawn, sets = draw(run, sample=12), draw(run, sample=12, whole_sets=True)
    ada = export(run, drawn.id, tmp_path / "ada.csv", lambda *_: "woman")
    lines = ada.read_text().splitlines()
    part = tmp_path / "part.csv"
    part.write_text("\n".join(lines[:6]))
    first = import_answers(run, [part])
    assert (first["labelled"], first["shares"]) == (5, None)
    assert "nothing is labelled of" in first["note"]
    import_answers(run, [export(run, drawn.id, tmp_path / "bo.csv", lambda *_: "man", "Bo")])
    both = import_answers(run, [ada])
    assert both["raters"] == {"Ada": 12, "Bo": 12}
    assert both["between_raters"][0]["agreement"]["value"] == 0
    with pytest.raises(InputError, match="'Ada' labelled 7 images in a file imported before that are not in this one"):
        import_answers(run, [part])
    import_answers(run, [export(run, sets.id, tmp_path / "sets.csv", lambda *_: "man")])
    document = json.loads((run.path / "review.json").read_text())
    assert [s["unit"] for s in document["samples"]] == ["image", "set"]
    assert document["samples"][0]["answers"].keys() == {"Ada", "Bo"}
    assert "Ada and Bo: agree on 0.0%" in describe_result(both)


def test_kappa_by_hand(tmp_path: Path) -> None:
    """Fifty images: both say woman 20 times and man 15 times; agreement 0.7, by chance 0.5, kappa 0.4."""
    run = make_run(tmp_path / "run", {"a": ["woman"] * 30, "b": ["man"] * 20}, groups={"a": "x", "b": "y"})
    drawn = draw(run, sample=50)
    # people say woman: 20 of the 30 that read as woman, and 5 of the 20 that read as man
    file = export(run, drawn.id, tmp_path / "a.csv", lambda p, i: "woman" if i < {"a": 20, "b": 5}[p] else "man")
    result = import_answers(run, [file])
    assert result["confusion"][0][:2] == [20, 5] and result["confusion"][1][:2] == [10, 15]
    assert result["agreement"]["agreement"]["value"] == pytest.approx(0.7)
    assert result["agreement"]["kappa"]["value"] == pytest.approx(0.4)
    assert result["by_rater"]["Ada"]["kappa"]["value"] == pytest.approx(0.4)
    assert result["agreement"]["kappa"]["low"] < 0.4 < result["agreement"]["kappa"]["high"]
    assert result["by_decision"]["woman"]["people"] == {"woman": 20, "man": 10}
    assert result["by_decision"]["man"]["agreement"]["value"] == pytest.approx(0.75)
    assert result["by_group"]["x"]["agreement"]["value"] == pytest.approx(2 / 3)
    assert result["by_group"]["x"]["kappa"]["value"] is None  # the classifier said one thing throughout
    assert result["by_group"]["x"]["kappa_note"] == "not defined: one side said the same of every image"
    assert result["agreement"]["kappa_note"] is None
    assert result["shares"]["woman"]["this_run"]["value"] == pytest.approx(
        0.5, abs=1e-6
    )  # all labelled: what people said
    assert result["outcomes"]["woman"]["this_run"]["low"] == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("number", [2, 3, 9])
def test_few_images_have_no_kappa(tmp_path: Path, number: int) -> None:
    run = make_run(tmp_path / "run", {"a": ["woman"] * 30, "b": ["man"] * 30})
    drawn = draw(run, sample=number, seed=1)
    files = [
        export(run, drawn.id, tmp_path / f"{name}.csv", lambda p, i: "woman" if p == "a" else "man", name)
        for name in ("Ada", "Bo")
    ]
    result = import_answers(run, files)
    for found in (result["agreement"], result["by_rater"]["Ada"], result["between_raters"][0]):
        assert (found["agreement"]["value"], found["kappa"]["value"]) == (1, None)
        assert found["kappa_note"].startswith("too few to say: fewer than 10 images")
    assert "kappa too few to say: fewer than 10 images or sets, as their weights count; " in describe_result(result)


def test_full_agreement_of_a_sample_is_no_certainty(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": ["woman"] * 90, "b": ["man"] * 90})
    drawn = draw(run, sample=12, seed=1)
    result = import_answers(
        run, [export(run, drawn.id, tmp_path / "a.csv", lambda p, i: "woman" if p == "a" else "man")]
    )
    for found in (result["agreement"], result["by_rater"]["Ada"]):
        assert found["agreement"]["low"] == pytest.approx(0.757, abs=0.001)  # Wilson for 12 of 12
        assert found["kappa"]["value"] == 1
        assert found["kappa"]["low"] == pytest.approx(2 * 0.757 - 1, abs=0.05)  # chance is about a half


def test_an_image_that_stands_for_many_leaves_the_estimate_wide(tmp_path: Path) -> None:
    """One disagreement in a stratum of 500 images: the share is small, and nearly nothing is known of it."""
    run = make_run(tmp_path / "run", {"a": ["woman"] * 500 + ["man"] * 3 + [AMBIGUOUS] * 3 + [NO_PERSON] * 3})
    drawn = draw(run, sample=8, seed=1)
    plan = {(e["prompt_id"], e["index"]): e["stratum"] for e in plan_of(run, drawn.id)["images"]}
    file = export(run, drawn.id, tmp_path / "a.csv", lambda p, i: "woman" if plan[p, i].startswith("man") else "man")
    agreement = import_answers(run, [file])["agreement"]["agreement"]
    assert agreement["value"] == 0
    assert agreement["high"] > 0.6  # two images decide


def test_each_sampled_image_stands_for_those_of_its_stratum(tmp_path: Path) -> None:
    """4 of 40 `woman` images and 2 of 2 `no_person` ones: the rare ones are over-drawn, and must not count as a third."""
    run = make_run(tmp_path / "run", {"a": ["woman"] * 40 + [NO_PERSON] * 2})
    drawn = draw(run, sample=6)
    sampled = {s["name"]: s["sampled"] for s in plan_of(run, drawn.id)["strata"]}
    assert sampled == {"woman / a": 4, "no_person / a": 2}
    result = import_answers(run, [export(run, drawn.id, tmp_path / "a.csv", lambda p, i: "woman")])
    assert result["agreement"]["agreement"]["value"] == pytest.approx(40 / 42)
    assert result["outcomes"]["woman"]["this_run"]["value"] == pytest.approx(1)


def test_raters_weigh_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": ["woman"] * 4})
    drawn = draw(run, sample=4)
    files = [
        export(run, drawn.id, tmp_path / "a.csv", lambda p, i: "woman", "Ada"),
        export(run, drawn.id, tmp_path / "b.csv", lambda p, i: "woman" if i else "man", "Bo"),
    ]
    result = import_answers(run, files)
    assert result["shares"]["woman"]["this_run"]["value"] == pytest.approx(7 / 8, abs=1e-6)
    assert result["confusion"][CATEGORIES.index(AMBIGUOUS)][0] == 1  # a tie between them reads as ambiguous


def test_an_import_that_is_killed_before_the_header_knows_of_it_goes_on(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = export(run, draw(run, sample=20).id, tmp_path / "a.csv", lambda p, i: "woman", "Ada")
    report_again(run)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "recommit", killed)
        import_review(run, [answers])
    with pytest.raises(RunFolderError, match=r"metrics\.json: not the file that was written"):
        run.check_measured()
    import_review(run, [answers])
    run.check_measured()
    assert "What people said" in (run.path / "report.html").read_text()


def test_a_rater_is_forgotten(run: RunFolder, tmp_path: Path) -> None:
    drawn, sets = draw(run, sample=20), draw(run, sample=12, whole_sets=True)
    ada, joke, alone = (
        export(run, identity, tmp_path / f"{number}.csv", lambda p, i, label=label: label, rater)
        for number, (identity, label, rater) in enumerate(
            [(drawn.id, "woman", "Ada"), (drawn.id, "mixed", "Zoë O’Hara-Öz 2."), (sets.id, "man", "Zoë O’Hara-Öz 2.")]
        )
    )
    before = import_answers(run, [ada])
    report_again(run)
    import_review(run, [joke])
    import_review(run, [alone])
    with pytest.raises(RunFolderError, match=r"nobody named 'Eve' has labelled\. Raters: 'Ada', 'Zoë O’Hara-Öz 2\.'"):
        forget(run, ["Zoë O’Hara-Öz 2.", "Eve"])
    assert len(json.loads((run.path / "review.json").read_text())["samples"]) == 2
    gone = forget(run, ["Zoë O’Hara-Öz 2."])
    assert gone.answers == {"Zoë O’Hara-Öz 2.": 32}
    assert "forgot Zoë O’Hara-Öz 2.: 32 answers\n" in gone.text(as_json=False)
    assert json.loads(gone.text(as_json=True))["forgotten"] == {"Zoë O’Hara-Öz 2.": 32}
    (after,) = json.loads((run.path / "review.json").read_text())["samples"]
    assert {**after, "imported": ""} == {**json.loads(json.dumps(before)), "imported": ""}
    assert "Hara" not in run.metrics_path.read_text() + (run.path / "report.html").read_text()
    forget(run, ["Ada"])
    assert json.loads(run.metrics_path.read_text())["review"] is None
    assert "What people said" not in (run.path / "report.html").read_text()
    import_review(run, [ada])  # a mended file is taken again
    assert json.loads(run.metrics_path.read_text())["review"]["samples"][0]["raters"] == {"Ada": 20}


def test_forgetting_keeps_what_others_said_of_earlier_scores(run: RunFolder, tmp_path: Path) -> None:
    drawn = draw(run, sample=12)
    for rater in ("Ada", "Bo"):
        import_answers(run, [export(run, drawn.id, tmp_path / "a.csv", lambda *_: "woman", rater)])
    header = json.loads(run.header_path.read_text())
    header["stages"]["scores"]["fingerprint"] = "0" * 64
    run.header_path.write_text(json.dumps(sealed(header)))
    forget(run, ["Bo"])
    text = (run.path / "review.json").read_text()
    assert "Bo" not in text and "agreement" not in text
    assert json.loads(text)["samples"][0]["answers"]["Ada"]
    summary, _ = REVIEW.summary(run)
    assert summary == Review(format=1, samples=[], outdated=1)
