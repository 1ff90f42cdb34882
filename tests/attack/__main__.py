"""`python -m tests.attack`: the short round; `--long`: the round whose figures stand in docs/reliability.md."""

from __future__ import annotations

import argparse
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a thread of the parent would be missing in its children
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.attack import api, folders, ground, images, kills, models
from tests.attack.process import server_process
from tests.attack.tally import Tally

NAMES = ("kills", "disks", "api", "images", "folders", "models", "configs")


def main() -> None:
    """Attack, print what was done and what went wrong, and end with 1 where anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--count", type=int, default=None, help="images, folders or model folders, in place of the round's number"
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, default=None)
    options = parser.parse_args()
    chosen = options.only or (NAMES if options.long else ("kills", "api", "images", "folders"))
    os.environ.update(ground.environment())
    tally, started = Tally(), time.monotonic()
    ground.import_all(models="models" in chosen)
    with server_process(["dall-e-2"]) as server, ground.ground(origin=server.origin) as made:
        for name in chosen:
            began = time.monotonic()
            _attack(name, made, server, tally, seed=options.seed, long=options.long, count=options.count)
            print(
                f"{name}: {time.monotonic() - began:.0f} s, {len(tally.problems)} problems so far",
                file=sys.stderr,
                flush=True,
            )
    print("\n".join(tally.lines()))
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s")
    sys.exit(bool(tally.problems))


def _attack(
    name: str, made: ground.Ground, server: api.Api, tally: Tally, *, seed: int, long: bool, count: int | None
) -> None:
    if name == "kills" and long:
        kills.strike_all(made, tally, strikes={"kill": 12, "term": 2, "full": 2}, seed=seed)
        kills.strike_hosted(made, server, tally, strikes={"kill": 12, "term": 2, "full": 2}, seed=seed)
    elif name == "kills":
        kills.strike_some(made, tally, count=6, seed=seed)
        kills.strike_hosted(made, server, tally, strikes={"kill": 1}, seed=seed)
    elif name == "disks":
        kills.fill_disks(made, tally, rooms=(0, 16, 48) if long else (16,))
    elif name == "api":
        api.misbehave(made, server, tally, faults=api.FAULTS if long else api.FAULTS[-2:], seed=seed)
    elif name == "images":
        images.decode_all(tally, count=count or (10_000 if long else 100), seed=seed)
        images.rescore_them(made, tally, count=1_000 if long else 20, seed=seed)
    elif name == "folders":
        folders.damage_runs(made, tally, count=count or (500 if long else 4), seed=seed)
    elif name == "models":
        models.hostile_folders(made, tally, count=count or (100 if long else 3), seed=seed)
    else:
        models.hostile_configs(made, tally)


if __name__ == "__main__":
    main()
