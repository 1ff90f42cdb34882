"""Half precision: decisions of float32 on every image, whoever scores what, and nothing claimed where it could not be held."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers._clip import encoder as encoder_module
from allfour.models.classifiers._clip.encoder import pick_dtype
from allfour.models.classifiers.base import TWICE
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.classifiers.clip_settings import ClipConfig
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.relabel import relabel
from allfour.pipeline.commands.rescore import rescore, rescore_rank
from allfour.pipeline.config import RunConfig, load_attributes
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.scoring import precision
from allfour.pipeline.scoring.closeness import in_doubt, leads
from allfour.pipeline.scoring.decisions import decide_all
from allfour.pipeline.scoring.parts import read_embeddings
from allfour.pipeline.scoring.precision import Doubt, Measured
from scripts.sandbox import world
from tests.pipeline.scoring.halves import IMAGES, SANDBOX, decisions, in_precision, made_in_half
from tests.places import REPOSITORY

RULES = {
    "margin": {"margin": 0.2},
    "none": {},
    "logit": {"margin_logit": 0.5},
    "warm": {"margin": 0.1, "temperature": 2.0},
}
"""Every way in which an attribute is decided."""


def questions(*, threshold: float = 0.6, labels: int = 4) -> AttributeSet:
    names = {f"l{n}": [f"word {n}"] for n in range(labels)}
    return AttributeSet.model_validate(
        {
            "presence": {"threshold": threshold, "labels": {"person": ["a person"], "no_person": ["a chair"]}},
            "headline": "margin",
            "attributes": {name: {"labels": names, **rule} for name, rule in RULES.items()},
        }
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("labels", [2, 4])
def test_a_decision_out_of_doubt_survives_every_error_within_the_band(labels: int) -> None:
    random, attributes, band = np.random.default_rng(labels), questions(labels=labels), 0.1
    sizes = {"presence": 2, **dict.fromkeys(RULES, labels)}
    logits = {name: random.normal(0, 0.6, (3000, size)) for name, size in sizes.items()}
    bands = {name: np.full((size, size), band, dtype=np.float32) for name, size in sizes.items()}
    tables = {name: softmax(table) for name, table in logits.items()}
    doubtful, before = in_doubt(tables, attributes, bands), decide_all(tables, attributes)
    assert 0.2 < doubtful.mean() < 0.8  # else nothing is shown
    changed = np.zeros(3000, dtype=bool)
    for trial in range(60):
        # a lead of two labels moves by at most the band; at its ends as often as between them
        moved = {name: random.uniform(-band / 2, band / 2, table.shape) for name, table in logits.items()}
        if trial % 2:
            moved = {name: np.sign(move) * band / 2 for name, move in moved.items()}
        after = decide_all({name: softmax(logits[name] + move) for name, move in moved.items()}, attributes)
        different = np.any([before[name].code != after[name].code for name in before], axis=0)
        assert not (different & ~doubtful).any()
        changed |= different
    assert (
        changed[doubtful].mean() > 0.7
    )  # what is in doubt mostly could be otherwise: the band is not drawn far too wide


def test_leads_are_differences_of_logits() -> None:
    logits = np.array([[1.0, 3.0, 0.5]])
    assert leads(softmax(logits))[0, 1] == pytest.approx([2.0, 0.0, 2.5], abs=1e-5)


# --- runs of the sandbox's CLIP ---------------------------------------------------------------------------------------


pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture(scope="module")
def twice(half_config: RunConfig, drawn_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("twice") / "run")
    rescore(half_config, str(drawn_archive), run, Reporter(quiet=True))
    return run


def test_decisions_are_those_of_float32(twice: RunFolder, full: RunFolder) -> None:
    assert decisions(twice) == decisions(full)
    facts = twice.header().stages["scores"].precision
    assert facts is not None
    assert facts["encoded"] == IMAGES  # a copy is encoded once
    assert 0 < facts["again"] < IMAGES / 2
    assert facts["half"] == IMAGES - facts["again"]
    assert 0 < facts["reach"] < 1
    one, two = (pq.read_table(run.scores_path)["probability"].to_numpy() for run in (twice, full))
    assert 0 < np.abs(one - two).max() < 0.05
    assert sum(made_in_half(twice)) - facts["half"] in (0, 1)  # and has the row of its twin, however that was made
    assert full.header().stages["scores"].precision is None
    assert "half" not in read_embeddings(next(full.embeddings_folder.glob("part-*.arrow"))).column_names
    encoder = (twice.header().classifier or {})["encoder"]
    assert encoder["dtype"] == TWICE
    assert encoder["tensors_sha256"] == (full.header().classifier or {})["encoder"]["tensors_sha256"]


def test_a_run_that_lost_parts_and_one_of_ranks_have_the_same_tables(
    half_config: RunConfig, twice: RunFolder, drawn_archive: Path, tmp_path: Path
) -> None:
    whole = twice.scores_path.read_bytes()
    again, spread = RunFolder(tmp_path / "again"), RunFolder(tmp_path / "spread")
    shutil.copytree(twice.path, again.path)
    lost = sorted(again.parts_folder.glob("part-*.json"))[1:]
    for path in [*lost, again.scores_path]:
        path.unlink()
    rescore(half_config, str(drawn_archive), again, Reporter(quiet=True))
    assert again.scores_path.read_bytes() == whole
    for rank in (1, 0):
        rescore_rank(half_config, str(drawn_archive), spread, Reporter(quiet=True), rank=rank, world_size=2)
    assert spread.scores_path.read_bytes() == whole
    assert len(list(spread.embeddings_folder.glob("precision-*.arrow"))) == 1


def test_other_margins_look_again_at_what_comes_into_doubt(
    half_config: RunConfig, twice: RunFolder, drawn_archive: Path, tmp_path: Path
) -> None:
    document = yaml.safe_load(Path(half_config.attributes.file).read_text())
    document["attributes"]["age"]["margin_logit"] *= 1.3
    moved = tmp_path / "moved.yaml"
    moved.write_text(yaml.safe_dump(document, sort_keys=False))
    other = half_config.model_copy(
        update={"attributes": half_config.attributes.model_copy(update={"file": str(moved)})}
    )
    run, full = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "full")
    shutil.copytree(twice.path, run.path)
    rescore(other, str(drawn_archive), run, Reporter(quiet=True))
    rescore(in_precision(other, "float32"), str(drawn_archive), full, Reporter(quiet=True))
    assert decisions(run) == decisions(full)


def test_relabelling_says_what_it_cannot_know(
    half_config: RunConfig, twice: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(Path(half_config.attributes.file).read_text())
    document["attributes"]["age"]["margin_logit"] *= 1.3
    moved = tmp_path / "moved.yaml"
    moved.write_text(yaml.safe_dump(document, sort_keys=False))
    out = RunFolder(tmp_path / "out")
    relabel(twice, str(moved), out, Reporter())
    facts = out.header().stages["scores"].precision
    assert facts is not None
    assert 0 < facts["in_doubt"] < facts["half"] == sum(made_in_half(twice))
    assert f"{facts['in_doubt']} of those lie so near a margin of this wording" in capsys.readouterr().err
    relabel(out, half_config.attributes.file, RunFolder(tmp_path / "back"), Reporter(quiet=True))
    back = RunFolder(tmp_path / "back").header().stages["scores"].precision
    assert back is not None
    assert back["in_doubt"] <= 2  # float16, in which embeddings are kept, may move one over the edge


def test_an_image_beyond_its_band_has_its_shard_scored_in_full(
    half_config: RunConfig, full: RunFolder, drawn_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "SAFETY", 0.2)
    run = RunFolder(tmp_path / "run")
    rescore(half_config, str(drawn_archive), run, Reporter(quiet=True))
    facts = run.header().stages["scores"].precision
    assert facts is not None
    assert facts["shards_in_full"] > 0
    assert facts["half"] < IMAGES
    assert decisions(run) == decisions(full)


def test_where_it_gains_nothing_all_is_float32(
    half_config: RunConfig, drawn_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "WORTH", 0.0)
    run = RunFolder(tmp_path / "run")
    rescore(half_config, str(drawn_archive), run, Reporter(quiet=True))
    assert not any(made_in_half(run))
    monkeypatch.setattr(precision, "FEWEST", IMAGES + 2)
    few = RunFolder(tmp_path / "few")
    rescore(half_config, str(drawn_archive), few, Reporter(quiet=True))
    assert few.scores_path.read_bytes() == run.scores_path.read_bytes()
    assert not list(few.embeddings_folder.glob("precision-*"))


def test_a_processor_without_such_units_encodes_in_float32(
    half_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "has_bfloat16_units", lambda: False)
    attributes = load_attributes(half_config.attributes.file)
    clip = half_config.classifier.build(attributes=attributes)
    assert isinstance(clip, ClipClassifier)
    assert not clip.encodes_in_half
    assert clip.encoder_identity()["dtype"] == "float32"


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ClassifierError, match=r"works on CPUs only, and the encoder runs on cuda. Use 'auto'"):
        pick_dtype(TWICE, torch.device("cuda"))
    attributes = AttributeSet.model_validate(
        {"attributes": {"gender": {"stability": True, "labels": {"woman": ["a woman"], "man": ["a man"]}}}}
    )
    with pytest.raises(ClassifierError, match=r"cannot be used with attributes\.gender\.stability"):
        ClipConfig(backend="clip", pretrained=str(SANDBOX), dtype=TWICE).refuse_unanswerable(attributes)


def test_what_was_measured_is_not_read_where_a_bit_has_changed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    measured = Measured(*(random.normal(size=(8, 4)).astype(np.float32) for _ in range(2)))
    path = tmp_path / "precision-x.arrow"
    path.write_bytes(measured.data())
    found = Measured.load(path)
    assert found is not None
    assert (found.half == measured.half).all()
    data = bytearray(measured.data())
    at = data.find(measured.half.tobytes()[:8])
    data[at] ^= 1
    path.write_bytes(bytes(data))
    assert Measured.load(path) is None
    assert Measured.load(tmp_path / "nowhere") is None


def test_a_band_is_the_largest_difference_with_room(half_on_few: None) -> None:
    attributes = load_attributes(REPOSITORY / "configs" / "attributes" / "sandbox.yaml")
    clip = ClipClassifier(attributes=attributes, model=None, pretrained=str(SANDBOX), device="cpu", dtype=TWICE)
    pixels = np.stack(
        [clip.prepare(Image.fromarray(world.draw(world.sample_balanced(820_000_000 + n)))) for n in range(16)]
    )
    half, full = clip.encode_in_half(pixels), clip.encode(pixels)
    assert 0 < np.abs(half - full).max() < 0.02
    doubt = Doubt(clip, Measured(half, full))
    assert doubt.reach(half, full) == pytest.approx(1 / precision.SAFETY, rel=1e-5)
    assert all((band == band.T).all() and (np.diagonal(band) == 0).all() for band in doubt.bands.values())
