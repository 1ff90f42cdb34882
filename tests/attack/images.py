"""Images that were damaged or made to hurt: each is decoded or refused, in bounded time and memory, and none is a fault."""

from __future__ import annotations

import random
import shutil
import time

from tests.attack.ground import Ground
from tests.attack.process import command, forked
from tests.attack.tally import Tally
from tests.hostile_images import FORMATS, damaged_files, good_file

MEMORY_MIB = 3_000
"""More than that is a bomb that went off."""
SECONDS = 20.0
"""For one image."""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A file with one of the kinds of damage that parsers are made to meet."""
    out = bytearray(data)
    place = rng.randrange(len(out))
    kind = rng.randrange(7)
    if kind == 0:
        for _ in range(rng.randint(1, 12)):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == 1:  # lengths and sizes stand in the first bytes
        out[rng.randrange(min(64, len(out)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    elif kind == 2:
        out[place : place + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\x80\0\0\0"))
    elif kind == 3:
        del out[place : place + rng.randint(1, 64)]
    elif kind == 4:
        out[place:place] = out[: rng.randint(1, 512)]
    elif kind == 5:
        out = out[:place]
    else:
        out += rng.randbytes(rng.randint(1, 4096))
    return bytes(out)


def decode_all(tally: Tally, *, count: int, seed: int) -> None:
    """So many mutated images through the decoder, in one child, in batches with a deadline each."""
    from allfour.pipeline.archives.decoding import UnreadableImage, decode

    sources = [good_file(number, kind) for kind in FORMATS for number in range(3)]
    batch = 500
    for start in range(0, count, batch):

        def body(first: int = start) -> None:
            rng = random.Random(seed * 1_000_003 + first)
            files = [mutate(rng.choice(sources), rng) for _ in range(min(batch, count - first) * 3 // 4)]
            files += [file.data for file in damaged_files(min(batch, count - first) - len(files), seed=seed + first)]
            slowest = read = 0.0
            for data in files:
                began = time.monotonic()
                try:
                    decode(data).load()
                    read += 1
                except UnreadableImage as error:
                    str(error).encode()
                slowest = max(slowest, time.monotonic() - began)
            print(f"{read:.0f} {slowest:.2f}")

        ended = forked(body, deadline=batch * 0.5, name=("decode", str(start)))
        tally.ended(ended)
        what = f"images {start} to {start + batch} of seed {seed}"
        if problem := ended.fault():
            tally.wrong(what, problem)
            continue
        slowest = float(ended.out.split()[1])
        tally.count("mutated images", min(batch, count - start))
        if slowest > SECONDS:
            tally.wrong(what, f"one took {slowest:.0f} s")
        if ended.peak_mib > MEMORY_MIB:
            tally.wrong(what, f"took {ended.peak_mib:.0f} MiB")


def rescore_them(ground: Ground, tally: Tally, *, count: int, seed: int) -> None:
    """A folder of such images as an archive: every one is in the tables, read or with the reason why not."""
    rng = random.Random(seed)
    where = ground.reset()
    shutil.rmtree(where / "archive")
    (where / "archive" / "p").mkdir(parents=True)
    for number in range(count):
        kind = rng.choice(list(FORMATS))
        data = mutate(good_file(number % 7, kind), rng)
        (where / "archive" / "p" / f"{number}.{FORMATS[kind][0]}").write_bytes(data)
    ended = command(
        "rescore", where / "archive", "--config", where / "config.yaml", "--run", where / "new", "--json", deadline=300
    )
    tally.ended(ended)
    tally.count("mutated images, rescored", count)
    if (problem := ended.fault()) or ended.code not in (0, 3):
        tally.wrong("rescore of mutated images", problem or ended.err[-500:])
        return
    import json

    accounting = json.loads(ended.out)["accounting"]
    if accounting["requested"] != count or accounting["scored"] + accounting["unreadable"] != accounting["generated"]:
        tally.wrong("rescore of mutated images", f"{count} files, and {accounting}")
