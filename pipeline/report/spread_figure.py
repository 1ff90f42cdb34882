"""The curve of a corrected figure over how much error differs between prompts."""

from __future__ import annotations

from markupsafe import Markup

from allfour.pipeline.metrics.error_spread import labelled_limits
from allfour.pipeline.report.svg import el
from allfour.pipeline.run.metrics import Corrected, SpreadPoint
from allfour.pipeline.words import interval_text, percent

LEFT, TOP, WIDTH, HEIGHT = 52.0, 12.0, 400.0, 180.0


def spread_curve(found: Corrected | None) -> Markup | None:
    """Value and limits for each assumed spread, the plain ones at 0; None where nothing was computed, or the spread was measured."""
    if found is None or found.error_spread is None or found.value is None or labelled_limits(found) is not None:
        return None
    curve = found.error_spread.curve
    points = [SpreadPoint(spread=0.0, value=found.value, low=found.low, high=found.high), *curve]
    known = [p for p in points if None not in (p.spread, p.value, p.low, p.high)]
    if len(known) < 2:
        return None
    most = max(p.spread or 0.0 for p in known)

    def x(spread: float) -> float:
        return LEFT + WIDTH * (0.04 + 0.92 * spread / most)

    def y(share: float) -> float:
        return TOP + HEIGHT * (1 - share)

    shapes = []
    for at in (0.0, 0.5, 1.0):
        shapes.append(el("line", x1=LEFT, x2=LEFT + WIDTH, y1=y(at), y2=y(at), class_="grid"))
        shapes.append(el("text", percent(at), x=LEFT - 8, y=y(at) + 4, text_anchor="end", class_="tick"))
    for point in known:
        at, value = x(point.spread or 0.0), point.value or 0.0
        low, high = point.low or 0.0, 1.0 if point.high is None else point.high
        title = el("title", f"{point.spread:g}: {percent(value)} ({interval_text(low, high)})")
        whisker = el("line", x1=at, x2=at, y1=y(low), y2=y(high), class_="whisker thin w-ink")
        shapes.append(el("g", title, whisker, el("circle", cx=at, cy=y(value), r=4, class_="dot d-ink")))
        label = f"{point.spread:g}"
        shapes.append(el("text", label, x=at, y=TOP + HEIGHT + 18, text_anchor="middle", class_="tick"))
    text = "spread of error between prompts (standard deviation on the logit)"
    shapes.append(el("text", text, x=LEFT + WIDTH / 2, y=TOP + HEIGHT + 38, text_anchor="middle", class_="axistitle"))
    detail = "; ".join(f"{p.spread:g}: {interval_text(p.low, p.high)}" for p in known)
    box = f"0 0 464 {TOP + HEIGHT + 48:g}"
    described = f"Corrected figure and limits by spread of error between prompts. {detail}."
    return el("svg", *shapes, class_="planted", viewBox=box, width="464", role="img", aria_label=described)
