"""Single images by the path of their row, out of every layout."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.archives import fetch, open_source
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
