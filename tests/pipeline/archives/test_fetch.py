"""Single images by the path of their row, out of every layout."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.archives import Budget, open_source
from allfour.pipeline.archives.fetch import fetch
from tests.hostile_images import good_file, write_hostile_names
from tests.pipeline.archives.helpers import items_of, write_tar, write_tree
from tests.pipeline.archives.test_parquet import struct_of
from tests.pipeline.archives.test_zip import write_zip

FILES = {f"p{i}/{j}.png": good_file(10 * i + j, "png") for i in range(2) for j in range(4)}


def test_every_layout_gives_back_what_it_listed(tmp_path: Path) -> None:
    write_tree(tmp_path / "folder", FILES)
    write_hostile_names(tmp_path / "folder", good_file(99, "png"))
    members = [*FILES.items(), ("p::q/new\nline\\.png", good_file(98, "png"))]
    write_tar(tmp_path / "a::b.tar", members)
    write_tar(tmp_path / "a.tar.gz", members, mode="w:gz")
    write_zip(tmp_path / "a.zip", list(FILES.items()))
    columns = {"image": struct_of(list(FILES.values())), "prompt": [name[:2] for name in FILES]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=3)
    items = [item for name in ("folder", "a::b.tar", "a.tar.gz", "a.zip", "a.parquet") for item in items_of(open_source(tmp_path / name))]  # fmt: skip
    wanted = {item.image.path: item.data for item in items}
    assert dict(fetch(wanted)) == wanted


def test_every_layout_at_an_address(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    odd = {**FILES, "p q/new\nline\\.png": good_file(98, "png"), "p q/100%#1?.png": good_file(97, "png")}
    for name, data in odd.items():
        store.pipe_file(f"/fetched/folder/{name}", data)
    write_tar(tmp_path / "a.tar", odd.items())
    write_tar(tmp_path / "a.tar.gz", odd.items(), mode="w:gz")
    write_zip(tmp_path / "a.zip", list(odd.items()))
    pq.write_table(pa.table({"image": struct_of(list(odd.values())), "prompt": [*odd]}), tmp_path / "a.parquet")
    for file in tmp_path.iterdir():
        store.pipe_file(f"/fetched/{file.name}", file.read_bytes())
    names = ("folder", "a.tar", "a.tar.gz", "a.zip", "a.parquet")
    items = [item for name in names for item in items_of(open_source(f"memory://fetched/{name}"))]
    wanted = {item.image.path: item.data for item in items}
    assert len(wanted) == 5 * len(odd)
    assert dict(fetch(wanted, remote=True)) == wanted
    assert not dict(fetch(wanted))


def test_bytes_of_a_store_are_counted() -> None:
    store = fsspec.filesystem("memory")
    paths = [f"memory://counted/{number}.png" for number in range(40)]
    for number in range(40):
        store.pipe_file(f"/counted/{number}.png", bytes(1000))
    budget = Budget(size=10_000)
    assert [path for path, _ in fetch(paths, remote=True, budget=budget)] == paths[:16]  # two requests of eight
    assert budget.spent


def test_a_container_here_is_given_up_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a.tar.gz", FILES.items(), mode="w:gz")
    found = fetch([f"a.tar.gz::{name}" for name in FILES], base=tmp_path, budget=(budget := Budget(seconds=100)))
    next(found)
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 100)
    assert not list(found)
    assert budget.spent


def test_what_cannot_be_had_is_left_out(tmp_path: Path) -> None:
    write_tree(tmp_path, {"images/p/0.png": b"bytes", "large.png": bytes(100)})
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    paths = [
        "images/p/0.png",
        "large.png",
        "pipe.png",
        "gone.png",
        "bad.tar::x",
        "gone.zip::x",
        "s3://b/x.png",
        "",
        "a\0b",
    ]
    assert dict(fetch(paths, base=tmp_path, limit=50)) == {"images/p/0.png": b"bytes"}


def test_a_storage_that_refuses_is_not_asked_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(paths: Sequence[str], limit: int) -> list[bytes | BaseException]:
        asked.extend(paths)
        return [PermissionError("no") for _ in paths]

    monkeypatch.setattr(importlib.import_module("allfour.pipeline.archives.fetch"), "_read_addresses", refuse)
    assert not list(fetch([f"s3://bucket/{number}.png" for number in range(30)], remote=True))
    assert len(asked) == 8
