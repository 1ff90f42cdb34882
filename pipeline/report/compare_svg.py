"""Charts of a comparison. Runs are told apart by shape and place (hollow above, solid below), never by colour alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from allfour.pipeline.report.svg import Mark, el, numbers_text

_SCALES = (0.1, 0.25, 0.5, 1.0)


def _pc(share: float) -> str:
    return f"{min(max(share, 0.0), 1.0) * 100:.3f}".rstrip("0").rstrip(".") + "%"


def _dot(mark: Mark, y: float, *, hollow: bool) -> list[Markup]:
    if mark.value is None:
        return []
    kind = "quiet" if hollow else "ink"
    shapes = []
    if mark.low is not None and mark.high is not None:
        shapes.append(el("line", x1=_pc(mark.low), x2=_pc(mark.high), y1=y, y2=y, class_=f"whisker w-{kind}"))
    shapes.append(el("circle", cx=_pc(mark.value), cy=y, r=4.5, class_=f"dot d-{kind}"))
    return shapes


def shares_chart(marks: Sequence[Mark | None], description: str, *, reference: float | None = None) -> Markup:
    """Shares of one prompt in every run on one 0-100% scale, the first run hollow and on top; a diamond is a reference."""
    step, top = 14.0, 9.0
    base = top + step * len(marks)
    shapes = [el("line", x1="50%", x2="50%", y1=0, y2=base + 4, class_="grid")]
    shapes.append(el("line", x1="0", x2="100%", y1=base, y2=base, class_="axis"))
    for tick in (0.0, 0.5, 1.0):
        shapes.append(el("line", x1=_pc(tick), x2=_pc(tick), y1=base - 3, y2=base + 3, class_="axis"))
    for row, mark in enumerate(marks):
        if mark is not None:
            shapes += _dot(mark, top + step * row, hollow=row == 0 and len(marks) > 1)
    if reference is not None:
        path = el("path", d=f"M0 {base - 6:g}L5 {base:g}L0 {base + 6:g}L-5 {base:g}Z", class_="ref")
        shapes.append(el("svg", path, x=_pc(reference), overflow="visible", width=1, height=int(base) + 12))
    return el("svg", *shapes, class_="shares", width="100%", height=int(base) + 8, role="img", aria_label=description)


def scale_of(ends: Iterable[float | None]) -> float:
    """The smallest of a few round scales that holds every value, as a share."""
    most = max((abs(end) for end in ends if end is not None), default=1.0)
    return next((scale for scale in _SCALES if most <= scale + 1e-9), 1.0)


def difference_row(mark: Mark, scale: float) -> Markup:
    """A difference with its interval on a scale from -`scale` to +`scale`, with a line at no difference."""

    def at(value: float) -> float:
        return 0.5 + value / (2 * scale)

    shapes = [
        el("line", x1="0", x2="100%", y1=10, y2=10, class_="axis"),
        el("line", x1="50%", x2="50%", y1=1, y2=19, class_="reftick"),
    ]
    if mark.value is not None:
        ends = (None, None) if mark.low is None or mark.high is None else (at(mark.low), at(mark.high))
        shapes += _dot(Mark(at(mark.value), *ends), 10.0, hollow=False)
    numbers = numbers_text(mark.value, mark.low, mark.high)
    return el("svg", *shapes, class_="interval", width="100%", height=20, data_csv=numbers, aria_hidden="true")


def difference_scale(scale: float) -> Markup:
    """The scale above a column of differences, in points."""
    shapes = []
    for place, anchor, label in (
        ("0", "start", f"−{scale * 100:g}"),
        ("50%", "middle", "0"),
        ("100%", "end", f"+{scale * 100:g}"),
    ):
        shapes.append(el("text", label, x=place, y=11, text_anchor=anchor, class_="tick"))
    return el("svg", *shapes, class_="scale", width="100%", height=16, aria_hidden="true")


def scatter(points: Sequence[tuple[float, float, str, bool]], description: str, first: str, second: str, what: str) -> Markup:  # fmt: skip
    """Every prompt's share in the second run over its share in the first; on the diagonal nothing moved.

    Parameters
    ----------
    points
        Share in the first run, in the second, the prompt, and whether it counts as changed (solid).
    """
    left, top, side = 64.0, 22.0, 380.0

    def x(value: float) -> float:
        return left + side * value

    def y(value: float) -> float:
        return top + side * (1 - value)

    shapes = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        shapes.append(el("line", x1=x(0), x2=x(1), y1=y(tick), y2=y(tick), class_="grid"))
        shapes.append(el("text", f"{tick:.0%}", x=left - 24, y=y(tick) + 4, text_anchor="end", class_="tick"))
        shapes.append(el("text", f"{tick:.0%}", x=x(tick), y=top + side + 34, text_anchor="middle", class_="tick"))
    shapes.append(el("line", x1=x(0), x2=x(1), y1=y(0), y2=y(1), class_="diagonal"))
    places: dict[tuple[float, float, bool], list[str]] = {}
    for one, two, name, changed in points:
        places.setdefault((round(one, 3), round(two, 3), changed), []).append(name)
    most = max((len(names) for names in places.values()), default=1)
    # with few images many prompts share a place: its area is their number; the large ones lie below
    for (one, two, changed), names in sorted(places.items(), key=lambda place: -len(place[1])):
        radius = 3.5 if most == 1 else max(2.5, 18 * math.sqrt(len(names) / most))
        title = names[0] if len(names) == 1 else f"{len(names):,} prompts, such as {names[0]}"
        kind = "ink" if changed else "quiet"
        shapes.append(el("circle", el("title", title), cx=x(one), cy=y(two), r=float(radius), class_=f"dot d-{kind}"))
    along = {"x": x(0.5), "y": top + side + 54, "text_anchor": "middle", "class_": "axistitle"}
    shapes.append(el("text", f"{what} in {first}", **along))
    upright = {"transform": f"translate(10 {y(0.5):g}) rotate(-90)", "text_anchor": "middle", "class_": "axistitle"}
    shapes.append(el("text", f"{what} in {second}", **upright))
    return el("svg", *shapes, class_="planted", viewBox="0 0 464 464", width="464", role="img", aria_label=description)
