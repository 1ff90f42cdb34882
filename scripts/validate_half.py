"""Whether half precision decides as full precision does (`classifier.dtype: bfloat16+float32`), image by image.

    python scripts/validate_half.py --drawn 100000 --out half.json
    python scripts/validate_half.py --images FOLDER --pretrained CLIP_FOLDER --attributes perceived

Every image is encoded in bfloat16 and in float32. `in_doubt` would be encoded twice by a run; `differ_unaided` have another decision on any
question in bfloat16 than in float32, `differ` those of them that are not in doubt: a run would have them wrong. `furthest` is the largest
error of a lead in bands, and `beyond` the images with more than one band. Needs a CPU with bfloat16 units.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from allfour.models.classifiers.base import ByteArray, FloatArray
from allfour.models.classifiers.clip import ClipClassifier
from allfour.pipeline.archives.decoding import UnreadableImage, decode
from allfour.pipeline.config import load_attributes
from allfour.pipeline.scoring.closeness import leads
from allfour.pipeline.scoring.decisions import decide_all
from allfour.pipeline.scoring.precision import CHECKED, MEASURED, SAFETY, Doubt, Measured
from scripts.measured import put_out
from scripts.sandbox import world

ROOT = Path(__file__).resolve().parents[1]
FRESH_SEED = 700_000_000
"""Far from every seed of the training sets."""
_BATCH = 16


def drawn(count: int) -> Iterator[Image.Image]:
    """Pictures of the sandbox's drawn world that no training set holds."""
    for number in range(count):
        yield Image.fromarray(world.draw(world.sample_balanced(FRESH_SEED + number)))


def stored(folder: Path) -> Iterator[Image.Image]:
    """Every image under a folder that can be read, in order of path."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}:
            try:
                yield decode(path.read_bytes())
            except UnreadableImage:
                continue


def batches(images: Iterator[Image.Image], clip: ClipClassifier) -> Iterator[ByteArray]:
    """[up to 16, H, W, 3]."""
    waiting: list[ByteArray] = []
    for image in images:
        waiting.append(clip.prepare(image))
        if len(waiting) == _BATCH:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


class Tally:
    """Counts over batches of images that were encoded both ways."""

    def __init__(self, clip: ClipClassifier) -> None:
        self.clip = clip
        self.doubt: Doubt | None = None
        self._first: list[tuple[FloatArray, FloatArray]] = []
        self.images = self.in_doubt = self.unaided = self.differ = self.beyond = self.checked_beyond = 0
        self.furthest = 0.0
        self.squares: dict[str, list[float]] = {}

    def add(self, half: FloatArray, full: FloatArray) -> None:
        """One batch. The first images are those that a run would measure its bands on, and are counted too."""
        if self.doubt is None:
            self._first.append((half, full))
            if sum(len(one) for one, _ in self._first) < MEASURED:
                return
            ours, others = (np.concatenate(side)[:MEASURED] for side in zip(*self._first, strict=True))
            self.doubt = Doubt(self.clip, Measured(half=ours, full=others))
            for one, other in self._first:
                self._count(self.doubt, one, other)
            return
        self._count(self.doubt, half, full)

    def _count(self, doubt: Doubt, half: FloatArray, full: FloatArray) -> None:
        one, other = self.clip.probabilities(half), self.clip.probabilities(full)
        attributes = self.clip.attributes
        before, after = decide_all(one, attributes), decide_all(other, attributes)
        different = np.zeros(len(half), dtype=bool)
        for name in before:
            different |= before[name].code != after[name].code
        doubtful = doubt.of(half)
        reach = np.zeros(len(half))
        for name, band in doubt.bands.items():
            error = np.abs(leads(one[name]) - leads(other[name]))
            reach = np.maximum(reach, (error / np.maximum(band, 1e-9)).max(axis=(1, 2)))
            self.squares.setdefault(name, []).append(float((error.max(axis=(1, 2)) ** 2).sum()))
        numbers = np.arange(self.images, self.images + len(half))
        self.images += len(half)
        self.in_doubt += int(doubtful.sum())
        self.unaided += int(different.sum())
        self.differ += int((different & ~doubtful).sum())
        self.beyond += int((reach > 1).sum())
        self.checked_beyond += int((reach > 1)[doubtful | (numbers % CHECKED == 0)].sum())
        self.furthest = max(self.furthest, float(reach.max(initial=0)))

    def result(self) -> dict[str, Any]:
        bands = {} if self.doubt is None else {name: float(band.max()) for name, band in self.doubt.bands.items()}
        rms = {name: (sum(values) / max(1, self.images)) ** 0.5 for name, values in self.squares.items()}
        return {
            "images": self.images,
            "in_doubt": self.in_doubt,
            "share_in_doubt": self.in_doubt / max(1, self.images),
            "differ_unaided": self.unaided,
            "differ": self.differ,
            "beyond": self.beyond,
            "beyond_among_encoded_twice": self.checked_beyond,
            "furthest": self.furthest,
            "band_on_the_logit": bands,
            "root_mean_square_error": rms,
            "safety": SAFETY,
            "measured_on": MEASURED,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawn", type=int, default=0, help="images of the drawn world")
    parser.add_argument(
        "--images", type=Path, action="append", default=[], help="a folder of images; may be given again"
    )
    parser.add_argument("--pretrained", default="models/sandbox/clip")
    parser.add_argument("--attributes", default="sandbox", help="name of a file in configs/attributes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    attributes = load_attributes(ROOT / "configs" / "attributes" / f"{options.attributes}.yaml")
    clip = ClipClassifier(
        attributes=attributes, model=None, pretrained=options.pretrained, device="cpu", dtype="bfloat16+float32"
    )
    if not clip.encodes_in_half:
        sys.exit("this machine's CPU has no bfloat16 units")
    tally = Tally(clip)

    def images() -> Iterator[Image.Image]:
        yield from drawn(options.drawn)
        for folder in options.images:
            yield from stored(folder)

    for batch in batches(images(), clip):
        tally.add(clip.encode_in_half(batch), clip.encode(batch))
        if tally.images % 10_000 < _BATCH and tally.images:
            print(f"{tally.images} images, {tally.differ} differ", file=sys.stderr, flush=True)
    found = {
        "clip": options.pretrained,
        "attributes": options.attributes,
        "processor": platform.processor() or platform.machine(),
        **tally.result(),
    }
    put_out(found, options.out)


if __name__ == "__main__":
    main()
