"""Several processes generate into one run folder: the tables of one process, no image twice, whoever dies."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from allfour.errors import RunFolderError, UsageError
from allfour.pipeline.commands import audit as audit_module
from allfour.pipeline.commands import build as build_module
from allfour.pipeline.commands.audit_ranks import GenerationRankSummary, audit_rank
from allfour.pipeline.commands.job import RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig, load_config
from allfour.pipeline.generation.plan import make_plan
from allfour.pipeline.run.folder import RunFolder
from tests import light_processes
from tests.light_backends import LightAheadGenerator, LightClassifier
from tests.places import REPOSITORY

QUIET = Reporter(quiet=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A config of 3 prompts x 8 images: 6 sets of 4."""
    (tmp_path / "prompts.yaml").write_text(
        "name: p\nprompts: [{id: nurse, text: a nurse}, {id: maestro, text: a maestro}, {id: captain, text: a captain}]\n"
    )
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    path = tmp_path / "config.yaml"
    path.write_text(
        f"prompts: {{file: {tmp_path}/prompts.yaml, images_per_prompt: 8}}\ngenerator: {{backend: portrait-renderer}}\n"
        f"classifier: {{backend: face}}\nattributes: {{file: {tmp_path}/attributes.yaml}}\n"
    )
    return path


@pytest.fixture
def config(file: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr(build_module, "build_generator", lambda config, run: LightAheadGenerator())
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: LightClassifier(attributes))
    return load_config(file)


def tables(run: Path) -> tuple[Any, ...]:
    return (
        pq.read_table(run / "images.parquet").to_pylist(),
        pq.read_table(run / "scores.parquet").to_pylist(),
        json.loads((run / "metrics.json").read_text()),
        (run / "prompts.csv").read_text(),
        {path.name: path.read_bytes() for path in sorted(run.glob("images/*/*"))},
    )


def start(file: Path, run: Path, rank: int | None, world_size: int = 2, **environment: Any) -> light_processes.Running:
    ranks = [] if rank is None else ["--rank", rank, "--world-size", world_size]
    return light_processes.start("audit", "--config", file, "--run", run, *ranks, **environment)


def end(process: light_processes.Running) -> tuple[int, str]:
    done = process.wait()
    return done.returncode, done.stdout + done.stderr


def test_shares_are_whole_sets_and_make_the_plan(config: RunConfig) -> None:
    plan = make_plan(config)
    for world_size in (1, 2, 4, 7):
        shares = [plan.share(rank=rank, world_size=world_size, set_size=4).requests for rank in range(world_size)]
        assert sorted((r for share in shares for r in share), key=plan.requests.index) == list(plan.requests)
        assert all(len(share) % 4 == 0 for share in shares)
        assert max(map(len, shares)) - min(map(len, shares)) <= 4
    with pytest.raises(UsageError, match="ranks run from 0"):
        plan.share(rank=2, world_size=2, set_size=4)


def test_two_processes_make_the_run_of_one(file: Path, tmp_path: Path) -> None:
    whole, run, made = tmp_path / "whole", tmp_path / "run", tmp_path / "made"
    code, output = end(start(file, whole, None))
    assert code == 3, output
    ranks = [start(file, run, rank, MADE=made, PAUSE=0.05) for rank in range(2)]
    ended = [end(process) for process in ranks]
    assert sorted(code for code, _ in ended) in ([0, 3], [3, 3])  # the one that ends the run names the refused image
    assert tables(run) == tables(whole)
    assert set(Counter(made.read_text().split()).values()) == {1}
    headers = [json.loads((run / "ranks" / f"rank-{rank}-of-2.json").read_text()) for rank in range(2)]
    assert [header["images"] for header in headers] == [12, 12]
    assert not list(run.rglob(".tmp-*"))


def test_a_killed_rank_is_started_again_by_another_world_size(file: Path, tmp_path: Path) -> None:
    whole, run, made = tmp_path / "whole", tmp_path / "run", tmp_path / "made"
    end(start(file, whole, None))
    assert end(start(file, run, 0, MADE=made, KILL_AT=20))[0] == -signal.SIGKILL
    assert "images of other ranks are not done" in end(start(file, run, 1, MADE=made))[1]
    for rank in range(3):  # three go on where two began
        code, output = end(start(file, run, rank, 3, MADE=made))
    assert code == 3, output
    assert tables(run) == tables(whole)
    # at most the one image that was in hand when the process was killed is made again
    assert sum(times > 1 for times in Counter(made.read_text().split()).values()) <= 1


