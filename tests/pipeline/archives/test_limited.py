"""A first look: the first images of an archive, or of a plan."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from allfour.errors import UsageError
from allfour.models.generators.base import GenerationRequest
from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.limited import LimitedSource
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.commands.audit import _check_limit
from allfour.pipeline.generation.plan import Plan, first_look
from allfour.pipeline.run.folder import RunFolder


@pytest.mark.parametrize(("limit", "images"), [(1, 1), (4, 4), (7, 7), (15, 15), (99, 15)])
@pytest.mark.parametrize("shard_size", [4, 100])
def test_the_first_images_of_an_archive(archive: Path, limit: int, images: int, shard_size: int) -> None:
    whole = open_source(str(archive), options=ArchiveOptions(shard_size=shard_size))
    source = pickle.loads(pickle.dumps(LimitedSource(whole, limit)))
    everything = [i.image.path for shard in whole.shards() for i in whole.read(shard)]
    found = [i.image.path for shard in source.shards() for i in source.read(shard)]
    assert found == everything[:images]
    assert sum(shard.images or 0 for shard in source.shards()) == images


def test_another_limit_is_another_source(archive: Path) -> None:
    whole = open_source(str(archive))
    few, more = LimitedSource(whole, 2), LimitedSource(whole, 3)
    assert whole.identity() != few.identity() != more.identity()
    assert [s.fingerprint for s in few.shards()] != [s.fingerprint for s in more.shards()]


def requests(prompts: int, images: int) -> tuple[GenerationRequest, ...]:
    return tuple(GenerationRequest(f"p{p}", i, "x", seed=0) for p in range(prompts) for i in range(images))


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (1, {"p0": 4}),
        (8, {"p0": 4, "p1": 4}),
        (9, {"p0": 4, "p1": 4, "p2": 4}),
        (13, {"p0": 8, "p1": 4, "p2": 4}),  # a set of every prompt before the second of any
        (99, {"p0": 8, "p1": 8, "p2": 8}),
    ],
)
def test_a_first_look_makes_whole_sets_of_many_prompts(limit: int, kept: dict[str, int]) -> None:
    found = first_look(requests(3, 8), images=limit, set_size=4)
    assert {p: sum(r.prompt_id == p for r in found) for p in kept} == kept
    assert len(found) == sum(kept.values())
    assert list(found) == sorted(found, key=lambda r: (r.prompt_id, r.index))


def test_a_first_look_takes_nothing_from_a_run_that_has_more(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = RunFolder(tmp_path)
    pq.write_table(pa.table({"prompt_id": ["p0"] * 9}), run.images_path)
    with pytest.raises(UsageError, match="has 9 images already"):
        _check_limit(run, Plan(prompts=None, requests=requests(1, 8)))  # type: ignore[arg-type]
    _check_limit(run, Plan(prompts=None, requests=requests(2, 8)))  # type: ignore[arg-type]
