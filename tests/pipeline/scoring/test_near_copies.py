"""Images that are nearly the same as an earlier one are no draws of their own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from allfour.pipeline.run.columns import IMAGES_SCHEMA, embeddings_schema
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.writing import write_table
from allfour.pipeline.scoring.near_copies import near_copies
from allfour.pipeline.scoring.parts import PartStore, read_embeddings, write_embeddings


def run_of(tmp_path: Path, vectors: NDArray[np.float64], *, bytes_of: list[str] | None = None, kept: bool = True) -> RunFolder:  # fmt: skip
    """A run with these embeddings, shape (prompts, images, dimensions)."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir(parents=True)
    prompts, images, dim = vectors.shape
    names = [(f"p{p}", i) for p in range(prompts) for i in range(images)]
    digests = bytes_of or [f"{p}/{i}" for p, i in names]
    rows = [
        {"prompt_id": p, "prompt": p, "index": i, "status": "generated", "sha256": d}
        for (p, i), d in zip(names, digests, strict=True)
    ]
    write_table(run.images_path, pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA))
    if kept:
        target = PartStore(run, scoring_fingerprint="").embeddings_path("0")  # where scoring keeps them
        target.parent.mkdir(parents=True)
        table = pa.table(
            {
                "prompt_id": [p for p, _ in names],
                "index": [i for _, i in names],
                "sha256": digests,
                "embedding": list(vectors.reshape(-1, dim).astype(np.float16)),
            },
            schema=embeddings_schema(dim),
        )
        write_embeddings(target, table)
    return run


def faces(prompts: int, images: int, *, copied: int) -> NDArray[np.float64]:
    """Unit vectors around one of each prompt; in the first `copied` prompts all images are nearly the first."""
    random = np.random.default_rng(0)
    centre = random.normal(size=(prompts, 1, 64))
    vectors = centre + 0.5 * random.normal(size=(prompts, images, 64))
    vectors[:copied] = vectors[:copied, :1] + 0.01 * random.normal(size=(copied, images, 64))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_copies_in_half_the_prompts_are_found_and_no_others(tmp_path: Path) -> None:
    found = near_copies(run_of(tmp_path, faces(20, 4, copied=10)))
    assert found.images == {(f"p{p}", i) for p in range(10) for i in range(1, 4)}
    assert found.threshold is not None and 0 < found.threshold < 0.02


def test_a_pipe_in_the_place_of_embeddings_is_not_waited_on(tmp_path: Path) -> None:
    run = run_of(tmp_path, faces(2, 4, copied=2))
    path = PartStore(run, scoring_fingerprint="").embeddings_path("0")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        read_embeddings(path)
    assert near_copies(run).images == frozenset()


def test_different_images_are_none(tmp_path: Path) -> None:
    assert not near_copies(run_of(tmp_path, faces(20, 4, copied=0))).images


def test_pictures_that_fall_into_heaps_are_no_copies(tmp_path: Path) -> None:
    """As women and men of a drawn world do: three quarters of the pairs then tell how far apart the heaps are, not the pictures."""
    random = np.random.default_rng(0)
    heap = random.integers(0, 2, size=(20, 8, 1))
    vectors = np.where(heap == 0, 1.0, -1.0) * np.ones(64) + 0.2 * random.normal(size=(20, 8, 64))
    assert not near_copies(run_of(tmp_path, vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))).images


def test_equal_bytes_are_found_without_embeddings(tmp_path: Path) -> None:
    run = run_of(tmp_path, faces(2, 3, copied=0), bytes_of=["a", "b", "a", "a", "c", "d"], kept=False)
    found = near_copies(run)
    assert found.images == {("p0", 2)}  # another prompt's image with the same bytes is no copy within the set
    assert found.threshold is None


class TestOnePictureUnderSeveralPrompts:
    def blocked(self, *places: tuple[int, int], noise: float = 0.01) -> NDArray[np.float64]:
        """Twenty prompts' faces, where one picture stands in some places, a little different each time."""
        random = np.random.default_rng(1)
        vectors, picture = faces(20, 4, copied=0), random.normal(size=64)
        for place in places:
            one = picture / np.linalg.norm(picture) + noise / 8 * random.normal(size=64)
            vectors[place] = one / np.linalg.norm(one)
        return vectors

    @pytest.mark.parametrize(
        ("places", "count"), [(((0, 1), (3, 2), (7, 0)), 3), (((0, 1), (3, 2)), 0), (((0, 1), (0, 2), (3, 2)), 0)]
    )
    def test_from_three_prompts_on(self, tmp_path: Path, places: tuple[tuple[int, int], ...], count: int) -> None:
        assert near_copies(run_of(tmp_path, self.blocked(*places))).shared == count

    def test_in_half_of_all_images(self, tmp_path: Path) -> None:
        places = [(p, i) for p in range(20) for i in range(2)]
        assert near_copies(run_of(tmp_path, self.blocked(*places))).shared == 40

    def test_other_pictures_are_not(self, tmp_path: Path) -> None:
        assert near_copies(run_of(tmp_path, self.blocked((0, 1), (3, 2), (7, 0), noise=3.0))).shared == 0
        assert near_copies(run_of(tmp_path / "b", faces(20, 4, copied=10))).shared == 0

    def test_equal_bytes_are_counted_elsewhere(self, tmp_path: Path) -> None:
        digests = [f"{p}/{i}" for p in range(20) for i in range(4)]
        digests[1] = digests[4 * 3 + 2] = "blocked"
        vectors = self.blocked((0, 1), (3, 2), (7, 0), (8, 0))
        assert near_copies(run_of(tmp_path, vectors, bytes_of=digests)).shared == 2

    def test_more_images_than_are_held_against_each_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("allfour.pipeline.scoring.near_copies._ANCHORS", 16)
        places = [(p, i) for p in range(20) for i in range(2)]
        assert near_copies(run_of(tmp_path, self.blocked(*places))).shared == 40
