"""Processes that feed one encoder: the tables of one process, whatever becomes of a process."""

from __future__ import annotations

import contextlib
import errno
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import PIECE, Classifier
from allfour.models.classifiers.clip import ClipClassifier
from allfour.pipeline.archives import ArchiveOptions, open_source
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.scoring.engines import feeders
from allfour.pipeline.scoring.engines.base import DEATHS, SET_ASIDE, ScoringJob, part_store
from allfour.pipeline.scoring.engines.feeders import SHARDS_THAT_PAY, feeders_that_pay, threads_each
from allfour.pipeline.scoring.engines.local import LocalEngine
from allfour.pipeline.scoring.staged import Preparation
from tests import forked_feeders
from tests.lent_classifier import DEADLY, FAULTY, Lent
from tests.light_backends import picture
from tests.places import REPOSITORY

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs memory without a name: Linux")

ATTRIBUTES = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"woman": ["w"], "man": ["m"]}}}})
ONE = ScoringConfig(batch_size=2, workers=1, processes=1)
TWO = ScoringConfig(batch_size=2, workers=2, processes=2)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that feed start without importing anything; without this fixture each is a Python of its own, as in use."""
    monkeypatch.setattr(feeders.subprocess, "Popen", forked_feeders.Popen)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """14 images in 5 shards: one broken, two the same."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    folder = tmp_path / "images"
    for number in range(14):
        (folder / f"p{number % 3}").mkdir(parents=True, exist_ok=True)
        data = picture(min(number, 12)) if number != 4 else b"no image"
        (folder / f"p{number % 3}" / f"{number}.png").write_bytes(data)
    return folder


def score(
    images: Path, run: Path, config: ScoringConfig, classifier: Classifier, advance: Any = lambda count: None
) -> int:
    source = open_source(str(images), options=ArchiveOptions(shard_size=3))
    job = ScoringJob(run=run, source=source, config=config, build=lambda: classifier)
    return LocalEngine().score(job, list(source.shards()), classifier=classifier, advance=advance)


def tables(run: Path) -> list[Any]:
    return [(path.name, pq.read_table(path).to_pylist()) for path in sorted(run.rglob("*.parquet"))]


