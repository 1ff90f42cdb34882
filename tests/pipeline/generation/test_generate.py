"""Stage 1: every request one row, what stands is never made again, and nothing is lost."""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from allfour.errors import BackendError, ConfigError
from allfour.models.generators.base import Failed, Generated, GenerationRequest, Outcome, image_seed
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.existing import _valid, request_fingerprint
from allfour.pipeline.generation.generate import generate_images
from allfour.pipeline.generation.plan import Plan, make_plan
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.outcome import Outcome as Line
from tests.light_backends import LightAheadGenerator, LightGenerator, picture


def plan(tmp_path: Path, images: int = 4, **prompts: Any) -> Plan:
    path = tmp_path / "prompts.yaml"
    path.write_text(
        "name: p\nprompts:\n  - {id: nurse, text: a nurse, group: she}\n  - {id: maestro, text: a maestro}\n"
    )
    config = RunConfig.model_validate(
        {"classifier": {"backend": "face"}, "prompts": {"file": str(path), "images_per_prompt": images, **prompts}}
    )
    return make_plan(config)


def rows(run: RunFolder) -> list[dict[str, Any]]:
    return pq.read_table(run.images_path).to_pylist()


class Recording(LightGenerator):
    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        requests = list(requests)
        self.asked = [r.key for r in requests]
        yield from super().generate(requests)


