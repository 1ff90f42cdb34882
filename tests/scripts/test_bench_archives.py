"""Archives for benchmarks: a picture that stands in several files must be read as often, or a speed is too good to be true."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import bench_archives


@pytest.mark.parametrize("name", bench_archives.ARCHIVES)
def test_no_two_files_are_equal_and_their_pictures_are(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, _, layout, options = bench_archives.ARCHIVES[name]
    monkeypatch.setitem(bench_archives.ARCHIVES, name, (kind, 32, layout, options))
    folder = bench_archives.make_archive(tmp_path, name, shards=2, per_shard=2, distinct=1)
    if layout == "tar":
        files = [_jpegs(path) for path in sorted(folder.iterdir())]
        found = [data for one in files for data in one]
    else:
        found = [path.read_bytes() for path in folder.rglob("*.png")]
    assert len(found) == len(set(found)) == 4
    first, *others = [np.asarray(Image.open(io.BytesIO(data))) for data in found]
    assert all(np.array_equal(first, other) for other in others)


def _jpegs(path: Path) -> list[bytes]:
    with tarfile.open(path) as tar:
        opened = [tar.extractfile(member) for member in tar if member.name.endswith(".jpg")]
        return [file.read() for file in opened if file is not None]
