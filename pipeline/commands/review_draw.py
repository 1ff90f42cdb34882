"""`allfour review RUN`: draw a sample, keep it, and write the page to label it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allfour.errors import RunFolderError, UsageError
from allfour.pipeline.analyses.consensus import disputed_images
from allfour.pipeline.analyses.each import beyond
from allfour.pipeline.analyses.review.sample import (
    FORMAT,
    MAX_LABELS,
    Unit,
    choose_scheme,
    draw_units,
    listing,
    make_units,
    plan_path,
    read_population,
    read_run,
    scores_fingerprint,
)
from allfour.pipeline.report.review_page import Picture, render_review
from allfour.pipeline.report.tables import ImageRecord
from allfour.pipeline.report.thumbnails import read_pictures
from allfour.pipeline.run.folder import RunFolder, fingerprint, sweep_temp_files, utc_now
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.run.tables import connect
from allfour.pipeline.run.writing import sweep_beside, write_atomic, write_json

_LADDER = ((80, 1024, 84), (250, 768, 82), (600, 640, 80), (10**9, 448, 78))
"""At most so many pictures -> longest side in pixels, JPEG quality."""
REMOTE_SECONDS, REMOTE_BYTES = 600.0, 20_000_000_000
"""What the pictures of a sample may take from an archive at an address: more than those of a report, since all are needed."""
_BYTE_BUDGET = 45_000_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A page that was written."""

    id: str
    page: Path
    images: int
    units: int
    population: int
    kind: Unit
    beyond: int = 0
    """Images of single prompts (`audit --each`), of which none is drawn."""


def draw(run: RunFolder, *, sample: int, seed: int = 0, whole_sets: bool = False, out: Path | None = None) -> Drawn:
    """Draw a sample, keep it in RUN/review/, and write the page to label it on.

    Parameters
    ----------
    sample
        Images to label; for whole sets, as many sets as that many images make.
    seed
        Of the draw and of the order on the page.
    whole_sets
        Draw sets rather than images.
    out
        The page. Default: RUN/review.html.

    Raises
    ------
    UsageError
        No scored run, nothing to label, too many labels for the keys, or pictures that cannot be read here.
    """
    config, attributes = read_run(run)
    path = out or run.path / "review.html"
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name a file for the page, as in --out {path / 'review.html'}")
    attribute, set_size = attributes.headline, config.prompts.set_size
    labels = attributes.labels(attribute)
    if len(labels) > MAX_LABELS:
        raise UsageError(
            f"{attribute} has {len(labels)} labels, but the review page has only {MAX_LABELS} keys. Choose a headline attribute with fewer labels"
        )
    kind: Unit = "set" if whole_sets else "image"
    disputed = disputed_images(run)
    population = read_population(run, attributes, disputed)
    units = make_units(population, kind, set_size)
    if not units.visible.sum():
        what = f"whole set of {set_size} images" if whole_sets else "image that was scored"
        raise RunFolderError(f"{run.path}: no {what} to label")
    number = max(1, sample // units.size)
    drawable = int((units.visible > 0).sum())
    strata = choose_scheme(units, population, min(number, drawable))
    scores = scores_fingerprint(run)
    marked = [sorted(disputed)] if strata.disputed is not None else []
    identity = fingerprint("review", FORMAT, scores, kind, attribute, labels, set_size, sample, seed, *marked)[:16]
    chosen, probability = draw_units(units, strata, min(number, drawable), seed)
    images = listing(
        identity, population, units=units, strata=strata, chosen=chosen, probability=probability, seed=seed
    )
    pictures = _pictures(run, images)
    sizes = np.bincount(strata.code)
    sampled = np.bincount(strata.code[chosen], minlength=len(sizes))
    plan = {
        "format": FORMAT, "id": identity, "created": utc_now(), "unit": kind, "attribute": attribute,
        "labels": list(labels), "set_size": set_size, "seed": seed, "sample": sample, "scheme": list(strata.scheme),
        "scores": scores, "units": len(units.prompt),
        "strata": [
            {"name": name, "units": int(size), "sampled": int(some), "probability": int(some) / int(size)}
            for name, size, some in zip(strata.names, sizes, sampled, strict=True)
        ],
        "images": images, **({"disputed": [list(name) for name in marked[0]]} if marked else {}),
    }  # fmt: skip
    page = render_review(
        name=run.header().name or run.path.resolve().name,
        identity=identity,
        attribute=attribute,
        labels=labels,
        pictures=pictures,
        notice=run.header().notice,
    )
    with run.lock(option=None):
        sweep_temp_files(run.path)
        write_json(plan_path(run, identity), sealed(plan))
    sweep_beside(path)
    write_atomic(path, page.encode("utf-8", "replace"))
    return Drawn(identity, path, len(images), len(chosen), drawable, kind, beyond(run))


def _pictures(run: RunFolder, images: Sequence[dict[str, Any]]) -> list[Picture]:
    """The pictures, made small enough to fit one page. An image that cannot be shown must not silently leave the sample."""
    edge, quality = next((edge, quality) for limit, edge, quality in _LADDER if len(images) <= limit)
    records = _records(run, images)
    pictures = read_pictures(run.path, records, edge=edge, quality=quality, seconds=REMOTE_SECONDS, size=REMOTE_BYTES)
    lost = [record for record in records if record.key not in pictures.found]
    if lost:
        changed = (
            f" ({len(pictures.changed)} because the file has changed since it was scored)" if pictures.changed else ""
        )
        advice = (
            "reading them takes long. Run the command again, and it continues from there"
            if pictures.cut_short
            else "run `allfour review` on the machine that has the images of this run"
        )
        raise RunFolderError(
            f"{len(lost)} of {len(images)} sampled images cannot be read here{changed}, the first being {f'{lost[0].path or lost[0].key}'[:200]!r}: {advice}"
        )
    spent = sum(len(picture.jpeg) for picture in pictures.found.values())
    if spent > _BYTE_BUDGET:
        raise UsageError(f"{len(images)} images would make a page of {spent / 1e6:.0f} MB. Ask for fewer with --sample")
    return [Picture(entry["image"], pictures.found[entry["prompt_id"], entry["index"]].jpeg) for entry in images]


def _records(run: RunFolder, images: Sequence[dict[str, Any]]) -> list[ImageRecord]:
    """The rows of sampled images, in the order of the page."""
    with connect(run) as connection:
        rows = connection.execute(
            'SELECT prompt_id, prompt, "index", status, path, sha256, width, height FROM images'
            " WHERE prompt_id IN (SELECT unnest(?::VARCHAR[]))",
            [sorted({entry["prompt_id"] for entry in images})],
        ).fetchall()
    names = ("prompt_id", "prompt", "index", "status", "path", "sha256", "width", "height")
    found = {(row[0], row[2]): ImageRecord(**dict(zip(names, row, strict=True))) for row in rows}
    return [found[entry["prompt_id"], entry["index"]] for entry in images]