def test_every_request_is_a_row(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    result = generate_images(run, plan(tmp_path), LightGenerator())
    assert (result.made, result.kept) == (8, 0)
    found = rows(run)
    assert [(r["prompt_id"], r["index"]) for r in found] == [(p, i) for p in ("nurse", "maestro") for i in range(4)]
    assert [r["status"] for r in found].count("refused") == 1
    assert found[6]["code"] == "content_policy_violation"
    assert found[0]["group"] == "she"
    assert found[0]["seed"] == image_seed(0, "nurse", 0)
    assert (found[0]["width"], found[0]["height"]) == (40, 40)
    assert (run.path / found[0]["path"]).read_bytes() == picture(found[0]["seed"])  # untouched
    assert dict(found[0]["extra"]) == {"note": "x"}


def test_a_second_run_asks_for_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    generate_images(run, plan(tmp_path), LightGenerator())
    before = rows(run)
    again = Recording()
    assert generate_images(run, plan(tmp_path), again).kept == 8
    assert again.asked == []
    assert rows(run) == before


def test_more_images_keep_those_that_stand(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    generate_images(run, plan(tmp_path), LightGenerator())
    again = Recording()
    generate_images(run, plan(tmp_path, images=6), again)
    assert again.asked == [("nurse", 4), ("nurse", 5), ("maestro", 4), ("maestro", 5)]
    assert len(rows(run)) == 12


@pytest.mark.parametrize("damage", ["delete", "change"])
def test_a_lost_or_changed_file_is_made_again(tmp_path: Path, damage: str) -> None:
    run = RunFolder(tmp_path / "run")
    generate_images(run, plan(tmp_path), LightGenerator())
    victim = run.images_folder / "nurse" / "1.png"
    good = victim.read_bytes()
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes(b"other")
    again = Recording()
    generate_images(run, plan(tmp_path), again)
    assert again.asked == [("nurse", 1)]
    assert victim.read_bytes() == good


def test_another_generator_makes_its_own_images(tmp_path: Path) -> None:
    class Other(Recording):
        def identity(self) -> dict[str, Any]:
            return {"backend": "other"}

    run = RunFolder(tmp_path / "run")
    generate_images(run, plan(tmp_path), LightGenerator())
    other = Other()
    generate_images(run, plan(tmp_path), other)
    assert len(other.asked) == 8


def test_what_stands_before_a_fatal_error_is_kept(tmp_path: Path) -> None:
    class NoQuota(LightGenerator):
        def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
            for number, outcome in enumerate(super().generate(requests)):
                if number == 3:
                    raise BackendError("no quota")
                yield outcome

    run = RunFolder(tmp_path / "run")
    with pytest.raises(BackendError, match="no quota"):
        generate_images(run, plan(tmp_path), NoQuota())
    again = Recording()
    assert generate_images(run, plan(tmp_path), again).kept == 3
    assert len(again.asked) == 5


def test_failures_are_asked_for_again_and_refusals_are_not(tmp_path: Path) -> None:
    class Failing(LightGenerator):
        def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
            for outcome in super().generate(requests):
                yield Failed(outcome.request, error="500") if outcome.request.index == 0 else outcome

    run = RunFolder(tmp_path / "run")
    generate_images(run, plan(tmp_path), Failing())
    assert [r["status"] for r in rows(run)].count("failed") == 2
    again = Recording()
    generate_images(run, plan(tmp_path), again)
    assert again.asked == [("nurse", 0), ("maestro", 0)]
    assert [r["status"] for r in rows(run)].count("failed") == 0


def test_lies_of_a_generator(tmp_path: Path) -> None:
    class Garbage(LightGenerator):
        def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
            for request in requests:
                if request.index == 3:
                    return  # stops early
                yield Generated(request, data=b"<html>503</html>", extension="png")

    run = RunFolder(tmp_path / "run")
    generate_images(run, plan(tmp_path), Garbage())
    found = rows(run)
    assert {r["status"] for r in found} == {"failed"}
    assert "no image" in found[0]["error"]
    assert found[3]["error"] == "the generator gave no outcome"


def test_an_extension_cannot_name_another_place(tmp_path: Path) -> None:
    class Hostile(LightGenerator):
        def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
            for request in requests:
                yield Generated(request, data=picture(1), extension="../../../x")

    run = RunFolder(tmp_path / "run")
    generate_images(run, plan(tmp_path), Hostile())
    assert {r["path"] for r in rows(run)} == {f"images/{p}/{i}.png" for p in ("nurse", "maestro") for i in range(4)}


class Ahead(LightAheadGenerator):
    """Works ahead, and counts how far."""

    def __init__(self) -> None:
        self.batches = 0

    def generate_ahead(self, requests: Iterable[GenerationRequest]) -> Iterator[Any]:
        for batch in super().generate_ahead(requests):
            self.batches += 1
            yield batch


def test_images_made_ahead_are_the_same(tmp_path: Path) -> None:
    plain, ahead = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "ahead")
    generate_images(plain, plan(tmp_path), LightGenerator())
    advanced: list[int] = []
    result = generate_images(ahead, plan(tmp_path), Ahead(), advance=advanced.append)
    assert (result.made, result.kept, sum(advanced)) == (8, 0, 8)
    assert rows(ahead) == rows(plain)
    again = Ahead()
    assert generate_images(ahead, plan(tmp_path), again).kept == 8
    assert again.batches == 0


def test_a_generator_gets_no_further_ahead_than_two_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a batch is waited for, two others are under way at most."""
    from allfour.pipeline.generation import generate as generation

    ahead, settle, under_way = Ahead(), generation._Writers._settle, []

    def counted(batch: Iterable[Future[None]]) -> None:
        under_way.append(ahead.batches - len(under_way))
        settle(batch)

    monkeypatch.setattr(generation._Writers, "_settle", staticmethod(counted))
    generate_images(RunFolder(tmp_path / "run"), plan(tmp_path, images=12), ahead)
    assert under_way == [3] * 6 + [2, 1]


def test_a_full_disk_stops_the_run_and_keeps_what_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from allfour.pipeline.generation import generate as generation

    write, count = generation.write_atomic, itertools.count()

    def full(path: Path, data: bytes) -> None:
        if next(count) >= 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    run, first = RunFolder(tmp_path / "run"), Ahead()
    monkeypatch.setattr(generation, "write_atomic", full)
    with pytest.raises(OSError, match="No space left"):
        generate_images(run, plan(tmp_path, images=40), first)
    assert first.batches <= 5  # of 27: no image is made that cannot be kept
    monkeypatch.setattr(generation, "write_atomic", write)
    assert generate_images(run, plan(tmp_path, images=40), Ahead()).kept == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, BackendError])
def test_what_is_made_is_written_before_the_run_stops(tmp_path: Path, error: type[BaseException]) -> None:
    stopped = threading.Event()

    class Stopped(Ahead):
        def generate_ahead(self, requests: Iterable[GenerationRequest]) -> Iterator[Any]:
            for batch in super().generate_ahead(requests):
                if self.batches == 3:
                    stopped.set()
                    raise error("stop")
                yield [(request, lambda finish=finish: (stopped.wait(60), finish())[1]) for request, finish in batch]

    run = RunFolder(tmp_path / "run")
    with pytest.raises(error):
        generate_images(run, plan(tmp_path), Stopped())
    assert generate_images(run, plan(tmp_path), Ahead()).kept == 6


def test_an_outcome_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    class Twice(Ahead):
        def generate_ahead(self, requests: Iterable[GenerationRequest]) -> Iterator[Any]:
            for batch in super().generate_ahead(requests):
                yield [batch[0], *batch]

    with pytest.raises(RuntimeError, match="twice"):
        generate_images(RunFolder(tmp_path / "run"), plan(tmp_path), Twice())


def test_seeds_depend_on_nothing_but_run_seed_prompt_and_index() -> None:
    assert image_seed(0, "nurse", 0) == 414721489467990392
    seeds = {image_seed(s, p, i) for s in (0, 1) for p in ("nurse", "captain") for i in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_plan_needs_prompts_and_whole_sets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prompts\.file is not set"):
        make_plan(RunConfig.model_validate({"classifier": {"backend": "face"}}))
    with pytest.raises(ConfigError, match=r"images_per_prompt is 3"):
        plan(tmp_path, images=3)


def test_a_failure_in_one_journal_takes_back_nothing_of_another(tmp_path: Path) -> None:
    asked = plan(tmp_path)
    request = asked.requests[0]
    line = {"prompt_id": request.prompt_id, "index": request.index, "fingerprint": request_fingerprint(request, {})}
    refused, failed = Line(**line, status="refused"), Line(**line, status="failed")
    for outcomes in ([refused, failed], [failed, refused]):
        found = _valid(RunFolder(tmp_path / "run"), outcomes, asked, {}, retry_failed=False, read_files=False)
        assert found == {request.key: refused}
