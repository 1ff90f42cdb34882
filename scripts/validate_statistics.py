"""Do the intervals cover? Simulated audits with known truth and planted classifier error.

Writes docs/validation.md and docs/validation.json. The full grid takes about half an hour of a free core, `--quick` half a minute:

    python -m scripts.validate_statistics [--quick] [--jobs 2] [--out docs]

What is done is kept in a file (`--done`), a line per piece, and a run that was stopped goes on from there; a piece is done
again where the estimators or the simulation have changed since.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from scripts.validation.audits import check_corrected, check_raw
from scripts.validation.cleam import check_cleam
from scripts.validation.differences import rows as check_differences
from scripts.validation.evidence import rows as check_evidence
from scripts.validation.faults import rows as check_faults
from scripts.validation.further import (
    abstention_settings,
    check_abstention,
    check_paired,
    check_review,
    check_seven_labels,
    paired_settings,
    review_settings,
)
from scripts.validation.images import DRAWN, drawn, photographs
from scripts.validation.images import rows as check_images
from scripts.validation.labelled import rows as check_labelled
from scripts.validation.page import report, with_differences, with_evidence, write_json
from scripts.validation.rivals import check_bootstraps, check_fixed_prompts, compare_estimators
from scripts.validation.settings import CALIBRATIONS, ERRORS, IMAGES, POPULATIONS, PROMPTS, Result, Setting

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE_AUDITS = 150
IMAGE_AUDITS = 1000
FAULT_AUDITS = 200
LABELLED_AUDITS = 50
DIFFERENCE_PAIRS = 1000
SECTIONS = ("evidence", "labelled", "faults", "cleam", "images", "differences")
"""Parts of the page that can be run by themselves; what is not run anew stays as it stands."""
DONE = ROOT / "build" / "validation.jsonl"


@dataclass(frozen=True)
class Task:
    """One piece of the work."""

    name: str
    setting: Setting | None
    audits: int
    draws: int
    """Draws of the error rates, or resamples."""
    seed: int

    @property
    def key(self) -> str:
        """What tells the piece from every other one."""
        return json.dumps(asdict(self), sort_keys=True)

    def random(self) -> np.random.Generator:
        """Random numbers of its own, so that neither the order of the pieces nor the number of jobs matters."""
        return np.random.default_rng([self.seed, zlib.crc32(self.key.encode())])


def run_task(task: Task) -> list[dict[str, Any]]:
    """Run one piece; rows of results are dictionaries, as they are kept."""
    random = task.random()
    if task.setting is None:
        match task.name:
            case "estimators":
                return compare_estimators(task.audits, task.draws, random)
            case "bootstraps":
                return check_bootstraps(task.audits, random)
            case "fixed":
                return check_fixed_prompts(task.audits, random)
            case "cleam":
                return check_cleam(task.audits, random)
            case "evidence":
                return [asdict(row) for row in check_evidence(task.audits, random)]
            case "faults":
                return [asdict(row) for row in check_faults(task.audits, random)]
            case "labelled":
                return [asdict(row) for row in check_labelled(task.audits, random)]
            case "differences":
                return [asdict(row) for row in check_differences(task.audits, random)]
            case _:
                return [check_seven_labels(task.audits, random)]
    return [asdict(result) for result in _check(task, task.setting, random)]


def _check(task: Task, setting: Setting, random: np.random.Generator) -> Iterator[Result]:
    match task.name:
        case "raw":
            return check_raw(setting, task.audits, random)
        case "corrected":
            return check_corrected(setting, task.audits, draws=task.draws, random=random)
        case "abstention":
            return check_abstention(setting, task.audits, draws=task.draws, random=random)
        case "review":
            return check_review(setting, task.audits, random)
        case _:
            return check_paired(setting, task.audits, random)


def tasks(*, quick: bool, seed: int) -> list[Task]:
    """Return all pieces of the work, in the order of the page."""
    audits, draws = (200, 300) if quick else (2000, 400)
    grid = list(product(POPULATIONS, IMAGES, (5, 20) if quick else PROMPTS))
    settings = [("raw", Setting(*cell, None, None, None)) for cell in grid]
    settings += [
        ("corrected", Setting(*cell, sensitivity, specificity, calibration))
        for (sensitivity, specificity), calibration in product(ERRORS[2:3] if quick else ERRORS, CALIBRATIONS)
        for cell in grid
    ]
    settings += [("abstention", setting) for setting in abstention_settings(quick=quick)]
    settings += [("review", setting) for setting in review_settings(quick=quick)]
    settings += [("paired", setting) for setting in paired_settings(quick=quick)]
    found = [Task(name, setting, audits, draws, seed) for name, setting in settings]
    extra = {
        "estimators": 200,
        "bootstraps": 500,
        "fixed": 1000,
        "seven_labels": 200,
        "evidence": EVIDENCE_AUDITS,
        "cleam": 1000,
        "faults": FAULT_AUDITS,
        "labelled": LABELLED_AUDITS,
        "differences": DIFFERENCE_PAIRS,
    }
    if quick:
        extra = {
            "estimators": 40,
            "bootstraps": 50,
            "fixed": 50,
            "seven_labels": 10,
            "evidence": 3,
            "cleam": 20,
            "faults": 3,
            "labelled": 2,
            "differences": 10,
        }
    return found + [Task(name, None, number, 40 if quick else 100, seed) for name, number in extra.items()]


def code_fingerprint() -> str:
    """Return what tells whether results are those of this code: a hash of the estimators and of the simulation."""
    paths = [
        *ROOT.glob("pipeline/statistics/*.py"),
        *ROOT.glob("pipeline/analyses/review/*.py"),
        *ROOT.glob("scripts/validation/*.py"),
    ]
    digest = hashlib.sha256()
    for path in sorted(path for path in paths if path.name != "page.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def read_done(path: Path, code: str) -> dict[str, list[dict[str, Any]]]:
    """Return rows by key of the pieces that this code has done; a line that was cut off counts as not done."""
    done = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["code"] == code:
            done[entry["key"]] = entry["rows"]
    return done


def run_tasks(todo: list[Task], *, jobs: int, path: Path, code: str) -> dict[str, list[dict[str, Any]]]:
    """Run what is not done yet, keeping each piece as soon as it is; return rows by key."""
    done = read_done(path, code)
    left = [task for task in todo if task.key not in done]
    print(f"{len(todo) - len(left)} of {len(todo)} pieces stand in {path}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with ProcessPoolExecutor(jobs) as pool, path.open("a", encoding="utf-8") as file:
        running = {pool.submit(run_task, task): task for task in left}
        for number, future in enumerate(as_completed(running), start=1):
            task = running.pop(future)
            # As text and back, so that a resumed run has the very numbers of one that was not stopped.
            line = json.dumps({"code": code, "key": task.key, "rows": future.result()})
            file.write(line + "\n")
            file.flush()
            done[task.key] = json.loads(line)["rows"]
            print(
                f"{number}/{len(left)} {time.monotonic() - started:.0f} s {task.name} {task.setting or ''}", flush=True
            )
    return done


def as_result(row: dict[str, Any]) -> Result:
    """Return a row of results as it was before it was kept."""
    return Result(**{**row, "setting": Setting(**row["setting"])})


def main() -> None:
    """Run the grid and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small grid with few audits")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for validation.md and validation.json")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers; 0 wrote the files in docs")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--done", type=Path, default=DONE, help="file of the pieces that are done")
    parser.add_argument(
        "--evidence", action="store_true", help="only what the first line says, put into the files that stand in --out"
    )
    parser.add_argument(
        "--images",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="only calibrations of some people and runs of others: drawn ones, and those of a folder of UTKFace and a CLIP that reads them",
    )
    parser.add_argument(
        "--labelled",
        action="store_true",
        help="only runs of which people labelled a part, put into the files that stand in --out",
    )
    parser.add_argument(
        "--differences",
        action="store_true",
        help="only pairs of runs that mislead, put into the files that stand in --out",
    )
    options = parser.parse_args()
    if options.differences:
        _differences_alone(options.out, 10 if options.quick else DIFFERENCE_PAIRS, options.seed)
        return
    if options.labelled:
        _labelled_alone(options.out, 2 if options.quick else LABELLED_AUDITS, options.seed)
        return
    if options.images is not None:
        _images_alone(options.images, options.out, 20 if options.quick else IMAGE_AUDITS, options.seed)
        return
    if options.evidence:
        _evidence_alone(options.out, 3 if options.quick else EVIDENCE_AUDITS, options.seed)
        return
    todo = tasks(quick=options.quick, seed=options.seed)
    done = run_tasks(todo, jobs=options.jobs, path=options.done, code=code_fingerprint())
    results = [as_result(row) for task in todo if task.setting is not None for row in done[task.key]]
    extra: dict[str, Any] = {task.name: done[task.key] for task in todo if task.setting is None}
    extra["seven_labels"] = extra["seven_labels"][0]
    write_all(options.out, results, extra, {"audits": todo[0].audits, "draws": todo[0].draws, "seed": options.seed})


