"""A hosted API with every fault that one can think of, each at a tenth of all attempts, and then well again."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from tests.attack.false_answers import FALSE_ANSWERS
from tests.attack.ground import HOSTED, Ground, go
from tests.attack.kills import money_problems
from tests.attack.process import Api
from tests.attack.tally import Tally
from tests.loopback_image_server import KEY, Fault, png

_JSON, _TEXT = "application/json", "text/html"
_STATUSES = (400, 402, 404, 405, 408, 409, 410, 413, 415, 418, 422, 424, 425, 426, 429, 431, 451,
             500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 521, 522, 524, 529, 599)  # fmt: skip


def _raw(body: object, *, status: int = 200, kind: str = _JSON, **headers: str) -> Fault:
    return Fault(
        "raw", status=status, body=body, content_type=kind, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def _item(data: bytes) -> dict[str, str]:
    return {"b64_json": base64.b64encode(data).decode()}


FAULTS: tuple[tuple[str, Fault], ...] = (
    *FALSE_ANSWERS,
    *((f"HTTP {status}", Fault("status", status=status)) for status in _STATUSES),
    ("moderation", Fault("moderation")),
    ("rate limit", Fault("rate_limit")),
    ("retry after a year", Fault("rate_limit", headers={"retry-after": "31536000", "retry-after-ms": "99999999999"})),
    ("dropped before", Fault("drop_before")),
    ("dropped after", Fault("drop_after")),
    ("too slow", Fault("slow", seconds=2.5)),
    ("an image too few", Fault("short")),
    ("50 images too many", Fault("short", count=-50)),
    ("no image", Fault("garbage_image")),
    ("no base64", Fault("garbage_b64")),
    ("half an image", Fault("truncated_image")),
    ("data: null", Fault("null_data")),
    ("an entry null", Fault("null_item")),
    ("withheld", Fault("withheld_item")),
    ("HTML", _raw("<html>welcome</html>", kind=_TEXT)),
    ("the key, echoed", _raw({"error": {"message": f"key {KEY} is bad", "code": KEY}}, status=400)),
    ("lone surrogates", _raw({"data": [{**_item(png("x", 8)), "revised_prompt": "\ud800"}], "model": "\udfff\x00"})),
    ("deeply nested", _raw(b"[" * 100_000)),
    ("a number of a million digits", _raw(b'{"data": ' + b"9" * 1_000_000 + b"}")),
    ("an address inside the network", _raw({"data": [{"url": "http://169.254.169.254/latest/meta-data"}]})),
)  # fmt: skip


def misbehave(ground: Ground, api: Api, tally: Tally, *, faults: Sequence[tuple[str, Fault]], seed: int) -> None:
    """For each fault: a run that meets it at a tenth of its attempts, and the same command once the server is well."""
    for number, (name, fault) in enumerate(faults):
        api.reset()
        api.faults(0.1, [fault], seed=seed + number)
        where = ground.reset()
        first = go(where, HOSTED, deadline=90)
        api.faults(0.0, [], seed=0)
        again = go(where, HOSTED)
        what = f"hosted audit, {name} at 10%"
        for ended in (first, again):
            tally.ended(ended)
            if problem := ended.fault():
                tally.wrong(what, problem)
        tally.count("API faults")
        if again.code not in (0, 3):
            tally.wrong(what, f"the same command on a server that is well: {again.code} {again.err[-300:]}")
        # each fault may come after the image was made, once for each attempt that met it, retries included
        # an entry that is null or withheld is no image that can be charged, and images that nobody ordered are none either: the run
        # says how many came (`images_beyond_order`), and books what it asked for
        delivered = name not in ("an entry null", "withheld", "50 images too many")
        for problem in money_problems(
            where / "new", api, lost=12 * 51 if "too many" in name else 12, delivered=delivered
        ):
            tally.wrong(what, problem)
        if found := _holding_key(where):
            tally.wrong(what, f"the key stands in {found}")
        if any(KEY in text for text in (first.out, first.err, again.out, again.err)):
            tally.wrong(what, "the key was printed")


def _holding_key(where: Path) -> list[str]:
    key = KEY.encode()
    spelled = (key, base64.b64encode(key).rstrip(b"="))
    return [str(p) for p in where.rglob("*") if p.is_file() and any(form in p.read_bytes() for form in spelled)]
