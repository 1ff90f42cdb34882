"""Run folders that were damaged by a disk, a copy that broke off, or somebody: one error, or the very result that was there."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.attack.ground import Ground, results
from tests.attack.process import command
from tests.attack.tally import Tally


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 3, 40))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(max(1, path.stat().st_size)))


def _zero(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = rng.randrange(max(1, len(data)))
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)


def _other_value(path: Path, rng: random.Random) -> None:
    """A JSON document in which one value is of another kind; other files lose a piece."""
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        data = path.read_bytes()
        at = rng.randrange(max(1, len(data)))
        path.write_bytes(data[:at] + data[at + rng.randint(1, 100) :])
        return
    node = document
    while isinstance(node, dict | list) and node:
        key: Any = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            node[key] = rng.choice((None, [], {}, "", "x" * 100, -1, 1e308, True, [[[]]], {"a": {"b": []}}))
            break
        node = inner
    path.write_text(json.dumps(document))


def _gone(path: Path, rng: random.Random) -> None:
    path.unlink()


def _instead(make: Callable[[Path], None]) -> Callable[[Path, random.Random], None]:
    def damage(path: Path, rng: random.Random) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGE: Mapping[str, Callable[[Path, random.Random], None]] = {
    "bits flipped": _flip,
    "cut short": _cut,
    "zeros": _zero,
    "another value": _other_value,
    "gone": _gone,
    "empty": _instead(lambda path: path.write_bytes(b"")),
    "a folder": _instead(Path.mkdir),
    "a pipe": _instead(os.mkfifo),
    "a link to a device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": _instead(lambda path: path.symlink_to(path.name)),
    "another file": _instead(lambda path: path.write_bytes(b"\x00PAR1 {[\xff" * 50)),
}
"""Name -> what becomes of one file."""


def _commands(where: Path) -> dict[str, list[Any]]:
    run, config = where / "audited", where / "config.yaml"
    return {
        "audit": ["audit", "--config", config, "--run", run],
        "audit --overwrite": ["audit", "--config", config, "--run", run, "--overwrite"],
        "report": ["report", run],
        "rescore": ["rescore", run, "--config", config, "--run", where / "new"],
        "relabel": ["relabel", run, "--attributes", where / "other.yaml", "--run", where / "new"],
        "relabel --grid": ["relabel", run, "--grid", where / "grid.yaml"],
        "export csv": ["export", run, "--format", "csv", "--out", where / "out.csv"],
        "export markdown": ["export", run, "--format", "markdown", "--out", where / "out.md"],
        "export dataset": ["export", run, "--format", "dataset", "--out", where / "out"],
        "compare": ["compare", run, where / "second", "--out", where / "compared"],
        "review": ["review", run, "--sample", "5", "--out", where / "page.html"],
        "review --import": ["review", run, "--import", where / "answers.csv"],
        "view": ["view", where, "--out", where / "index.html"],
    }


def damage_runs(ground: Ground, tally: Tally, *, count: int, seed: int) -> None:
    """So many damaged run folders, a command on each, and where figures come out, they are those of the whole folder."""
    where = ground.reset()
    files = sorted(p.relative_to(where) for p in (where / "audited").rglob("*") if p.is_file() and p.name != ".lock")
    documents = [p for p in files if "images/" not in str(p)]
    whole = _Whole(ground)
    for number in range(count):
        rng = random.Random(seed * 1_000_003 + number)
        name = rng.choice(list(_commands(where)))
        expected = whole[name]
        where = ground.reset()
        struck = rng.sample(documents if rng.random() < 0.8 else files, rng.choice((1, 1, 2)))
        kinds = [rng.choice(list(DAMAGE)) for _ in struck]
        for path, kind in zip(struck, kinds, strict=True):
            DAMAGE[kind](where / path, rng)
        ended = command(*_commands(where)[name], deadline=60)
        tally.ended(ended)
        tally.count("damaged run folders")
        what = f"folder {number} of seed {seed}, {name} with " + " and ".join(
            f"{kind}: {path}" for path, kind in zip(struck, kinds, strict=True)
        )
        if problem := ended.fault():
            tally.wrong(what, problem)
        elif ended.code == 2 and not ended.err.startswith(("error:", "warning", "note")) and "error:" not in ended.err:
            tally.wrong(what, f"no error that can be read: {ended.err[-300:]}")
        elif name == "rescore" and any("/images/" in str(path) for path in struck):
            continue  # an image whose bytes have changed is told as unreadable, and is in no figure
        elif ended.code in (0, 3) and (off := _lies(where, name, expected)):
            tally.wrong(what, f"exit code {ended.code} and another result: {off}")


class _Whole:
    """What each command leaves of a folder that is whole, found out when it is first asked for."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._found: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self._found:
            where = self._ground.reset()
            ended = command(*_commands(where)[name])
            if ended.fault() or ended.code not in (0, 3):
                raise RuntimeError(f"{name} does not work on a whole folder: {ended.err}")
            self._found[name] = _figures(where, name)
        return self._found[name]


_WRITTEN: Mapping[str, tuple[str, ...]] = {
    "view": (), "review": (), "export dataset": (), "export csv": ("out.csv",), "export markdown": ("out.md",),
    "compare": ("compared/comparison.json",), "relabel --grid": ("audited/metrics.json",), "review --import": ("audited/metrics.json",),
    "rescore": ("new/metrics.json", "new/prompts.csv", "new/scores.parquet"),
    "relabel": ("new/metrics.json", "new/prompts.csv", "new/scores.parquet", "new/images.parquet"),
}  # fmt: skip
"""Files with figures that a command writes, the others those of `_OF_A_RUN`; what it leaves alone may stay damaged."""
_OF_A_RUN = ("audited/metrics.json", "audited/prompts.csv", "audited/scores.parquet")


def _figures(where: Path, name: str) -> dict[str, Any]:
    return results(where, _WRITTEN.get(name, _OF_A_RUN))


def _lies(where: Path, name: str, expected: Mapping[str, Any]) -> list[str]:
    """Files whose figures are others than those of the whole folder."""
    try:
        found = _figures(where, name)
    except Exception as error:  # what a reader cannot read is no figure
        return [f"not readable: {error!r}"]
    return sorted(key for key, value in expected.items() if not _alike(found.get(key), value))


def _alike(one: Any, other: Any) -> bool:
    """The same but for what embeddings lose that were kept in half precision, where scores were made again from those."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 2e-3
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)
