"""The sensitivity grid: every setting gives what `allfour relabel` gives with that setting in an attributes file."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from allfour.errors import ClassifierError, ConfigError, RunFolderError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.clip import ClipClassifier, ClipEncoder
from allfour.models.classifiers.linear_probe import Probe
from allfour.pipeline.analyses import sensitivity
from allfour.pipeline.analyses.base import OUTDATED, basis
from allfour.pipeline.analyses.sensitivity_grid import MAX_COMBINED, Grid, headline_alone, load_grid, make_plan
from allfour.pipeline.cli import app
from allfour.pipeline.commands import report as report_module
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.relabel import relabel
from allfour.pipeline.commands.relabel_grid import relabel_grid
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.columns import embeddings_schema
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.labels import AMBIGUOUS_CODE, MIXED_CODE, NO_PERSON_CODE, image_codes
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.scoring.people import People, people_table, reading_scores

QUIET = Reporter(quiet=True)
# the small CLIP knows nothing; among these words its readings of the pictures below are split
ASKED: dict[str, Any] = {
    "templates": ["{}", "a {}", "{} ."],
    "presence": {"threshold": 0.25, "templates": ["{}"], "labels": {"person": ["cat"], "no_person": ["woman"]}},
    "attributes": {
        "age": {"labels": {"0-19": ["young"], "20-59": ["grown"], "60+": ["old"]}},
        "gender": {"margin": 0.02, "labels": {"woman": ["boy", "x"], "man": ["woman", "man"]}},
    },
}


def written(path: Path, asked: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(asked, sort_keys=False))
    return str(path)


def drawn(number: int) -> Image.Image:
    """Noise, plain colours, blotches and fractals in turn: what random weights tell apart."""
    random = np.random.default_rng(number)
    if number % 4 == 0:
        return Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    if number % 4 == 1:
        return Image.new("RGB", (40, 40), tuple(random.integers(0, 256, 3).tolist()))
    if number % 4 == 2:
        return Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((40, 40))
    return Image.effect_mandelbrot((40, 40), (-2, -1, 1, 1), 12 + number).convert("RGB")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    """A scored run: 6 prompts of 5 images in 4 shards, one short prompt, an unreadable file."""
    root = tmp_path_factory.mktemp("scored")
    for number in range(32):
        folder = root / "archive" / f"p{number % 6 if number < 30 else 6}"
        folder.mkdir(parents=True, exist_ok=True)
        drawn(number).save(folder / f"{number}.png")
    (root / "archive" / "p0" / "0.png").write_bytes(b"no image")
    config = RunConfig.model_validate(
        {
            "name": "scored",
            "classifier": {"backend": "clip", "pretrained": str(tiny_clip)},
            "attributes": {"file": written(root / "asked.yaml", ASKED)},
            "archive": {"shard_size": 8},
        }
    )
    rescore_module.rescore(config, str(root / "archive"), RunFolder(root / "run"), QUIET)
    return root / "run"


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    shutil.copytree(scored, tmp_path / "run")
    return tmp_path / "run"


def settings_of(run: Path) -> dict[str, dict[str, Any]]:
    """By factor and name, combined ones left out."""
    found = json.loads((run / "sensitivity.json").read_text())
    entries = {"own": found["baseline"]}
    return entries | {f"{f['name']}: {e['name']}": e for f in found["factors"] for e in f["settings"]}


def relabelled(run: Path, changed: dict[str, Any], folder: Path) -> dict[str, Any]:
    """metrics.json of the run under its own attributes file with one change."""
    asked = json.loads(json.dumps(ASKED))
    if "threshold" in changed:
        asked["presence"]["threshold"] = changed["threshold"]
    asked["attributes"]["gender"] |= {k: v for k, v in changed.items() if k != "threshold"}
    relabel(RunFolder(run), written(folder.with_suffix(".yaml"), asked), RunFolder(folder), QUIET)
    return dict(json.loads((folder / "metrics.json").read_text()))


@pytest.mark.slow
def test_every_setting_is_what_relabel_gives(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    real = ClipEncoder.encode
    monkeypatch.setattr(ClipEncoder, "encode", lambda self, batch: (encoded.append(len(batch)), real(self, batch))[1])
    done = relabel_grid(RunFolder(run), Grid(margins=(0.0, 0.05, 0.2), thresholds=(0.0, 0.5)), QUIET)
    assert sum(encoded) <= 1  # the probe for the embedding's size: no image is read
    monkeypatch.setattr(report_module, "write_report", lambda path, metrics: path)  # figures are compared, no page
    entries = settings_of(run)
    # 3 templates: each left out and each alone; 2 phrases: each alone; 3 margins; 2 thresholds
    assert len(entries) == 1 + 6 + 2 + 3 + 2
    seen = set()
    for number, (name, entry) in enumerate(entries.items()):
        metrics = relabelled(run, entry["changed"], tmp_path / f"again-{number}")
        gender, accounting = metrics["attributes"]["gender"], metrics["accounting"]
        assert entry["unanimity"] == metrics["summary"]["unanimity"], name
        assert entry["unanimous"] == metrics["summary"]["unanimous"]
        assert entry["share"] == gender["share"], name
        assert [entry[k] for k in ("labelled", "ambiguous", "no_person")] == [
            accounting[k] for k in ("labelled", "ambiguous", "no_person")
        ]
        seen.add((entry["unanimous"], entry["labelled"], entry["share"]["woman"]["value"]))
    assert len(seen) > 5  # the grid moves something, so equality above says something
    combined = json.loads((run / "sensitivity.json").read_text())["combined"]
    place = combined["wordings"].index("“a …” alone"), combined["margins"].index(0.05)
    metrics = relabelled(run, {"templates": ["a {}"], "margin": 0.05}, tmp_path / "both")
    assert combined["unanimous"][place[0]][place[1]] == metrics["summary"]["unanimous"]
    assert done.metrics.document()["sensitivity"]["combined"]["settings"] == len(combined["wordings"]) * len(
        combined["margins"]
    )


def test_the_summary_is_in_metrics_and_can_be_gated(run: Path) -> None:
    before = json.loads((run / "metrics.json").read_text())
    assert before["sensitivity"] is None
    done = CliRunner().invoke(
        app, ["relabel", str(run), "--grid", "default", "--json", "--fail-if", "sensitivity.range <= 1"]
    )
    assert done.exit_code == 1, done.output  # the gate
    metrics = json.loads((run / "metrics.json").read_text())
    found, entries = metrics["sensitivity"], settings_of(run)
    own = entries["own"]["unanimity"]["value"]
    assert found["baseline"] == entries["own"]["unanimity"] == metrics["summary"]["unanimity"]
    assert found["low"] <= own <= found["high"]
    assert found["range"] == found["high"] - found["low"] > 0
    assert found["settings"] == len(entries)
    for name, factor in found["factors"].items():
        values = [e["unanimity"]["value"] for key, e in entries.items() if key.startswith(f"{name}: ")]
        assert (factor["low"], factor["high"]) == (min([own, *values]), max([own, *values]))
        assert factor["settings"] == len(values)
    assert found["factors"][found["moved_most"]]["range"] == max(f["range"] for f in found["factors"].values())
    # nothing else of the metrics has changed, and what was given to an earlier command stays
    assert {k: v for k, v in metrics.items() if k != "sensitivity"} == {
        k: v for k, v in before.items() if k != "sensitivity"
    }


def test_it_is_computed_once_and_left_out_when_the_scores_change(run: Path, tmp_path: Path) -> None:
    assert relabel_grid(RunFolder(run), Grid(), QUIET).work["settings"] > 10
    assert relabel_grid(RunFolder(run), Grid(), QUIET).work == {"settings": 0}
    assert relabel_grid(RunFolder(run), Grid(margins=(0.4,)), QUIET).work["settings"] > 10
    assert (
        report_module.report_again(RunFolder(run)).metrics.document()["sensitivity"] is not None
    )  # `allfour report` keeps it
    # other sets of the same scores: 3 images instead of 4
    header = json.loads((run / "run.json").read_text())
    header["config"]["prompts"]["set_size"] = 3
    (run / "run.json").write_text(json.dumps(sealed(header)))
    again = report_module.report_again(RunFolder(run)).metrics.document()
    assert again["sensitivity"] is None
    assert OUTDATED in [note["code"] for note in again["notes"]]
    renewed = relabel_grid(RunFolder(run), Grid(), QUIET).metrics.document()
    assert renewed["sensitivity"] is not None
    assert OUTDATED not in [note["code"] for note in renewed["notes"]]
    (run / "sensitivity.json").write_text(json.dumps({"format": 1, "basis": basis(RunFolder(run))}))
    with pytest.raises(RunFolderError, match=r"sensitivity\.json: not a sensitivity analysis"):
        report_module.report_again(RunFolder(run))


def test_a_kill_before_the_stage_is_recorded_leaves_the_report_of_an_undisturbed_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(margins=(0.4,), thresholds=(), combine=False)
    shutil.copytree(run, tmp_path / "undisturbed" / run.name)
    relabel_grid(RunFolder(tmp_path / "undisturbed" / run.name), grid, QUIET)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "commit_stage", killed)
        relabel_grid(RunFolder(run), grid, QUIET)
    assert (run / "sensitivity.json").is_file()
    relabel_grid(RunFolder(run), grid, QUIET)
    pages = [(folder / "report.html").read_text() for folder in (run, tmp_path / "undisturbed" / run.name)]
    stages = [re.findall(r"<dt>(\w+)</dt><dd>[^<]* s <code", page) for page in pages]
    assert "sensitivity" in stages[0]
    assert stages[0] == stages[1]


def test_several_passes_give_what_one_gives(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relabel_grid(RunFolder(run), Grid(), QUIET)
    one = json.loads((run / "sensitivity.json").read_text())
    (run / "sensitivity.json").unlink()
    monkeypatch.setattr(sensitivity, "_MAX_COUNTS", 2 * 5 * 7 * 8)  # seven prompts: seven settings beside the own one
    relabel_grid(RunFolder(run), Grid(), QUIET)
    assert json.loads((run / "sensitivity.json").read_text()) == one


def probe_of(run: Path, labels: dict[str, tuple[str, ...]], dim: int = 32) -> Probe:
    random = np.random.default_rng(9)
    return Probe(
        labels=labels,
        weights={k: random.normal(size=(len(v), dim)).astype(np.float32) for k, v in labels.items()},
        biases={k: np.zeros(len(v), np.float32) for k, v in labels.items()},
        encoder=json.loads((run / "run.json").read_text())["classifier"]["encoder"],
    )


def test_a_probe_is_a_head(run: Path, tmp_path: Path, tiny_clip: Path) -> None:
    probe_of(run, {"gender": ("man", "woman")}).save(tmp_path / "gender.safetensors")
    probe_of(run, {"age": ("0-19", "20-59", "60+")}).save(tmp_path / "age.safetensors")
    relabel_grid(RunFolder(run), Grid(heads=("zero-shot", str(tmp_path / "gender.safetensors"))), QUIET)
    entry = settings_of(run)["head: linear probe gender"]
    asked = written(tmp_path / "asked.yaml", ASKED)
    config = json.loads((run / "run.json").read_text())["config"]
    config["classifier"] = {
        "backend": "linear-probe", "probe": str(tmp_path / "gender.safetensors"), "pretrained": str(tiny_clip),
    }  # fmt: skip
    config["attributes"]["file"] = asked
    location = json.loads((run / "run.json").read_text())["source"]["location"]
    probed = RunFolder(tmp_path / "probed")
    metrics = rescore_module.rescore(RunConfig.model_validate(config), location, probed, QUIET).metrics.document()
    assert entry["unanimity"] == metrics["summary"]["unanimity"]
    assert entry["share"] == metrics["attributes"]["gender"]["share"]
    assert entry["images_changed"] > 0
    # and around a run whose own head is the probe, the wording is not varied
    found = relabel_grid(probed, Grid(), QUIET).metrics.document()["sensitivity"]
    assert set(found["factors"]) == {"margin", "threshold", "head"}
    assert settings_of(probed.path)["head: zero-shot"]["unanimity"] == settings_of(run)["own"]["unanimity"]
    with pytest.raises(ConfigError, match=r"age\.safetensors is a probe of age, not of gender"):
        relabel_grid(RunFolder(run), Grid(heads=(str(tmp_path / "age.safetensors"),)), QUIET)
    with pytest.raises(ClassifierError, match="no such file"):
        relabel_grid(RunFolder(run), Grid(heads=("nowhere.safetensors",)), QUIET)


def test_the_shipped_grid_is_the_default_one() -> None:
    shipped = Path(__file__).resolve().parents[3] / "configs" / "sensitivity" / "default.yaml"
    assert load_grid(str(shipped)) == load_grid("default") == Grid()


def test_what_cannot_be_varied_is_said(tmp_path: Path) -> None:
    asked = json.loads(json.dumps(ASKED))
    asked["attributes"]["gender"]["labels"]["man"] = ["man"]
    attributes = headline_alone(AttributeSet.model_validate(asked))
    plan = make_plan(Grid(), attributes, ["zero-shot"], probed=False)
    assert not any(setting.factor == "phrases" for setting in plan.settings)
    assert "different numbers of phrases" in plan.notes[0]
    sets = {
        "phrases": {"sets": {"short": {"woman": ["woman"], "man": ["man"]}}},
        "templates": {"sets": {"news": ["news: {}"]}},
    }
    plan = make_plan(Grid.model_validate(sets), attributes, ["zero-shot"], probed=False)
    assert {"short", "news"} <= {setting.name for setting in plan.settings}
    with pytest.raises(ConfigError, match=r"phrases\.sets\.short: it words woman; the labels of gender are woman, man"):
        make_plan(
            Grid.model_validate({"phrases": {"sets": {"short": {"woman": ["woman"]}}}}), attributes, ["z"], probed=False
        )
    many = Grid(margins=tuple(round(0.001 * k, 3) for k in range(MAX_COMBINED)))
    plan = make_plan(many, attributes, ["zero-shot"], probed=False)
    assert not any(setting.factor == "combined" for setting in plan.settings)
    assert any("combinations" in note for note in plan.notes)
    (tmp_path / "grid.yaml").write_text("margin: [0.1]\n")
    with pytest.raises(ConfigError, match=r"margin: unknown key\. Did you mean 'margins'"):
        load_grid(str(tmp_path / "grid.yaml"))
    with pytest.raises(ConfigError, match="no such file"):
        load_grid(str(tmp_path / "gird.yaml"))


def test_refusals_name_the_mend(run: Path, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["relabel", str(run), *arguments])
        assert done.exit_code == 2
        return done.output

    assert "give one of --attributes" in refused()
    assert "give one of --attributes" in refused("--grid", "default", "--attributes", "x.yaml")
    assert "--run has no place" in refused("--grid", "default", "--run", str(tmp_path / "out"))
    assert "belongs to one wording" in refused("--grid", "default", "--calibration", "x.json")
    assert "--second-opinion goes with --grid" in refused("--attributes", "x.yaml", "--second-opinion", str(run))
    header = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(sealed(header | {"classifier": {"backend": "face"}})))
    assert "keeps no embeddings" in refused("--grid", "default")


@pytest.mark.parametrize("seed", range(5))
def test_decisions_of_people_become_the_images_as_tallies_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    times = random.integers(1, 4, size=40)
    code = random.choice([0, 1, AMBIGUOUS_CODE, NO_PERSON_CODE], size=int(times.sum())).astype(np.int16)
    starts = [0, *itertools.accumulate(int(n) for n in times)]
    for image, found in enumerate(image_codes(code, times).tolist()):
        mine = code[starts[image] : starts[image + 1]].tolist()
        labels = {c for c in mine if c >= 0}
        rule = (
            MIXED_CODE if len(labels) > 1
            else AMBIGUOUS_CODE if AMBIGUOUS_CODE in mine
            else labels.pop() if labels
            else NO_PERSON_CODE
        )  # fmt: skip
        assert found == rule


def test_images_of_several_people_are_read_as_the_run_reads_them(
    tiny_clip: Path,
) -> None:
    asked = json.loads(json.dumps(ASKED))
    asked["attributes"]["gender"]["labels"] = {
        "woman": ["woman"],
        "man": ["man"],
    }  # the model says now one, now the other
    attributes = AttributeSet.model_validate(asked)
    classifier = ClipClassifier(attributes=attributes, model=None, pretrained=str(tiny_clip), device="cpu")
    inputs = np.stack([classifier.prepare(drawn(seed)) for seed in range(24)])
    vectors = classifier.encode(inputs)
    whole, crops = vectors[:8], vectors[8:]
    boxes = [[(0, 0, 9, 9)] * count for count in (0, 1, 2, 3, 4, 0, 3, 3)]
    names = {"prompt_id": ["p"] * 8, "index": range(8), "sha256": [f"{n}" for n in range(8)]}
    embeddings = pa.table(
        names | {"embedding": [row.tolist() for row in whole]}, schema=embeddings_schema(whole.shape[1])
    )
    people = People(people_table(embeddings, boxes, crops), crops)
    listed = pa.table(names | {"status": ["generated"] * 8})
    focus = headline_alone(attributes)
    plan = make_plan(Grid(), focus, ["zero-shot"], probed=False)
    prompts = sensitivity.Prompts({"p": 0}, np.array([8]), np.array([3]))
    task = sensitivity.Task(plan, focus, classifier.reworded(plan.wordings), [None], 32, prompts, 4, 0.95)
    codes = sensitivity._Codes(task, whole, people)
    differing = 0
    for margin, threshold in ((0.02, 0.45), (0.0, 0.0), (0.05, 0.5), (0.02, 0.55)):
        asked["presence"]["threshold"], asked["attributes"]["gender"]["margin"] = threshold, margin
        other = AttributeSet.model_validate(asked)
        again = ClipClassifier(attributes=other, model=None, pretrained=str(tiny_clip), device="cpu")
        rows = reading_scores(listed, whole, people, again).to_pylist()
        found = codes.of(plan.settings[0], headline_alone(other))
        for image in range(8):
            mine = [r["decision"] for r in rows if r["index"] == image and r["attribute"] == "gender"]
            labels = {d for d in mine if d in ("woman", "man")}
            rule = (
                "mixed" if len(labels) > 1
                else "ambiguous" if "ambiguous" in mine
                else labels.pop() if labels
                else "no_person"
            )  # fmt: skip
            names_by_code = {0: "woman", 1: "man", -1: "ambiguous", -2: "no_person", -3: "mixed"}
            assert names_by_code[int(found[image])] == rule
            differing += rule == "mixed"
    assert differing
