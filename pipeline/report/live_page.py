"""The page of a run that works: counts, pictures as they come, money, time left. It loads itself again every few seconds, until it is told to pause."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from allfour.files import read_regular
from allfour.pipeline import words
from allfour.pipeline.archives.decoding import UnreadableImage, decode
from allfour.pipeline.report import svg
from allfour.pipeline.report.html import environment, inlined, security_policy
from allfour.pipeline.report.prose import PERCEIVED
from allfour.pipeline.run.activity import Activity

REFRESH = 4
"""Seconds."""
_SIDE = 168
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What the page shows."""

    name: str
    subject: str
    notice: str
    now: Activity
    done: int
    scored: int
    total: int | None
    refused: int
    failed: int
    left: float | None
    spent: str
    pictures: Sequence[tuple[str, Path]]
    """Prompt and file."""


def render_live(run: LiveRun) -> str:
    """The page as text."""
    css, css_hash = inlined("report.css", "index.css")
    script, script_hash = inlined("common.js", "reload.js")
    share = run.done / run.total if run.total else None
    return environment().get_template("live.html.j2").render(
        css=css,
        script=script,
        policy=security_policy(css_hash, script_hash),
        refresh=REFRESH if run.now.working else None,
        run=run,
        name=words.clean(run.name, 120),
        headline=_headline(run),
        facts=_facts(run),
        bar=None if share is None else _bar(share),
        pictures=[(words.clean(prompt, 80), uri) for prompt, path in run.pictures if (uri := _thumbnail(path))],
        perceived=PERCEIVED,
    )  # fmt: skip


def _headline(run: LiveRun) -> str:
    of = f" of {words.grouped(run.total)}" if run.total is not None else ""
    state = "" if run.now.working else f", and {_ended(run.now)}: repeat its command to go on"
    return f"{words.grouped(run.done)}{of} {'image' if run.done == 1 and not of else 'images'} so far{state}"


def _ended(now: Activity) -> str:
    if now.held is False:
        return "its process has ended"
    return "nothing new for a while" if now.silent is None else f"nothing new for {words.seconds_text(now.silent)}"


def _facts(run: LiveRun) -> list[str]:
    found = []
    if run.now.held and run.now.silent is None:
        found.append("its process works, and has made nothing yet")
    if run.now.working and run.now.quiet and run.left is None:
        found.append(f"nothing new for {words.seconds_text(run.now.silent)}")
    if run.left is not None:
        found.append(f"about {words.seconds_text(run.left)} left")
    if run.spent:
        found.append(f"{run.spent} spent")
    if 0 < run.scored < run.done:
        found.append(f"{words.grouped(run.scored)} read by the classifier")
    found += [f"{words.grouped(n)} {what}" for n, what in ((run.refused, "refused"), (run.failed, "failed")) if n]
    return found


def _bar(share: float) -> str:
    return svg.el(
        "svg",
        svg.el("rect", width="100%", height=8, rx=4, class_="track"),
        svg.el("rect", width=f"{100 * min(share, 1.0):.1f}%", height=8, rx=4, class_="fill"),
        width="100%", height=8, role="img", aria_label=f"{words.percent(share)} done",
    )  # fmt: skip


def _thumbnail(path: Path) -> str | None:
    """A small picture as a data URI; None where it cannot be read."""
    try:
        small = decode(read_regular(path, limit=_MOST_BYTES), reduce_to=_SIDE)
    except (OSError, UnreadableImage):
        return None
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
