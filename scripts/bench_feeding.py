"""What an image costs the processor on its way from a tar to committed tables, piece by piece, where a device encodes.

    python scripts/bench_feeding.py --out feeding.json
    python scripts/bench_feeding.py --tars FOLDER --profile 30

Seconds of processor time on one core, so that what else the machine does hardly counts; every piece once per round on all images of a tar, the
least of the rounds. `whole` is what a process that feeds does to a shard, with an encoder that costs nothing; `rest` is what of it is in none
of the pieces. Pictures are those of `bench_archives.py`, JPEGs of 512 px unless --tars names others, resized to 224 px as for ViT-L/14.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import PIECE, ByteArray, FloatArray
from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.base import ArchiveItem, ArchiveSource, Shard
from allfour.pipeline.archives.decoding import decode_image
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.seams import find_grid
from allfour.pipeline.config import ScoringConfig, load_attributes
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.scoring.engines.base import ScoringJob, Worker
from allfour.pipeline.scoring.parts import PartStore
from allfour.pipeline.scoring.rows import listed_row
from scripts.bench_archives import make_archive
from scripts.measured import processor, put_out

_DIM = 768


class Costless:
    """ViT-L/14's preparation of images, and an encoder that is no work.

    Parameters
    ----------
    resizes
        Whether pictures are left to it as they were decoded, as to an encoder on a GPU. They are copied, as to another process.
    """

    input_shape = (224, 224, 3)

    def __init__(self, attributes: AttributeSet, *, resizes: bool = False) -> None:
        import open_clip

        self.attributes, self._resizes = attributes, resizes
        self._taken = np.empty(PIECE, dtype=np.uint8)
        steps = open_clip.image_transform(224, is_train=False, interpolation="bicubic").transforms
        end = next(number for number, step in enumerate(steps) if "ToTensor" in type(step).__name__)
        self._steps = steps[:end]
        random = np.random.default_rng(0)
        vectors = random.normal(size=(1024, _DIM)).astype(np.float32)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._heads = {
            name: random.normal(size=(_DIM, len(attributes.labels(name)))).astype(np.float32)
            for name in attributes.questions
        }

    embedding_dim = _DIM

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "costless", "encoder": dict(self.encoder_identity())}

    def encoder_identity(self) -> Mapping[str, Any]:
        return {"dim": _DIM}

    def prepare(self, image: Image.Image) -> ByteArray:
        value: Any = image
        for step in self._steps:
            value = step(value)
        return np.asarray(value, dtype=np.uint8)

    def encode(self, batch: ByteArray) -> FloatArray:
        return self._vectors[: len(batch)]

    def takes(self, height: int, width: int) -> bool:
        return self._resizes

    def stage(self, pictures: ByteArray) -> None:
        self._taken[: pictures.size] = pictures.reshape(-1)

    def encode_staged(self, staged: Sequence[Any], size: int) -> Callable[[], FloatArray]:
        return lambda: self._vectors[:size]

    def probabilities(self, embeddings: Any) -> dict[str, FloatArray]:
        found = {}
        for name, head in self._heads.items():
            powers = np.exp(20 * (embeddings.astype(np.float32, copy=False) @ head))
            found[name] = powers / powers.sum(axis=1, keepdims=True)
        return found


def each(work: Callable[[Any], Any], of: Sequence[Any]) -> Callable[[], None]:
    """The work on one after another, with nothing kept: memory that is used for the first time costs as much again."""

    def all_of_them() -> None:
        for one in of:
            work(one)

    return all_of_them


def pieces(source: ArchiveSource, shard: Shard, clip: Costless, root: Path) -> dict[str, Callable[[], Any]]:
    """Name -> a piece of the work, on every image of a shard."""
    items: list[ArchiveItem] = list(source.read(shard))
    data = [item.data for item in items if item.data is not None]
    images = [decode_image(one).image for one in data]
    pixels = [clip.prepare(image) for image in images]
    batch = np.empty((32, *pixels[0].shape), dtype=np.uint8)
    config = ScoringConfig(workers=0, batch_size=32)
    count = iter(range(10**9))

    def filled() -> None:
        for number, one in enumerate(pixels):
            batch[number % len(batch)] = one

    def whole(by: Costless) -> None:
        job = ScoringJob(run=root / str(next(count)), source=source, config=config, build=lambda: by)
        Worker(job, by).score(shard)

    def tables() -> None:
        store = PartStore(RunFolder(root / "tables"), scoring_fingerprint="", encoding_fingerprint="")
        store.commit(shard, scored)

    from allfour.pipeline.scoring.scorer import _embedded_tables, _embeddings_table, images_table

    rows = [listed_row(item, {}) for item in items]
    vectors = np.concatenate([clip.encode(batch)] * (len(rows) // len(batch) + 1))[: len(rows)]

    def scores() -> Any:
        return _embedded_tables(images_table(rows), _embeddings_table(rows, vectors, half=None), vectors, None, clip)

    scored = scores()
    return {
        "tar": lambda: list(source.read(shard)),
        "sha256 and row": lambda: [listed_row(item, {}) for item in items],
        "decoding": each(decode_image, data),
        "grids": each(find_grid, images),
        "resizing": each(clip.prepare, images),
        "batches": filled,
        "tables": scores,
        "commit": tables,
        "whole": lambda: whole(clip),
        "whole, as decoded": lambda: whole(Costless(clip.attributes, resizes=True)),
    }


def measure(work: Mapping[str, Callable[[], Any]], images: int, rounds: int) -> dict[str, float]:
    """Microseconds of processor time an image."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, piece in work.items():
            started = time.process_time()
            piece()
            best[name] = min(best[name], time.process_time() - started)
    found = {name: round(1e6 * seconds / images, 1) for name, seconds in best.items()}
    found["rest"] = round(found["whole"] - sum(value for name, value in found.items() if "whole" not in name), 1)
    return found


def profiled(piece: Callable[[], Any], lines: int) -> None:
    profile = cProfile.Profile()
    profile.runcall(piece)
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tars", type=Path, help="a folder of tars, in place of drawn pictures")
    parser.add_argument("--images", type=int, default=192, help="pictures that are drawn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", type=int, metavar="LINES", help="the functions of the whole that take longest")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tars = options.tars or make_archive(root, "jpeg-512", shards=1, per_shard=options.images)
        source = open_source(str(tars), options=ArchiveOptions())
        shard = next(iter(source.shards()))
        work = pieces(source, shard, Costless(load_attributes("configs/attributes/perceived.yaml")), root)
        images = sum(item.data is not None for item in source.read(shard))
        if options.profile:
            profiled(work["whole"], options.profile)
        found = {"images": images, "processor": processor(), "microseconds": measure(work, images, options.rounds)}
    put_out(found, options.out)


if __name__ == "__main__":
    main()
