"""Commands that are killed, asked to end, or run into a full disk at the n-th of their own commits, and then begun again."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.attack.ground import COMMANDS, HOSTED, Attack, Ground, different, go, leftovers, results, undisturbed
from tests.attack.process import KILLED, Api, Ended, Kind, Strike, contents
from tests.attack.tally import Tally

TERMINATED = 143
_IN_HAND = 9
"""Images of a batch that was being made, of one that was handed over, and of one that was being written."""
_HOSTED_IMAGES = 12
_CONCURRENCY = 4


def strike_all(ground: Ground, tally: Tally, *, strikes: Mapping[Kind, int], seed: int) -> None:
    """Every command, struck so many times by each kind of strike, at places that are spread over its events."""
    rng = random.Random(seed)
    for attack in COMMANDS:
        done, expected = undisturbed(ground, attack)
        tally.ended(done)
        inputs = _inputs(ground, attack)
        for kind, times in strikes.items():
            for number in range(times):
                low, high = number * done.events // times + 1, (number + 1) * done.events // times
                strike = Strike(kind, rng.randint(low, max(low, high)))
                _one(ground, tally, attack, strike=strike, expected=expected, inputs=inputs)


def strike_some(ground: Ground, tally: Tally, *, count: int, seed: int) -> None:
    """So many commands, other ones with another seed, by one kind of strike after another: the short round."""
    rng = random.Random(seed)
    kinds: tuple[Kind, ...] = ("kill", "full", "kill", "term")
    for number, attack in enumerate(rng.sample(COMMANDS, count)):
        done, expected = undisturbed(ground, attack)
        tally.ended(done)
        strike = Strike(kinds[number % len(kinds)], rng.randint(1, done.events))
        _one(ground, tally, attack, strike=strike, expected=expected, inputs=_inputs(ground, attack))


def _inputs(ground: Ground, attack: Attack) -> dict[str, bytes]:
    """What a command only reads, to the last byte."""
    where = ground.reset()
    return {name: data for name, data in contents(where).items() if name.split("/")[0] not in attack.results}


def _one(
    ground: Ground,
    tally: Tally,
    attack: Attack,
    *,
    strike: Strike,
    expected: dict[str, object],
    inputs: dict[str, bytes],
) -> None:
    where, made = ground.reset(), ground.path.parent / "made"
    made.unlink(missing_ok=True)
    struck = go(where, attack, strike=strike, made=made)
    tally.ended(struck)
    what = f"{attack.name}, {strike.kind} at event {strike.at}"
    for problem in _problems(strike, struck):
        tally.wrong(what, problem)
    before = contents(where)
    again = go(where, attack, made=made)
    tally.ended(again)
    tally.count(f"{strike.kind}: {attack.name}")
    off = different(expected, results(where, attack.results))
    stands = attack.name == "export dataset" and again.code == 2 and not off  # it was killed once all was in its place
    if again.fault() or not (again.code in (0, 3) or stands):
        tally.wrong(what, f"the same command again: {again.code} {again.fault() or again.err[-400:]}")
    if off:
        tally.wrong(what, f"not what an undisturbed command leaves: {off}")
    if left := leftovers(where):
        tally.wrong(what, f"half-written files stay: {left}")
    now = contents(where)
    if lost := [name for name, data in inputs.items() if now.get(name) != data and not name.endswith(".lock")]:
        tally.wrong(what, f"what is only read has changed: {lost}")
    if gone := [
        name for name in before if "/images/" in name and ".tmp-" not in name and now.get(name) != before[name]
    ]:
        tally.wrong(what, f"images that stood are gone: {gone}")
    repeated = [key for key, times in Counter(made.read_text().split() if made.exists() else ()).items() if times > 1]
    if len(repeated) > (_IN_HAND if attack.ahead else 1):
        tally.wrong(what, f"{len(repeated)} images were made twice: {repeated}")


def _problems(strike: Strike, struck: Ended) -> list[str]:
    found = [problem] if (problem := struck.fault()) else []
    if strike.kind == "kill" and struck.code not in (KILLED, 0, 3):
        found.append(f"was not killed: {struck.code} {struck.err[-300:]}")
    if strike.kind == "term" and struck.code not in (TERMINATED, 0, 3):
        found.append(f"SIGTERM gave exit code {struck.code}: {struck.err[-300:]}")
    if strike.kind == "full" and struck.code not in (2, 0, 3):
        found.append(f"a full disk gave exit code {struck.code}: {struck.err[-300:]}")
    if strike.kind == "full" and struck.code == 2 and "the disk is full" not in struck.err:
        found.append(f"a full disk is called something else: {struck.err[-300:]}")
    return found


# --- hosted ----------------------------------------------------------------------------------------------------------


def strike_hosted(ground: Ground, api: Api, tally: Tally, *, strikes: Mapping[Kind, int], seed: int) -> None:
    """The same for a run that pays for its images: what was answered is paid once, and the ledger never says less than the server."""
    rng = random.Random(seed)
    api.faults(0, [], seed=0)
    done = go(ground.reset(), HOSTED)
    tally.ended(done)
    for kind, times in strikes.items():
        for number in range(times):
            api.reset()
            where = ground.reset()
            low, high = number * done.events // times + 1, (number + 1) * done.events // times
            strike = Strike(kind, rng.randint(low, max(low, high)))
            what = f"{HOSTED.name}, {strike.kind} at event {strike.at}"
            struck = go(where, HOSTED, strike=strike)
            for problem in _problems(strike, struck):
                tally.wrong(what, problem)
            again = go(where, HOSTED)
            for ended in (struck, again):
                tally.ended(ended)
            tally.count(f"{strike.kind}: {HOSTED.name}")
            if again.code != 0:
                tally.wrong(what, f"the same command again: {again.code} {again.err[-400:]}")
            for problem in money_problems(where / "new", api, lost=_CONCURRENCY):
                tally.wrong(what, problem)


def money_problems(run: Path, api: Api, *, lost: int, delivered: bool = True) -> list[str]:
    """Where the server's own count and the run's disagree. `lost` images may have been under way when it was struck."""
    from allfour.models._hosted.ledger import read_totals

    found, billed = [], sum(api.billed.values())
    if billed > _HOSTED_IMAGES + lost:
        found.append(f"{billed} images were billed for {_HOSTED_IMAGES}: some were paid twice")
    totals = read_totals(run / "ledger.sqlite")
    if delivered and totals.spent + 1e-9 < 0.016 * billed:
        found.append(f"the ledger says {totals.spent:.3f} where the server billed {0.016 * billed:.3f}")
    if list(run.rglob(".tmp-*")):
        found.append("half-written files stay")
    return found


# --- a disk that really is full --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system in memory of so many KiB, mounted on a folder."""

    path: Path
    kib: int

    def __enter__(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={self.kib}k", "tmpfs", str(self.path)]
        subprocess.run(["mount", *options], check=True, capture_output=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        for _ in range(50):  # what looks at every file of the machine may be looking here
            if subprocess.run(["umount", str(self.path)], check=False, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", str(self.path)], check=True, capture_output=True)


def can_mount(root: Path) -> bool:
    """Whether this process may mount a small disk, which needs root."""
    if shutil.which("mount") is None:
        return False
    try:
        with SmallDisk(root / "mount-probe", 64):
            return True
    except subprocess.CalledProcessError:
        return False


def fill_disks(ground: Ground, tally: Tally, *, rooms: Sequence[int]) -> None:
    """Every command on a disk with so many KiB of room; then the same again once there is room."""
    if not can_mount(ground.path.parent):
        tally.note(
            "no small disk can be mounted here (it needs root): full disks were made by failing the n-th write alone"
        )
        return
    for attack in COMMANDS:
        _, expected = undisturbed(ground, attack)
        ground.reset()
        for room in rooms:
            what = f"{attack.name} on a disk with {room} KiB of room"
            with SmallDisk(ground.path, 65_536) as where:
                ground.fill()
                used = _used_kib(where)
                _resize(where, used + room)
                ended = go(where, attack)
                _resize(where, 65_536)
                again = go(where, attack)
                off = different(expected, results(where, attack.results))
                left = leftovers(where)
            for one in (ended, again):
                tally.ended(one)
            tally.count("small disk")
            if problem := ended.fault() or again.fault():
                tally.wrong(what, problem)
            elif ended.code == 2 and "disk is full" not in ended.err and "no room" not in ended.err:
                tally.wrong(what, f"called something else: {ended.err[-300:]}")
            if again.code not in (0, 3) or off or left:
                tally.wrong(
                    what, f"the same command again: {again.code} {again.err[-300:]}, different: {off}, left: {left}"
                )


def _used_kib(where: Path) -> int:
    state = os.statvfs(where)
    return (state.f_blocks - state.f_bfree) * state.f_frsize // 1024


def _resize(where: Path, kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kib}k", str(where)], check=True, capture_output=True)
