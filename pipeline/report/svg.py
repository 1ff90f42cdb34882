"""Static charts as SVG, drawn here so that the page is whole with script off.

Widths are percentages wherever a chart should fill its column: bars stretch, dots and strokes do not. Colours come from
classes alone (the page's content security policy forbids style attributes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from allfour.pipeline.words import percent

SERIES = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
"""Class letters of a label's colour, by its place in the attribute; see report.css."""


def el(name: str, *children: object, **attributes: object) -> Markup:
    """An element. Values and text are escaped; `class_` is `class`, `stroke_width` is `stroke-width`."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None:
            continue
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    if not children:
        return Markup("".join(parts) + "/>")  # noqa: S704  every part is escaped above
    body = "".join(str(escape(child)) for child in children if child is not None)
    return Markup(f"{''.join(parts)}>{body}</{name}>")  # noqa: S704


def series_class(position: int) -> str:
    """Colour class of the label at a position; labels past the palette share its last colour."""
    return SERIES[min(position, len(SERIES) - 1)]


def _pc(share: float) -> str:
    return f"{min(max(share, 0.0), 1.0) * 100:.3f}".rstrip("0").rstrip(".") + "%"


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a stacked bar."""

    kind: str
    """Colour class: a letter of SERIES, `u` for unclear, `n` for no reading."""
    count: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with an interval on a scale from 0 to 1."""

    value: float | None
    low: float | None = None
    high: float | None = None


def prompt_bar(
    segments: Sequence[Segment],
    mark: Mark | None,
    reference: float | None,
    description: str,
    *,
    even: float = 0.5,
    against: Mark | None = None,
) -> Markup:
    """Stacked bar of a prompt's images, and under it the first label's share with interval on the same 0-100% scale.

    A diamond marks the reference, an upright line an `even` split; a hollow dot below is the share in another run.
    """
    total = sum(segment.count for segment in segments)
    shapes: list[Markup] = []
    start = 0
    for segment in segments:
        if not segment.count or not total:
            continue
        shapes.append(
            el(
                "rect",
                x=_pc(start / total),
                y=1,
                width=_pc(segment.count / total),
                height=14,
                class_=f"seg s-{segment.kind}",
            )
        )
        start += segment.count
    height = 34 if against is None else 47
    shapes.append(el("line", x1=_pc(even), x2=_pc(even), y1=18, y2=height - 1, class_="parity"))
    shapes.append(el("line", x1="0", x2="100%", y1=26, y2=26, class_="axis"))
    for tick in (0.0, 1.0):
        shapes.append(el("line", x1=_pc(tick), x2=_pc(tick), y1=23, y2=29, class_="axis"))
    shapes += _whisker(mark, 26.0)
    if reference is not None:
        shapes.append(_diamond(reference, 26.0))
    shapes += _whisker(against, 39.0, "quiet")
    return el("svg", *shapes, class_="bar", width="100%", height=height, role="img", aria_label=description)


def _whisker(mark: Mark | None, y: float, kind: str = "ink") -> list[Markup]:
    if mark is None or mark.value is None:
        return []
    shapes = []
    if mark.low is not None and mark.high is not None:
        shapes.append(el("line", x1=_pc(mark.low), x2=_pc(mark.high), y1=y, y2=y, class_=f"whisker w-{kind}"))
    shapes.append(el("circle", cx=_pc(mark.value), cy=y, r=4, class_=f"dot d-{kind}"))
    return shapes


def _diamond(at: float, y: float) -> Markup:
    """A diamond at a percentage: nested svg, since paths know no percentages."""
    return el(
        "svg",
        el("path", d=f"M0 {y - 6}L5 {y}L0 {y + 6}L-5 {y}Z", class_="ref"),
        x=_pc(at), overflow="visible", width=1, height=40,
    )  # fmt: skip


def interval_row(
    mark: Mark,
    *,
    references: Sequence[float] = (),
    kind: str = "ink",
    second: Mark | None = None,
) -> Markup:
    """One dot with its interval on a 0-100% scale; `references` are ticks, `second` stands below it as a hollow dot."""
    shapes = [el("line", x1="0", x2="100%", y1=10, y2=10, class_="axis")]
    shapes += [el("line", x1=_pc(at), x2=_pc(at), y1=2, y2=18, class_="reftick") for at in references]
    shapes += _whisker(mark, 10.0 if second is None else 6.0, kind)
    shapes += _whisker(second, 15.0, "quiet")
    numbers = numbers_text(mark.value, mark.low, mark.high)
    return el("svg", *shapes, class_="interval", width="100%", height=20, data_csv=numbers, aria_hidden="true")


def numbers_text(*values: float | None) -> str:
    """Value and ends for who copies a table: as they were computed, not as they are printed."""
    return ",".join("" if value is None else repr(float(value)) for value in values)


def range_row(low: float, high: float) -> Markup:
    """A plain range without an estimate, such as bounds."""
    return el(
        "svg",
        el("line", x1="0", x2="100%", y1=10, y2=10, class_="axis"),
        el("line", x1=_pc(low), x2=_pc(high), y1=10, y2=10, class_="range"),
        class_="interval", width="100%", height=20, data_csv=numbers_text(None, low, high), aria_hidden="true",
    )  # fmt: skip


def scale_row() -> Markup:
    """The 0-100% scale above a column of intervals."""
    shapes = []
    for at, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        shapes.append(el("text", percent(at), x=_pc(at), y=11, text_anchor=anchor, class_="tick"))
    return el("svg", *shapes, class_="scale", width="100%", height=16, aria_hidden="true")


def tile(kinds: Sequence[str], description: str) -> Markup:
    """A prompt's set as a square of cells, one per image: the figure that says all four at a glance.

    A solid square is a unanimous prompt; the cell of an image without a label is outlined.
    """
    columns = math.ceil(math.sqrt(len(kinds))) or 1
    cell = 24 if columns <= 2 else 48 / columns
    gap = 2 if columns <= 4 else 1
    shapes = []
    for number, kind in enumerate(kinds):
        y, x = divmod(number, columns)
        inset = 0.75 if kind in ("u", "n") else 0.0
        shapes.append(
            el(
                "rect", x=float(x * cell + inset), y=float(y * cell + inset), width=float(cell - gap - 2 * inset),
                height=float(cell - gap - 2 * inset), rx=1.5, class_=f"cell s-{kind}",
            )
        )  # fmt: skip
    side = columns * cell - gap
    return el(
        "svg", *shapes, class_="tile", width="46", height="46", viewBox=f"0 0 {side:g} {side:g}", role="img",
        aria_label=description,
    )  # fmt: skip


def histogram(counts: Sequence[int], description: str, *, labels: int = 2) -> Markup:
    """Prompts by share of the first label, in equal bins from 0 to 1.

    The last bin takes that label's colour; the first one that of the other where there are two.
    """
    top = max(counts, default=0) or 1
    width = 1 / len(counts)
    shapes = []
    for number, count in enumerate(counts):
        height = 132 * count / top
        kind = "b" if number == 0 and labels == 2 else "a" if number == len(counts) - 1 else "u"
        shapes.append(
            el(
                "rect",
                x=_pc(number * width + 0.002),
                y=150 - height,
                width=_pc(width - 0.004),
                height=height,
                class_=f"s-{kind}",
            )
        )
        if count:
            shapes.append(
                el(
                    "text",
                    f"{count:,}",
                    x=_pc((number + 0.5) * width),
                    y=145 - height,
                    text_anchor="middle",
                    class_="tick",
                )
            )
    shapes.append(el("line", x1="0", x2="100%", y1=150, y2=150, class_="axis"))
    for at, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        shapes.append(el("text", percent(at), x=_pc(at), y=166, text_anchor=anchor, class_="tick"))
    return el("svg", *shapes, class_="histogram", width="100%", height=170, role="img", aria_label=description)


@dataclass(frozen=True, slots=True)
class Point:
    """A prompt in the planted-against-measured chart."""

    planted: float
    mark: Mark
    covered: bool
    name: str


def planted_chart(points: Sequence[Point], description: str, what: str) -> Markup:
    """Measured share with interval over planted share; on the diagonal the measurement is right."""
    left, top, side = 52.0, 12.0, 400.0

    def x(value: float) -> float:
        return left + side * value

    def y(value: float) -> float:
        return top + side * (1 - value)

    shapes = []
    for at in (0.0, 0.25, 0.5, 0.75, 1.0):
        shapes.append(el("line", x1=x(0), x2=x(1), y1=y(at), y2=y(at), class_="grid"))
        shapes.append(el("text", percent(at), x=left - 8, y=y(at) + 4, text_anchor="end", class_="tick"))
        shapes.append(el("text", percent(at), x=x(at), y=top + side + 18, text_anchor="middle", class_="tick"))
    shapes.append(el("line", x1=x(0), x2=x(1), y1=y(0), y2=y(1), class_="diagonal"))
    taken: dict[int, int] = {}
    for point in points:
        mark = point.mark
        if mark.value is None:
            continue
        at = x(point.planted)
        number = taken[round(at / 8)] = taken.get(round(at / 8), -1) + 1
        at += 3.5 * ((number + 1) // 2) * (-1 if number % 2 else 1)  # prompts with one planted share stand side by side
        kind = "ink" if point.covered else "miss"
        inner = [el("title", point.name)]
        if mark.low is not None and mark.high is not None:
            inner.append(
                el(
                    "line",
                    x1=at,
                    x2=at,
                    y1=y(mark.low),
                    y2=y(mark.high),
                    class_=f"whisker thin w-{kind}",
                )
            )
        inner.append(el("circle", cx=at, cy=y(mark.value), r=4, class_=f"dot d-{kind}"))
        shapes.append(el("g", *inner))
    shapes.append(
        el("text", f"planted share of {what}", x=x(0.5), y=top + side + 40, text_anchor="middle", class_="axistitle")
    )
    shapes.append(
        el(
            "text",
            f"measured share of {what}",
            transform=f"translate(12 {y(0.5):g}) rotate(-90)",
            text_anchor="middle",
            class_="axistitle",
        )
    )
    return el("svg", *shapes, class_="planted", viewBox="0 0 464 460", width="464", role="img", aria_label=description)
