"""How often grids are cut right and single pictures are left alone: `python -m scripts.validate_grids --photographs FOLDER`.

Grids are made here of drawn portraits and of the photographs under `--photographs`: 2 x 2 and 1 x 4, tiles of 48 to
640 pixels, square and not, without gutters (half of them) and with gutters of 1 to 40 pixels in several colours, with a frame and
without, four of one folder (a prompt's, as services give them) or of any, as PNG, JPEG and WebP. A grid is right where it has its rows
and columns and no edge of a tile is off by more than 2 pixels. Single pictures are all of those that grids are made of, decoded as they
are and at other sizes.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from allfour.models.generators.base import Generated, GenerationRequest
from allfour.models.generators.portrait_renderer import PortraitRenderer
from allfour.pipeline.archives.seams import find_grid

PROMPTS = (
    "nurse",
    "captain",
    "architect",
    "librarian",
    "warrior",
    "hairdresser",
    "an empty street",
    "magician, digital style",
)
COLOURS = ((255, 255, 255), (0, 0, 0), (128, 128, 128), (32, 33, 36), (230, 226, 215), (250, 250, 250), (30, 60, 160))
FORMATS: tuple[tuple[str, dict[str, int]], ...] = (
    ("PNG", {}),
    ("JPEG", {"quality": 75}),
    ("JPEG", {"quality": 92}),
    ("WEBP", {"quality": 85}),
)
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Made:
    """A grid, and what it is made of."""

    data: bytes
    rows: int
    columns: int
    boxes: tuple[Box, ...]
    how: str


def make_grid(pools: Sequence[Sequence[Image.Image]], rng: random.Random, *, gutters: bool) -> Made:
    """A grid of four pictures, of one pool (a prompt) or, one time in four, of any."""
    rows, columns = rng.choice(((2, 2), (2, 2), (2, 2), (1, 4)))
    pool = rng.choice([pool for pool in pools if len(pool) >= 4])
    if rng.random() < 0.25:
        pool = [picture for pool in pools for picture in pool]
    tiles = rng.sample(list(pool), 4)
    width = rng.choice((48, 64, 128, 200, 256, 333, 512, 640))
    height = rng.choice((width, width, width, round(width * 1.25), round(width * 0.75)))
    gutter = rng.choice((1, 2, 3, 4, 8, 10, 16, 24, 40)) if gutters else 0
    gutter = min(gutter, max(1, min(width, height) // 10)) if gutters else 0
    frame = rng.choice((0, 0, gutter, 2 * gutter)) if gutters else 0
    colour = rng.choice(COLOURS)
    size = (columns * width + (columns - 1) * gutter + 2 * frame, rows * height + (rows - 1) * gutter + 2 * frame)
    whole = Image.new("RGB", size, colour)
    boxes = []
    for at, tile in enumerate(tiles):
        left, top = frame + at % columns * (width + gutter), frame + at // columns * (height + gutter)
        whole.paste(tile.resize((width, height), Image.Resampling.LANCZOS), (left, top))
        boxes.append((left, top, left + width, top + height))
    name, options = rng.choice(FORMATS)
    buffer = io.BytesIO()
    whole.save(buffer, name, **options)
    how = f"{rows}x{columns} {width}x{height} gutter {gutter} frame {frame} {name} {colour}"
    return Made(buffer.getvalue(), rows, columns, tuple(boxes), how)


def is_right(made: Made, *, tolerance: int = 2) -> bool:
    """Whether a grid is found as it was made."""
    with Image.open(io.BytesIO(made.data)) as image:
        found = find_grid(image.convert("RGB"))
    return (
        found is not None
        and (found.rows, found.columns) == (made.rows, made.columns)
        and all(
            abs(a - b) <= tolerance
            for f, m in zip(found.boxes, made.boxes, strict=True)
            for a, b in zip(f, m, strict=True)
        )
    )


def drawn(count: int, *, size: int, seed: int) -> list[list[Image.Image]]:
    """Portraits of the drawn world, `count` of each prompt."""
    renderer = PortraitRenderer(planted="configs/references/sandbox-planted.yaml", size=size)
    pools = []
    for prompt in PROMPTS:
        requests = [GenerationRequest(prompt_id=prompt, prompt=prompt, index=n, seed=seed + n) for n in range(count)]
        found = [outcome for outcome in renderer.generate(requests) if isinstance(outcome, Generated)]
        pools.append([Image.open(io.BytesIO(outcome.data)).convert("RGB") for outcome in found])
    return pools


def photographs(folder: Path) -> list[list[Image.Image]]:
    """Pictures under a folder, those of one folder together."""
    pools: dict[Path, list[Image.Image]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"):
            with Image.open(file) as image:
                pools.setdefault(file.parent, []).append(image.convert("RGB"))
    return list(pools.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, action="append", default=[], help="folder of single pictures")
    parser.add_argument("--grids", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    sources = {"drawn portraits": drawn(12, size=256, seed=args.seed)}
    sources |= {folder.name: photographs(folder) for folder in args.photographs}
    result: dict[str, dict[str, int | float]] = {}
    for name, pools in sources.items():
        rng = random.Random(f"{name}/{args.seed}")
        found: dict[str, int | float] = {}
        for kind, gutters in (("without gutters", False), ("with gutters", True)):
            wrong: list[str] = []
            for _ in range(args.grids):
                made = make_grid(pools, rng, gutters=gutters)
                if not is_right(made):
                    wrong.append(made.how)
            found[f"grids {kind}"] = args.grids
            found[f"right {kind}"] = args.grids - len(wrong)
            if args.verbose:
                print(*(f"  wrong: {how}" for how in wrong), sep="\n")
        singles = [picture for pool in pools for picture in pool]
        cut = Counter[str]()
        spent = 0.0
        for picture in singles:
            for size in (None, 64, 224):
                one = picture if size is None else picture.resize((size, size))
                start = time.process_time()
                grid = find_grid(one)
                spent += time.process_time() - start if size is None else 0
                cut["single pictures cut" if size is None else "resized ones cut"] += grid is not None
        found |= {"single pictures": len(singles), **cut, "ms a picture": round(1000 * spent / len(singles), 2)}
        result[name] = found
        print(name, json.dumps(found), flush=True)
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
