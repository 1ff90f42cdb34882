"""Engines: identical tables wherever scoring runs; shards that kill their workers are set aside and nothing else is lost."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import json
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from allfour.errors import ClassifierError, RunFolderError, UsageError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import PersonScores
from allfour.pipeline.archives import open_source
from allfour.pipeline.commands import build as build_module
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.job import RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.rescore import RankSummary
from allfour.pipeline.config import RunConfig, load_attributes
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.journal import RunFolderBusyError
from allfour.pipeline.scoring.engines import DEATHS, Worker, ray_cluster, share_of
from allfour.pipeline.scoring.engines.base import SET_ASIDE, ScoringJob, part_store
from tests import light_processes
from tests.light_backends import picture
from tests.places import REPOSITORY

QUIET = Reporter(quiet=True)


class Reddish:
    """Reads a picture's mean red as the probability of `woman`; dies of a picture of the size 13 x 13 as often as it is told."""

    def __init__(self, attributes: AttributeSet, *, deaths: Path | None = None, times: int = 0) -> None:
        self.attributes, self._deaths, self._times = attributes, deaths, times

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "reddish"}

    def classify(self, image: Image.Image) -> Sequence[PersonScores]:
        if image.size == (13, 13) and self._deaths is not None:
            died = len(self._deaths.read_text()) if self._deaths.exists() else 0
            if died < self._times:
                self._deaths.write_text("x" * (died + 1))
                os.kill(os.getpid(), signal.SIGKILL)
        p = float(np.asarray(image)[..., 0].mean()) / 255
        return [PersonScores({"gender": {"woman": p, "man": 1 - p}})]