def write_all(out: Path, results: list[Result], extra: dict[str, Any], header: dict[str, int]) -> None:
    """Write the page and the numbers; what was not run anew, as photographs that are not here, stays as it stands."""
    out.mkdir(parents=True, exist_ok=True)
    numbers = out / "validation.json"
    kept = {key: rows for key in SECTIONS if key not in extra and (rows := _kept(numbers, key))}
    write_json(numbers, results, {**header, **extra, **kept})
    text = report(results, {**extra, **kept}, audits=header["audits"], draws=header["draws"])
    (out / "validation.md").write_text(text, encoding="utf-8")
    print(f"wrote {out / 'validation.md'}")


def _kept(path: Path, key: str) -> list[dict[str, Any]]:
    """Rows that stand in the file of numbers, or none."""
    found = json.loads(path.read_text(encoding="utf-8")).get(key, []) if path.exists() else []
    return list(found)


def _images_alone(folders: list[Path], out: Path, audits: int, seed: int) -> None:
    """Deal out real readings of images, print what came of it, and put it into the page and the numbers."""
    random = np.random.default_rng([seed, zlib.crc32(b"images")])
    found = [asdict(row) for row in check_images(drawn(400), DRAWN, audits, random)]
    if folders:
        pools = photographs(*folders)
        pairs = [(one, other) for one in ("White", "Asian") for other in ("White", "Asian", "Indian")]
        found += [asdict(row) for row in check_images(pools, pairs, audits, random)]
    _put(out, images=found)


