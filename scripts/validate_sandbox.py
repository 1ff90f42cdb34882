"""Validates the sandbox against its own truth and writes tables (Markdown and JSON).

Three questions, all about a drawn world whose truth is known:
1. How often is the sandbox CLIP right on fresh renders, per label and per gender x skin tone x age?
2. Do the sandbox diffusion's images follow the planted rates, as the CLIP measures them?
3. Do the reported intervals hold the planted truth as often as they say, over renderer audits with many seeds?

    python scripts/validate_sandbox.py --out docs/validation-sandbox.md
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import yaml
from PIL import Image

from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.generators.base import Generated, GenerationRequest, image_seed
from allfour.models.generators.portrait_renderer import PortraitRenderer
from allfour.models.generators.stable_diffusion import StableDiffusion
from allfour.pipeline.config import load_attributes
from allfour.pipeline.scoring.decisions import decide_all
from allfour.pipeline.statistics.intervals import wilson
from allfour.pipeline.statistics.unanimity import unanimity
from scripts.sandbox import world

ROOT = Path(__file__).resolve().parents[1]
PLANTED = ROOT / "configs" / "references" / "sandbox-planted.yaml"
PROMPTS = ROOT / "configs" / "prompts" / "bolukbasi-extremes.yaml"
FRESH_SEED = 900_000_000
"""Far from every seed of the training sets."""
STEPS, GUIDANCE = 24, 1.0


class Scorer:
    """Decisions of the sandbox CLIP, as an audit takes them."""

    def __init__(self) -> None:
        self.attributes = load_attributes(ROOT / "configs" / "attributes" / "sandbox.yaml")
        self.clip = ClipClassifier(
            attributes=self.attributes, model=None, pretrained="models/sandbox/clip", device="cpu"
        )

    def decide(self, images: Sequence[Image.Image]) -> dict[str, list[str]]:
        """Question -> decision of each image."""
        embeddings = []
        for k in range(0, len(images), 64):
            batch = np.stack([self.clip.prepare(image) for image in images[k : k + 64]])
            embeddings.append(self.clip.encode(batch))
        decisions = decide_all(self.clip.probabilities(np.concatenate(embeddings)), self.attributes)
        return {name: [str(d) for d in decided.decision] for name, decided in decisions.items()}


def share(right: int, of: int) -> dict[str, Any]:
    """A share with its 95% Wilson interval."""
    interval = wilson(right, of)
    return {"right": right, "of": of, "value": interval.value, "low": interval.low, "high": interval.high}


def classifier_accuracy(scorer: Scorer, *, count: int) -> dict[str, Any]:
    """Accuracy on fresh renders with every label equally likely; an abstention counts as wrong."""
    items = [world.sample_balanced(FRESH_SEED + k) for k in range(count)]
    decisions = scorer.decide([Image.fromarray(world.draw(item)) for item in items])
    people = [k for k, item in enumerate(items) if item.attributes is not None]
    out: dict[str, Any] = {"renders": count, "with_a_person": len(people)}
    shown = ["person" if item.attributes is not None else "no_person" for item in items]
    out["presence"] = share(sum(d == s for d, s in zip(decisions["presence"], shown, strict=True)), count)
    for name in ("gender", "skin_tone", "age"):
        truth = {k: getattr(items[k].attributes, name) for k in people}
        out[name] = share(sum(decisions[name][k] == t for k, t in truth.items()), len(people))
        out[name]["abstained"] = sum(decisions[name][k] in {"ambiguous", "no_person"} for k in people)
    cells: dict[str, list[bool]] = {}
    for k in people:
        a = items[k].attributes
        assert a is not None
        cells.setdefault(f"{a.gender}, {a.skin_tone}, {a.age}", []).append(decisions["gender"][k] == a.gender)
    out["gender_cells"] = {name: share(sum(right), len(right)) for name, right in sorted(cells.items())}
    return out


def cell_accuracy(scorer: Scorer, *, per_cell: int) -> dict[str, Any]:
    """Gender accuracy per gender x skin tone x age with the same number of renders in each cell."""
    rng, out = random.Random(FRESH_SEED), {}
    for gender in world.GENDERS:
        for tone in world.SKIN_TONES:
            for age in world.AGES:
                images = []
                for _ in range(per_cell):
                    attributes = world.PortraitAttributes(
                        gender=gender, skin_tone=tone, age=age, occupation=rng.choice((*world.OCCUPATIONS, None))
                    )
                    images.append(world.render(attributes, seed=FRESH_SEED + 1_000_000 + rng.randrange(10**9)))
                seen = scorer.decide(images)["gender"]
                out[f"{gender}, {tone}, {age}"] = share(sum(d == gender for d in seen), per_cell)
    return out


def _prompts() -> list[dict[str, str]]:
    found: list[dict[str, str]] = yaml.safe_load(PROMPTS.read_text(encoding="utf-8"))["prompts"]
    return found


def _planted() -> dict[str, dict[str, dict[str, float]]]:
    table = yaml.safe_load(PLANTED.read_text(encoding="utf-8"))["prompts"]
    return {name: entry["shares"] for name, entry in table.items()}


def _audit(scorer: Scorer, generator: Any, *, images: int, run_seed: int) -> tuple[dict[str, Any], list[list[str]]]:
    """Images of the twenty prompts, scored: per prompt counts, and every prompt's decisions on gender."""
    requests = [
        GenerationRequest(p["id"], k, p["text"], image_seed(run_seed, p["id"], k))
        for p in _prompts()
        for k in range(images)
    ]
    outcomes = {o.request.key: o for o in generator.generate(requests)}
    pictures = []
    for request in requests:
        outcome = outcomes[request.key]
        assert isinstance(outcome, Generated), outcome
        pictures.append(Image.open(io.BytesIO(outcome.data)).convert("RGB"))
    decisions = scorer.decide(pictures)
    per_prompt = {}
    for at, p in enumerate(_prompts()):
        window = slice(at * images, (at + 1) * images)
        per_prompt[p["id"]] = {
            name: {label: decisions[name][window].count(label) for label in {*decisions[name][window]}}
            for name in decisions
        }
    gender = [decisions["gender"][k : k + images] for k in range(0, len(requests), images)]
    return per_prompt, gender


