"""`allfour rescore --engine ray` on this machine with several numbers of actors: time by the clock, and whether the tables are the same.

    python scripts/bench_ray.py --actors 2 4 8 --out ray.json
    python scripts/bench_ray.py --actors 2 --images 40         a check of this script

An archive of made pictures is scored with the sandbox's classifier by one process, and then by so many actors of a cluster that is started
on the loopback interface for each command and ended with it. The time is that of the whole command: on one machine actors share its
cores, each loads the model, and the cluster takes its time to start; what is shown is that nothing is lost or counted twice, and what
an actor more costs. Needs `pip install 'allfour[ray]'`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from allfour.models.devices import granted_cores  # noqa: E402
from scripts.bench_shared import make_archive, seconds_of  # noqa: E402
from scripts.measured import processor, put_out  # noqa: E402

MOVED = 1e-4
"""Probabilities may differ by so much: batches of another composition round otherwise."""


def same(one: Path, other: Path) -> bool:
    """Whether two runs have the same rows and decisions, and probabilities but for rounding."""
    tables = [pq.read_table(run / "scores.parquet") for run in (one, other)]
    names = ["prompt_id", "index", "person", "attribute", "decision"]
    if not tables[0].select(names).equals(tables[1].select(names)):
        return False
    first, second = (table["probability"].to_numpy(zero_copy_only=False) for table in tables)
    return bool(abs(first - second).max() <= MOVED)


def measure(root: Path, *, images: int, shard: int, actors: Sequence[int]) -> dict[str, Any]:
    """Engine -> seconds of the command, and whether its tables are those of one process."""
    archive = make_archive(root / "archive", images)
    command = [
        "allfour",
        "rescore",
        str(archive),
        "--config",
        "configs/sandbox.yaml",
        "--set",
        f"archive.shard_size={shard}",
    ]
    local = root / "local"
    found: dict[str, Any] = {"local": {"seconds": seconds_of([*command, "--run", str(local)], root / "log")}}
    for count in actors:
        run = root / f"ray-{count}"
        more = ["--engine", "ray", "--set", f"scoring.actors={count}", "--run", str(run)]
        found[f"ray, {count} actors"] = {
            "seconds": seconds_of([*command, *more], root / "log"),
            "same": same(local, run),
        }
        print(f"{count} actors: {found[f'ray, {count} actors']}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--shard", type=int, default=20, help="images of a shard")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), images=options.images, shard=options.shard, actors=options.actors)
    result = {
        "date": dt.date.today().isoformat(), "processor": processor(), "cores": granted_cores(), "load_before": load,
        "command": " ".join(["python", "scripts/bench_ray.py", *sys.argv[1:]]), "images": options.images,
        "shard": options.shard, "engines": found,
    }  # fmt: skip
    put_out(result, options.out)


if __name__ == "__main__":
    main()