def test_a_run_without_ranks_ends_what_ranks_left(config: RunConfig, tmp_path: Path) -> None:
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    audit_module.audit(config, whole, QUIET)
    found = audit_rank(config, run, QUIET, rank=1, world_size=2)
    assert isinstance(found, GenerationRankSummary)
    assert (found.generated, found.images_left) == (12, 12)
    assert not run.header_path.exists()  # a rank writes files of its own alone
    summary = audit_module.audit(config, run, QUIET)
    assert summary.work["generated"] == 12
    assert tables(run.path) == tables(whole.path)
    again = audit_rank(config, run, QUIET, rank=0, world_size=2)
    assert isinstance(again, RunSummary)
    assert again.work == {"generated": 0, "scored": 0}


def test_ranks_keep_apart(config: RunConfig, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.lock(), pytest.raises(RunFolderError, match="another allfour process"):
        audit_rank(config, run, QUIET, rank=0, world_size=2)

    class Nested(LightAheadGenerator):
        """Starts further ranks while it is at work."""

        def generate_ahead(self, requests: Any) -> Any:
            build_module.build_generator = lambda config, run: LightAheadGenerator()  # type: ignore[assignment]
            with pytest.raises(RunFolderError, match="another rank or run folder"):
                audit_rank(config, run, QUIET, rank=0, world_size=2)
            with pytest.raises(RunFolderError, match="ranks of --world-size 2 are at work"):
                audit_rank(config, run, QUIET, rank=0, world_size=3)
            with pytest.raises(RunFolderError, match="another allfour process"):
                audit_module.audit(config, run, QUIET)
            yield from super().generate_ahead(requests)

    build_module.build_generator = lambda config, run: Nested()  # type: ignore[assignment]
    audit_rank(config, run, QUIET, rank=0, world_size=2)
    assert isinstance(audit_rank(config, run, QUIET, rank=2, world_size=3), GenerationRankSummary)


def test_a_rank_that_comes_while_another_ends_the_run_has_nothing_to_do(config: RunConfig, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    audit_rank(config, run, QUIET, rank=0, world_size=2)
    with run.lock(), pytest.raises(RunFolderError, match="another allfour process"):
        audit_rank(config, run, QUIET, rank=1, world_size=2)
    audit_rank(config, run, QUIET, rank=1, world_size=2)
    with run.lock():
        found = audit_rank(config, run, QUIET, rank=1, world_size=2)
    assert isinstance(found, GenerationRankSummary)
    assert (found.generated, found.images_left) == (0, 0)


def test_images_that_went_as_a_rank_was_about_to_end_the_run_are_left(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were there when it looked, and are not when it holds the folder: a rank with --overwrite came between."""
    run, lock = RunFolder(tmp_path / "run"), RunFolder.lock

    def as_another_overwrites(self: RunFolder, *, shared: bool = False) -> Any:
        if not shared:
            next(run.images_folder.glob("*/*")).write_bytes(b"of another request")
        return lock(self, shared=shared)

    monkeypatch.setattr(RunFolder, "lock", as_another_overwrites)
    audit_rank(config, run, QUIET, rank=0, world_size=2)
    found = audit_rank(config, run, QUIET, rank=1, world_size=2)
    assert isinstance(found, GenerationRankSummary) and found.images_left == 1
    assert not run.images_path.exists() and not run.header_path.exists()


def test_what_ranks_are_not_for(config: RunConfig, file: Path, tmp_path: Path) -> None:
    hosted = load_config(file, ["generator={backend: openai-images, model: m, base_url: 'http://127.0.0.1:9'}"])
    with pytest.raises(UsageError, match=r"generator\.concurrency"):
        audit_rank(hosted, RunFolder(tmp_path / "run"), QUIET, rank=0, world_size=2)
    run = RunFolder(tmp_path / "other")
    run.update_header(kind="rescore")
    with pytest.raises(RunFolderError, match="is a run of `allfour rescore`"):
        audit_rank(config, run, QUIET, rank=0, world_size=2)
    done = light_processes.run("audit", "--config", file, "--rank", 0)
    assert done.returncode == 2
    assert "--rank and --world-size belong together" in done.stderr


@pytest.mark.skipif(
    not (REPOSITORY / "models/sandbox/diffusion/model_index.json").exists(),
    reason="the sandbox's weights are not there",
)
def test_the_sandbox_in_two_ranks(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: LightClassifier(attributes))
    options = "backend: stable-diffusion, model: models/sandbox/diffusion, steps: 3, guidance_scale: 1.0, batch_size: 4"
    config = load_config(file, [f"generator={{{options}, device: cpu}}", "prompts.images_per_prompt=4"])
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    audit_module.audit(config, whole, QUIET)
    audit_rank(config, run, QUIET, rank=0, world_size=2)
    assert isinstance(audit_rank(config, run, QUIET, rank=1, world_size=2), RunSummary)
    assert tables(run.path) == tables(whole.path)  # sets are the batches of both
