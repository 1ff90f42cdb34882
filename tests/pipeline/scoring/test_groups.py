"""A group of images that was encoded before its turn has come is given to the rows that are listed then."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from allfour.pipeline.archives.base import ArchivedImage, ArchiveItem
from allfour.pipeline.scoring import groups
from allfour.pipeline.scoring.groups import Ahead, Group, Listed, encoded_group, listed_groups
from allfour.pipeline.scoring.people import PreparedImage
from allfour.pipeline.scoring.rows import Row
from tests.light_backends import picture

FILES = [picture(1), b"no picture", picture(2), picture(1), picture(3), picture(4)]


def items(files: list[bytes], *, single: bool = True) -> Iterator[ArchiveItem]:
    for number, data in enumerate(files):
        image = ArchivedImage(prompt_id="p", prompt="p", index=number, path=str(number))
        yield ArchiveItem(image, data, single=single)
    yield ArchiveItem(ArchivedImage(prompt_id="p", prompt="p", index=len(files), path="-"), None, error="not there")


def listed(files: list[bytes], *, size: int = 3, **options: bool) -> tuple[list[Row], list[Listed]]:
    rows: list[Row] = []
    return rows, list(listed_groups(items(files, **options), rows, size))


@pytest.fixture
def encode(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every picture shows one person more than the one before: of the whole and of the persons there are inputs."""
    seen: list[Image.Image] = []

    def prepared(image: Image.Image, classifier: object) -> PreparedImage:
        seen.append(image)
        found = np.asarray(image)[:2, :2]
        return PreparedImage((found,) * (1 + len(seen)), boxes=((0, 0, 1, len(seen)),) * len(seen))

    class Classifier:
        embedding_dim = 2

    def encoded(group: Listed) -> Group:
        return encoded_group(
            group, classifier=Classifier(), encode=lambda batch: batch[:, 0, 0, :2].astype(np.float32), size=2, max_pixels=10**6,  # type: ignore[arg-type]
        )  # fmt: skip

    monkeypatch.setattr(groups, "prepare", prepared)
    return encoded


def test_groups_hold_what_is_to_be_read() -> None:
    rows, found = listed(FILES)
    assert [[row.image.index for row, _ in group] for group in found] == [[0, 1, 2], [4, 5]]  # 3 has the bytes of 0
    assert len(rows) == len(FILES) + 1 and rows[3].twin is rows[0] and rows[-1].error == "not there"


def test_what_was_encoded_ahead_is_taken_once_and_by_the_same_images_alone(encode: Any) -> None:
    ahead = Ahead()
    _, (first, second) = listed(FILES)
    for group in (first, second):
        ahead.put(encode(group))
        assert not group  # the bytes are let go
    assert len(ahead) == 2 and len(pickle.loads(pickle.dumps(ahead))) == 0

    assert ahead.take(listed(FILES, single=False)[1][0]) is None  # those are looked at for seams
    assert ahead.take(listed([FILES[2], *FILES])[1][0]) is None
    assert ahead.take(listed(FILES, size=2)[1][0]) is None

    rows, (again, _) = listed(FILES)
    taken = ahead.take(again)
    assert taken is not None and not again
    assert [row.image.index for row in taken.found] == [0, 0, 2, 2, 2]
    assert all(row is rows[row.image.index] for row in taken.found)
    assert taken.vectors.shape == (5, 2) and len(taken.inputs) == 5
    assert (rows[0].width, len(rows[0].boxes), len(rows[2].boxes)) == (40, 1, 2)
    assert rows[1].error is not None and rows[0].error is None
    assert ahead.take(listed(FILES)[1][0]) is None
