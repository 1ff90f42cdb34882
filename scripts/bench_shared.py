"""How long commands take on a machine that others use too: alone, and beside as many busy processes as there are cores.

    python scripts/bench_shared.py --out shared.json             audit, rescore and tests, three rounds after one that warms up
    python scripts/bench_shared.py --short --out shared.json     one round of less, in under 6 minutes on two cores that are free
    python scripts/bench_shared.py --busy 4 --rounds 5           beside four
    python scripts/bench_shared.py --images 20 --rounds 1        a check of this script

Interleaved, round after round: each command alone, then beside the busy processes, which count as fast as they can and keep nothing in
memory. `audit` is the sandbox's, from command to report; `rescore` scores an archive that is made first (PNG, 512 px) with the sandbox's
classifier; `tests` are those of the statistics and the metrics, for the whole suite takes minutes. With n busy processes on n cores a fair share is half the machine: 2 times the time alone.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from allfour.models.devices import granted_cores  # noqa: E402
from scripts.bench_archives import picture  # noqa: E402
from scripts.measured import processor, put_out  # noqa: E402

SIDE = 512
PROMPTS = 20
TESTS = (
    "tests/pipeline/statistics/test_correction.py",
    "tests/pipeline/statistics/test_unanimity.py",
    "tests/pipeline/metrics/test_compute.py",
)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that count, for the time of a block."""
    loop = [sys.executable, "-S", "-c", "while True: pass"]
    processes = [subprocess.Popen(loop) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def make_archive(folder: Path, images: int) -> Path:
    """PROMPT/INDEX.png of made pictures."""
    for number in range(images):
        path = folder / f"a photo of occupation {number % PROMPTS}" / f"{number // PROMPTS}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, SIDE).save(path)
    return folder


def seconds_of(arguments: Sequence[str], log: Path) -> float:
    """Wall time of `python -m ARGUMENTS`. Raises RuntimeError where it fails."""
    started = time.perf_counter()
    with log.open("w") as message:
        code = subprocess.run(  # noqa: PLW1510 (its code is looked at)
            [sys.executable, "-m", *arguments], stdout=message, stderr=message, cwd=ROOT
        ).returncode
    if code:
        raise RuntimeError(f"python -m {' '.join(arguments)}: exit code {code}\n{log.read_text()[-2000:]}")
    return time.perf_counter() - started


def measure(root: Path, *, images: int, rounds: int, count: int) -> dict[str, Any]:
    """Command -> seconds alone and beside `count` busy processes, and how many times the latter is the former (medians)."""
    archive = make_archive(root / "archive", images)
    commands: dict[str, list[str]] = {
        "audit": ["allfour", "audit", "--config", "configs/sandbox.yaml", "--run", "RUN"],
        "rescore": ["allfour", "rescore", str(archive), "--config", "configs/sandbox.yaml", "--run", "RUN"],
        "tests": ["pytest", "-q", "-p", "no:cacheprovider", *TESTS],
    }
    seconds: dict[str, dict[str, list[float]]] = {name: {"alone": [], "beside": []} for name in commands}
    for number in range(rounds + 1):
        for name, arguments in commands.items():
            for kind, others in (("alone", 0), ("beside", count)):
                run = str(root / f"{name}-{kind}-{number}")
                with busy(others):
                    taken = seconds_of([run if word == "RUN" else word for word in arguments], root / "log")
                if number:
                    seconds[name][kind].append(taken)
                print(f"round {number} {name} {kind}: {taken:.2f} s", file=sys.stderr, flush=True)
    found: dict[str, Any] = {}
    for name, kinds in seconds.items():
        middle = {kind: statistics.median(values) for kind, values in kinds.items()}
        found[name] = {"seconds": kinds, **middle, "beside_over_alone": middle["beside"] / middle["alone"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=granted_cores(), help="busy processes; default: one per core")
    parser.add_argument("--images", type=int, default=400, help="of the archive")
    parser.add_argument("--rounds", type=int, default=3, help="after one that warms up")
    parser.add_argument("--short", action="store_true", help="one round, of an archive of 100 images")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: one at least, after the one that warms up")
    if options.short:
        options.images, options.rounds = min(options.images, 100), 1
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), images=options.images, rounds=options.rounds, count=options.busy)
    result = {
        "date": dt.date.today().isoformat(), "processor": processor(), "cores": granted_cores(), "busy": options.busy,
        "command": " ".join(["python", "scripts/bench_shared.py", *sys.argv[1:]]), "images": options.images,
        "rounds": options.rounds, "load_before": load, "commands": found,
    }  # fmt: skip
    put_out(result, options.out)


if __name__ == "__main__":
    main()