def _compare(per_prompt: dict[str, Any], *, attribute: str, label: str) -> dict[str, dict[str, Any]]:
    planted, out = _planted(), {}
    for name, counts in per_prompt.items():
        found = counts[attribute]
        decided = sum(n for other, n in found.items() if other not in {"ambiguous", "no_person"})
        interval = wilson(found.get(label, 0), decided)
        out[name] = {
            "planted": planted[name][attribute][label], "measured": interval.value, "low": interval.low,
            "high": interval.high, "decided": decided, "ambiguous": found.get("ambiguous", 0),
            "no_person": found.get("no_person", 0),
        }  # fmt: skip
    return out


def _unanimity(counts: np.ndarray, unresolved: np.ndarray) -> dict[str, Any]:
    planted = _planted()
    women = [planted[p["id"]]["gender"]["woman"] for p in _prompts()]
    implied = float(np.mean([w**4 + (1 - w) ** 4 for w in women]))
    interval = unanimity(counts, set_size=4, unresolved=unresolved).interval
    return {"implied_by_planting": implied, "value": interval.value, "low": interval.low, "high": interval.high}


def _tables(gender: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array([[g.count("woman"), g.count("man")] for g in gender])
    return counts, np.array([len(g) for g in gender]) - counts.sum(1)


def diffusion_against_planting(scorer: Scorer, *, images: int, steps: int) -> dict[str, Any]:
    generator = StableDiffusion(
        model=str(ROOT / "models" / "sandbox" / "diffusion"),
        device="cpu",
        steps=steps,
        guidance_scale=GUIDANCE,
        batch_size=16,
    )
    began = time.monotonic()
    per_prompt, gender = _audit(scorer, generator, images=images, run_seed=0)
    seconds = time.monotonic() - began
    rows = _compare(per_prompt, attribute="gender", label="woman")
    total = sum(len(g) for g in gender)
    abstained = sum(r["ambiguous"] + r["no_person"] for r in rows.values())
    errors = [abs(r["measured"] - r["planted"]) for r in rows.values() if r["measured"] is not None]
    noise = np.random.default_rng(0)
    # What a perfect generator and a perfect classifier would still show, from sampling alone.
    floor = [
        np.mean([abs(noise.binomial(images, r["planted"]) / images - r["planted"]) for r in rows.values()])
        for _ in range(2000)
    ]
    others = {}
    for attribute, labels in (("skin_tone", world.SKIN_TONES), ("age", world.AGES)):
        gaps = [
            abs(row["measured"] - row["planted"])
            for label in labels
            for row in _compare(per_prompt, attribute=attribute, label=label).values()
            if row["measured"] is not None
        ]
        others[attribute] = float(np.mean(gaps))
    return {
        "images_per_prompt": images, "steps": steps, "guidance_scale": GUIDANCE, "seconds": seconds,
        "abstained": share(abstained, total), "mean_absolute_difference": float(np.mean(errors)),
        "largest_difference": float(np.max(errors)), "sampling_floor": float(np.mean(floor)),
        "mean_absolute_difference_other": others, "unanimity": _unanimity(*_tables(gender)), "prompts": rows,
    }  # fmt: skip


def interval_coverage(scorer: Scorer, *, audits: int, images: int) -> dict[str, Any]:
    """How often the intervals of renderer audits, scored by the CLIP, hold the planted truth."""
    generator, hits, total, covered = PortraitRenderer(planted=PLANTED), 0, 0, 0
    for run_seed in range(audits):
        per_prompt, gender = _audit(scorer, generator, images=images, run_seed=1000 + run_seed)
        for row in _compare(per_prompt, attribute="gender", label="woman").values():
            hits += row["low"] <= row["planted"] <= row["high"]
            total += 1
        u = _unanimity(*_tables(gender))
        covered += u["low"] <= u["implied_by_planting"] <= u["high"]
    return {
        "audits": audits,
        "images_per_prompt": images,
        "share_intervals": share(hits, total),
        "unanimity_intervals": share(covered, audits),
    }


def _row(*cells: Any) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def _percent(s: dict[str, Any]) -> str:
    return (
        f"{100 * s['value']:.1f}% [{100 * s['low']:.1f}, {100 * s['high']:.1f}]" if s["value"] is not None else "none"
    )


def markdown(report: dict[str, Any]) -> str:
    c, d, v = report["classifier"], report["diffusion"], report["coverage"]
    lines = [
        "# Validation of the sandbox", "",
        "A drawn world with a planted bias, measured against its own truth. Nothing here is a finding about any real model or people;",
        "labels are perceived presentation of drawings. Written by `scripts/validate_sandbox.py`. Intervals are 95%: Wilson's, and of",
        "unanimity those of [values with two ends](method.md#mean-of-values-with-two-ends).", "",
        f"Made on {report['machine']}, torch {report['torch']}.", "",
        f"## Sandbox CLIP on {c['renders']} fresh renders", "", _row("question", "right", "wanted"), _row("---", "---", "---"),
        *(_row(n, _percent(c[n]), w) for n, w in (("gender", ">= 97%"), ("skin_tone", ">= 95%"), ("age", ">= 90%"), ("presence", ">= 99%"))),
        "", f"An abstention counts as wrong ({c['gender']['abstained']} of {c['with_a_person']} on gender).", "",
        f"### Gender per cell, {next(iter(report['cells'].values()))['of']} renders each (wanted: worst >= 93%)", "",
        _row("cell", "right"), _row("---", "---"),
        *(_row(n, _percent(s)) for n, s in sorted(report["cells"].items(), key=lambda item: item[1]["value"])), "",
        f"## Sandbox diffusion, {d['images_per_prompt']} images per prompt, {d['steps']} steps, guidance {d['guidance_scale']}", "",
        f"- abstained or no person: {_percent(d['abstained'])} (wanted: <= 10%)",
        f"- mean |measured - planted| share of women: {d['mean_absolute_difference']:.3f} (wanted: <= 0.08); sampling alone gives "
        f"{d['sampling_floor']:.3f}; largest {d['largest_difference']:.3f}",
        f"- the same for skin tone {d['mean_absolute_difference_other']['skin_tone']:.3f}, age "
        f"{d['mean_absolute_difference_other']['age']:.3f}",
        f"- unanimity of sets of four: {d['unanimity']['value']:.3f} [{d['unanimity']['low']:.3f}, {d['unanimity']['high']:.3f}]; the planted "
        f"rates imply {d['unanimity']['implied_by_planting']:.3f}",
        f"- generation and scoring took {d['seconds']:.0f} s", "",
        _row("prompt", "planted", "measured women", "interval", "ambiguous", "no person"), _row(*["---"] * 6),
        *(_row(n, f"{r['planted']:.3f}", f"{r['measured']:.3f}" if r["measured"] is not None else "none", f"[{r['low']:.3f}, {r['high']:.3f}]",
               r["ambiguous"], r["no_person"]) for n, r in d["prompts"].items()), "",
        f"## Coverage over {v['audits']} renderer audits of 20 x {v['images_per_prompt']}", "",
        f"- 95% intervals of a prompt's share of women that hold the planted share: {_percent(v['share_intervals'])}",
        f"- 95% intervals of unanimity that hold the implied value: {_percent(v['unanimity_intervals'])}", "",
        "Planted shares near 0 and 1 with few images are where Wilson's interval covers least.", "",
        "Unanimity through a blurred classifier, plain and corrected by a calibration: `tests/pipeline/metrics/test_blurred_classifier.py`.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=int, default=2000)
    parser.add_argument("--per-cell", type=int, default=150)
    parser.add_argument("--images", type=int, default=64, help="diffusion images per prompt")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--audits", type=int, default=40)
    parser.add_argument("--audit-images", type=int, default=16)
    parser.add_argument("--out", type=Path, help="Markdown file; the JSON goes beside it")
    args = parser.parse_args()
    scorer = Scorer()
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} CPU threads",
        "torch": torch.__version__,
        "classifier": classifier_accuracy(scorer, count=args.renders),
        "cells": cell_accuracy(scorer, per_cell=args.per_cell),
    }
    print({n: report["classifier"][n]["value"] for n in ("gender", "skin_tone", "age", "presence")}, flush=True)
    print("worst cell", min(report["cells"].items(), key=lambda item: item[1]["value"]), flush=True)
    report["diffusion"] = diffusion_against_planting(scorer, images=args.images, steps=args.steps)
    print({k: v for k, v in report["diffusion"].items() if k != "prompts"}, flush=True)
    report["coverage"] = interval_coverage(scorer, audits=args.audits, images=args.audit_images)
    text = markdown(report)
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