def reddish(config: RunConfig, attributes: AttributeSet, *, deaths: Path | None = None, times: int = 0) -> Reddish:
    return Reddish(attributes, deaths=deaths, times=times)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr(build_module, "build_classifier", reddish)
    file = tmp_path / "attributes.yaml"
    file.write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    return RunConfig.model_validate(
        {
            "classifier": {"backend": "face"},
            "attributes": {"file": str(file)},
            "archive": {"shard_size": 3},
            "scoring": {"actors": 2, "workers": 2},
        }
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """14 images in 5 shards, one of them broken."""
    folder = tmp_path / "images"
    for number in range(14):
        (folder / f"p{number % 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"p{number % 3}" / f"{number}.png").write_bytes(picture(number) if number != 4 else b"no image")
    return folder


def poison(folder: Path) -> None:
    """An image that its reader dies of."""
    Image.new("RGB", (13, 13), (250, 0, 0)).save(folder / "p1" / "1.png")


def tables(run: Path) -> tuple[Any, ...]:
    return (
        pq.read_table(run / "images.parquet").to_pylist(),
        pq.read_table(run / "scores.parquet").to_pylist(),
        json.loads((run / "metrics.json").read_text()),
        (run / "prompts.csv").read_text(),
    )


def rescore(config: RunConfig, images: Path, run: Path, **options: Any) -> RunSummary:
    return rescore_module.rescore(config, str(images), RunFolder(run), QUIET, **options)


def test_ranks_make_the_tables_of_one_process(config: RunConfig, images: Path, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", RunFolder(tmp_path / "run")
    rescore(config, images, whole)
    for rank in range(2):
        found = rescore_module.rescore_rank(config, str(images), run, QUIET, rank=rank, world_size=3)
        assert isinstance(found, RankSummary)
        assert found.shards_left > 0
        assert not run.header_path.exists()  # a rank writes files of its own alone
    last = rescore_module.rescore_rank(config, str(images), run, QUIET, rank=2, world_size=3)
    assert isinstance(last, RunSummary)
    assert last.missing == 1
    assert tables(run.path) == tables(whole)
    assert sorted(p.name for p in run.ranks_folder.glob("rank-*")) == [f"rank-{r}-of-3.json" for r in range(3)]


class InPrecision(Reddish):
    """As one that takes what suits the machine, where nothing is written."""

    def __init__(self, attributes: AttributeSet, dtype: str) -> None:
        super().__init__(attributes)
        self._dtype = dtype

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "reddish", "encoder": {"dtype": self._dtype}}


def test_a_worker_of_ray_in_another_precision_reads_nothing(config: RunConfig, images: Path, tmp_path: Path) -> None:
    attributes = load_attributes(config.attributes.file)
    source = rescore_module.open_archive(str(images), config)
    job = ScoringJob(
        run=tmp_path / "run", source=source, config=config.scoring, build=lambda: InPrecision(attributes, "float16")
    )
    actor = ray_cluster._Actor(job, InPrecision(attributes, "float32").identity())
    with pytest.raises(ClassifierError, match=r"--engine ray: .*--set classifier\.dtype=float32, or float16"):
        actor.score(next(iter(source.shards())))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("links", [True, False], ids=["", "on a disk without links"])
def test_a_rank_in_another_precision_than_the_first_is_told_before_it_reads(
    config: RunConfig, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_link)

    def rank(number: int, dtype: str) -> Any:
        monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: InPrecision(attributes, dtype))
        return rescore_module.rescore_rank(
            config, str(images), RunFolder(tmp_path / "run"), QUIET, rank=number, world_size=2
        )

    rank(0, "float16")
    with pytest.raises(ClassifierError, match=r"--rank: .*--set classifier\.dtype=float16, or float32"):
        rank(1, "float32")
    assert isinstance(rank(1, "float16"), RunSummary)


def test_ranks_at_the_same_time(config: RunConfig, images: Path, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    rescore(config, images, whole)
    found: list[RankSummary | RunSummary] = []

    def one(rank: int) -> None:
        found.append(rescore_module.rescore_rank(config, str(images), RunFolder(run), QUIET, rank=rank, world_size=3))

    ranks = [threading.Thread(target=one, args=(rank,)) for rank in range(3)]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    assert sum(isinstance(each, RunSummary) for each in found) >= 1
    assert tables(run) == tables(whole)


def test_a_rank_that_comes_while_another_ends_the_run_has_nothing_to_do(
    config: RunConfig, images: Path, tmp_path: Path
) -> None:
    """As all do where an array of tasks is started again; while there is something left, whoever holds the run is in the way."""
    run = RunFolder(tmp_path / "run")

    def late() -> RankSummary | RunSummary:
        return rescore_module.rescore_rank(config, str(images), run, QUIET, rank=1, world_size=2)

    rescore_module.rescore_rank(config, str(images), run, QUIET, rank=0, world_size=2)
    with run.lock(), pytest.raises(RunFolderBusyError, match="another allfour process"):
        late()
    late()
    with run.lock():
        found = late()
    assert isinstance(found, RankSummary)
    assert (found.scored, found.shards_left) == (0, 0)


def test_a_run_without_ranks_finishes_what_ranks_left(config: RunConfig, images: Path, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    rescore(config, images, whole)
    rescore_module.rescore_rank(config, str(images), RunFolder(run), QUIET, rank=1, world_size=2)
    rest = rescore(config, images, run)
    assert 0 < rest.work["scored"] < 14
    assert tables(run) == tables(whole)


def test_ranks_and_a_whole_run_keep_apart(config: RunConfig, images: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.lock(), pytest.raises(RunFolderError, match="another allfour process"):
        rescore_module.rescore_rank(config, str(images), run, QUIET, rank=0, world_size=2)
    with run.lock(shared=True), run.lock(shared=True), pytest.raises(RunFolderError, match="another allfour process"):
        rescore(config, images, run.path)


def test_no_such_rank(config: RunConfig, images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ranks run from 0"):
        share_of([], rank=2, world_size=2)


def install_dying(deaths: Path, times: int) -> None:
    build_module.build_classifier = functools.partial(reddish, deaths=deaths, times=times)


@pytest.fixture
def command(tmp_path: Path, config: RunConfig) -> Callable[..., int]:
    """`allfour rescore` in a process of its own, whose classifier dies so many times; gives the exit code."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config.model_dump(mode="json", exclude_none=True)))

    def start(images: Path, run: Path, *, times: int) -> int:
        dying = functools.partial(install_dying, tmp_path / "deaths", times)
        return light_processes.run("rescore", images, "--config", file, "--run", run, before=dying).returncode

    return start


def test_a_shard_that_kills_its_worker_is_set_aside(
    config: RunConfig, images: Path, tmp_path: Path, command: Callable[..., int]
) -> None:
    rescore(config, images, tmp_path / "whole")
    poison(images)
    run = tmp_path / "run"
    for _ in range(DEATHS):
        assert command(images, run, times=99) == -signal.SIGKILL
    assert command(images, run, times=99) == 3  # done, with images missing
    good, bad = [], []
    for row in pq.read_table(run / "images.parquet").to_pylist():
        (bad if row["error"] == SET_ASIDE else good).append((row["prompt_id"], row["index"]))
    assert len(bad) == 3  # the shard's images, each by name
    assert len(good) == 11
    expected = [r for r in tables(tmp_path / "whole")[1] if (r["prompt_id"], r["index"]) in good]
    found = pq.read_table(run / "scores.parquet").to_pylist()
    assert [r for r in found if (r["prompt_id"], r["index"]) in good] == expected
    assert {r["decision"] for r in found if (r["prompt_id"], r["index"]) in bad} == {"unreadable"}
    assert not list(run.rglob("*.attempts.json"))


def test_listing_that_kills_too_leaves_one_row(config: RunConfig, images: Path, tmp_path: Path) -> None:
    classifier = Reddish(
        AttributeSet.model_validate({"attributes": {"gender": {"labels": {"woman": ["w"], "man": ["m"]}}}})
    )
    source = open_source(str(images), options=rescore_module.archive_options(config))
    shard = next(iter(source.shards()))
    store = part_store(tmp_path / "run", classifier, config.scoring)
    path = tmp_path / "run" / "parts" / f"part-{shard.id}.attempts.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"fingerprint": store.wanted(shard.fingerprint), "attempts": DEATHS + 1}))
    worker = Worker(
        ScoringJob(run=tmp_path / "run", source=source, config=config.scoring, build=lambda: classifier), classifier
    )
    assert worker.score(shard) == 1
    row = pq.read_table(store.images_path(shard.id)).to_pylist()[0]
    assert row["error"] == SET_ASIDE
    assert row["path"] == f"shard {shard.id}, 3 images"
    path.write_text("{}")  # of a process that was killed right after its commit
    store.merge([shard.id], images=True)
    assert not path.exists()


def test_workers_that_are_at_work_have_not_died(config: RunConfig, images: Path, tmp_path: Path) -> None:
    """As where one rank was started on every node."""
    classifier = Reddish(load_attributes(config.attributes.file))
    source = rescore_module.open_archive(str(images), config)
    shard = next(iter(source.shards()))
    store = part_store(tmp_path / "run", classifier, config.scoring)
    with contextlib.ExitStack() as at_work:
        for _ in range(DEATHS + 2):
            assert store.deaths(shard) == 0
            at_work.enter_context(store.attempt(shard))
    assert not list((tmp_path / "run").rglob("*.attempts.json"))


def test_an_error_is_no_death(config: RunConfig, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Reddish):
        def classify(self, image: Image.Image) -> Sequence[PersonScores]:
            raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: Failing(attributes))
    for _ in range(DEATHS + 1):
        with pytest.raises(KeyboardInterrupt):
            rescore(config, images, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.attempts.json"))


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'allfour[ray]'")
def test_ray_makes_the_tables_of_one_process_though_an_actor_dies(
    config: RunConfig, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    poison(images)
    rescore(config, images, tmp_path / "whole")
    deaths = tmp_path / "deaths"
    monkeypatch.setattr(build_module, "build_classifier", functools.partial(reddish, deaths=deaths, times=1))
    found = rescore(config, images, tmp_path / "run", engine_name="ray")
    assert deaths.read_text() == "x"
    assert found.work == {"scored": 14}
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")