@pytest.mark.usefixtures("forked")
def test_tables_are_those_of_one_process_though_a_process_dies(images: Path, tmp_path: Path) -> None:
    Image.new("RGB", DEADLY, (250, 0, 0)).save(images / "p1" / "1.png")
    deaths, finished = tmp_path / "deaths", list[int]()
    score(images, tmp_path / "whole", ONE, Lent(ATTRIBUTES))
    here = Lent(ATTRIBUTES, deaths=deaths, times=1)
    assert score(images, tmp_path / "run", TWO, here, finished.append) == 14
    assert deaths.read_text() == "x"
    assert set(here.batches) == {2}
    assert sum(finished) >= 14
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")
    embeddings = [p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.arrow")]
    assert len(embeddings) == 5
    for path in embeddings:
        assert (tmp_path / "run" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()
    assert not list((tmp_path / "run").rglob("*.attempts.json"))


@pytest.mark.parametrize("config", [ONE, TWO], ids=["one process", "two feed"])
def test_pictures_of_one_size_go_as_they_were_decoded(images: Path, tmp_path: Path, config: ScoringConfig) -> None:
    """Those of the size of a shard's first; the others, all where sizes are mixed, and those too large are resized before."""
    resized_here = Lent(ATTRIBUTES)
    resized_here.takes = lambda height, width: False  # type: ignore[method-assign]
    for number in (2, 7, 8):
        Image.effect_noise((30 + number, 20), 90).convert("RGB").save(images / f"p{number % 3}" / f"{number}.png")
    score(images, tmp_path / "before", ONE, resized_here)
    assert not resized_here.as_decoded
    lent = Lent(ATTRIBUTES)
    score(images, tmp_path / "run", config, lent)
    assert lent.as_decoded
    assert set(lent.batches) == {2}
    assert tables(tmp_path / "run") == tables(tmp_path / "before")


def test_a_real_encoder_resizes_and_travels(images: Path, tmp_path: Path, tiny_clip: Path) -> None:
    """As one on a GPU does; scripts/gpu_check.py has processes feed one there."""

    def as_on_a_gpu(*, resizes: bool) -> ClipClassifier:
        found = ClipClassifier(attributes=ATTRIBUTES, model=None, pretrained=str(tiny_clip))
        found._encoder.on_cpu, found._encoder.on_gpu = False, resizes
        return found

    for number in (0, 1, 5, 9):
        Image.effect_noise((90, 60), 90).convert("RGB").save(images / f"p{number % 3}" / f"{number}.png")
    score(images, tmp_path / "before", ONE, as_on_a_gpu(resizes=False))
    there = as_on_a_gpu(resizes=True)
    score(images, tmp_path / "run", ONE, there)
    assert (60, 90) in there._encoder._on_device._resizes
    assert tables(tmp_path / "run") == tables(tmp_path / "before")
    lent = pickle.loads(pickle.dumps(there.lend()))
    assert lent.identity() == there.identity()
    assert lent.takes(60, 90)
    assert lent._encoder.model is None


def test_which_pictures_go_as_they_were_decoded() -> None:
    def sizes_of(*sizes: int, height: int = 9, takes: bool = True) -> str:
        lent = Lent(ATTRIBUTES)
        lent.takes = lambda height, width: takes  # type: ignore[method-assign]
        preparation = Preparation(lent)
        shapes = [preparation(Image.new("RGB", (size, height))).inputs[0].shape for size in sizes]
        return "".join("." if shape == lent.input_shape else "x" for shape in shapes)

    assert sizes_of(9, 8, 9, 7, 9) == "x.x.x"
    assert sizes_of(*range(9, 40), 9, 9, 9) == "x" + "." * 30 + "x.."  # of 32 two have the first one's size
    assert sizes_of(9, 9, takes=False) == ".."
    assert sizes_of(900, 900, height=PIECE // 2000) == ".."  # too large


@pytest.mark.usefixtures("forked")
def test_a_shard_that_kills_every_process_is_set_aside(images: Path, tmp_path: Path) -> None:
    Image.new("RGB", DEADLY, (250, 0, 0)).save(images / "p1" / "1.png")
    store, parts = part_store(tmp_path / "run", Lent(ATTRIBUTES), TWO), tmp_path / "run" / "parts"
    parts.mkdir(parents=True)
    for shard in open_source(
        str(images), options=ArchiveOptions(shard_size=3)
    ).shards():  # all but the last time are over
        before = {"fingerprint": store.wanted(shard.fingerprint), "attempts": DEATHS - 1}
        (parts / f"part-{shard.id}.attempts.json").write_text(json.dumps(before))
    assert score(images, tmp_path / "run", TWO, Lent(ATTRIBUTES, deaths=tmp_path / "deaths", times=99)) == 14
    assert (tmp_path / "deaths").read_text() == "x"
    errors = [row["error"] for name, rows in tables(tmp_path / "run") if "images" in name for row in rows]
    assert errors.count(SET_ASIDE) == 3


@pytest.mark.usefixtures("forked")
def test_an_end_is_no_death(images: Path, tmp_path: Path) -> None:
    """What stands at Ctrl-C is kept, what was under way takes its attempt back, and the next command goes on."""
    run = tmp_path / "run"

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(images, run, TWO, Lent(ATTRIBUTES), stop)
    assert not list(run.rglob("*.attempts.json"))


@pytest.mark.usefixtures("forked")
def test_a_fault_is_raised_where_the_command_runs(images: Path, tmp_path: Path) -> None:
    Image.new("RGB", FAULTY).save(images / "p1" / "1.png")
    with pytest.raises(RuntimeError, match="a fault"):
        score(images, tmp_path / "run", TWO, Lent(ATTRIBUTES))
    assert not list((tmp_path / "run").rglob("*.attempts.json"))


def memories() -> set[str]:
    """Open files of this process that are memory shared with one that feeds."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that by which the folder is read
            if "memfd:allfour" in str(path.readlink()):
                found.add(path.name)
    return found


@pytest.mark.usefixtures("forked")
def test_a_process_that_cannot_be_started_leaves_none_behind(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen, started = feeders.subprocess.Popen, list[Any]()

    def no_second(*arguments: Any, **options: Any) -> Any:
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(popen(*arguments, **options))
        return started[0]

    monkeypatch.setattr(feeders.subprocess, "Popen", no_second)
    before = memories()
    with pytest.raises(BlockingIOError):
        score(images, tmp_path / "run", TWO, Lent(ATTRIBUTES))
    assert started[0].returncode is not None
    assert memories() <= before


def test_when_processes_pay() -> None:
    lent = Lent(ATTRIBUTES)
    many = ScoringConfig(workers=16)
    assert feeders_that_pay(lent, many, SHARDS_THAT_PAY) == SHARDS_THAT_PAY
    assert feeders_that_pay(lent, many, 1000) == 20
    assert feeders_that_pay(lent, many, SHARDS_THAT_PAY - 1) == 0
    assert feeders_that_pay(lent, ScoringConfig(workers=1), 1000) == 0
    assert feeders_that_pay(lent, ScoringConfig(workers=16, processes=1), 1000) == 0
    assert [threads_each(many, count) for count in (4, 8, 12, 16)] == [4, 2, 0, 0]
    lent.lendable = False
    assert feeders_that_pay(lent, ScoringConfig(workers=16, processes=4), 1000) == 0


def test_manifests_are_those_of_one_process(images: Path, tmp_path: Path) -> None:
    store = part_store(tmp_path / "run", Lent(ATTRIBUTES), ONE)
    assert store.scoring_fingerprint == part_store(tmp_path, Lent(ATTRIBUTES).lend(), TWO).scoring_fingerprint
    assert json.dumps(Lent(ATTRIBUTES).lend().identity())