def _put(out: Path, **new: list[dict[str, Any]]) -> None:
    """Put rows into the page and the numbers that stand, and print the parts of the page that are made of such rows."""
    page, numbers = out / "validation.md", out / "validation.json"
    known = {key: new.get(key, _kept(numbers, key)) for key in SECTIONS}
    pairs = known.pop("differences")
    text = with_evidence(page.read_text(encoding="utf-8") if page.exists() else "", **known)
    text = with_differences(text, pairs) if pairs else text
    page.write_text(text, encoding="utf-8")
    lines = numbers.read_text(encoding="utf-8").splitlines() if numbers.exists() else ["{", "}"]
    known["differences"] = pairs
    kept = [line for line in lines[1:] if not line.startswith(tuple(f'"{key}": ' for key in known))]
    entries = [f'"{key}": {json.dumps(rows)},' for key, rows in known.items()]
    numbers.write_text("\n".join([lines[0], *entries, *kept]) + "\n", encoding="utf-8")
    print(text[text.index("## What the first line says") :])


def _labelled_alone(out: Path, audits: int, seed: int) -> None:
    """Simulate runs of which people labelled a part, print them, and put them into the page and the numbers."""
    _put(out, labelled=run_task(Task("labelled", None, audits, 100, seed)))


def _differences_alone(out: Path, pairs: int, seed: int) -> None:
    """Simulate pairs of runs in which plain differences mislead, print them, and put them into the page and the numbers."""
    _put(out, differences=run_task(Task("differences", None, pairs, 100, seed)))


def _evidence_alone(out: Path, audits: int, seed: int) -> None:
    """Simulate the settings in which plain figures mislead, print them, and put them into the page and the numbers."""
    found = run_task(Task("evidence", None, audits, 100, seed))
    beside = run_task(Task("cleam", None, max(20, min(1000, audits * 7)), 100, seed))
    _put(
        out,
        evidence=found,
        cleam=beside,
        faults=run_task(Task("faults", None, max(3, min(FAULT_AUDITS, audits * 4)), 100, seed)),
    )


if __name__ == "__main__":
    main()
