"""One figure that stands alone, for a notebook or a slide: the first label's share of every prompt, with its interval."""

from __future__ import annotations

from markupsafe import Markup

from allfour.pipeline.report.svg import el
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.words import clean, percent, plural

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 640.0, 190.0, 16.0, 20.0, 44.0
_INK, _QUIET, _SOLE = "#1f2933", "#9aa5b1", "#b4431f"
MOST_ROWS = 60


def share_figure(metrics: Metrics) -> Markup:
    """An SVG of its own: prompts from the largest share to the smallest; those whose set shows one label stand out.

    At most 60 prompts, half from either end.
    """
    label = metrics.headline_labels[0]
    rows = [prompt for prompt in metrics.prompts if (share := prompt.share.get(label)) is not None and share.known]
    rows.sort(key=lambda prompt: (-_value(prompt, label), prompt.id))
    left_out = max(len(rows) - MOST_ROWS, 0)
    if left_out:
        rows = rows[: MOST_ROWS // 2] + rows[-MOST_ROWS // 2 :]
    height = _TOP + _ROW * len(rows) + 24
    title = f"Share of images that read as {plural(label)}" + (
        f"; {left_out} prompts in the middle left out" if left_out else ""
    )
    shapes = [
        el("rect", width="100%", height="100%", fill="#fff"),
        el("text", title, x=8, y=18, font_size=14, fill=_INK),
    ]
    for at in (0.0, 0.25, 0.5, 0.75, 1.0):
        shapes.append(el("line", x1=_x(at), x2=_x(at), y1=_TOP - 8, y2=height - 16, stroke="#e4e7eb"))
        shapes.append(el("text", percent(at), x=_x(at), y=height - 3, font_size=11, fill=_QUIET, text_anchor="middle"))
    for number, prompt in enumerate(rows):
        shapes += _row(prompt, label, _TOP + _ROW * number)
    return el(
        "svg", *shapes, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH:.0f} {height:.0f}", width=_WIDTH, height=height,
        font_family="system-ui, sans-serif", role="img", aria_label=title,
    )  # fmt: skip


def _row(prompt: Prompt, label: str, y: float) -> list[Markup]:
    share = prompt.share[label]
    colour = _SOLE if prompt.unanimous is not None else _INK
    name = el("text", clean(prompt.id, 26), x=_LEFT - 10, y=y + 4, font_size=12, fill=colour, text_anchor="end")
    shapes = [name]
    if share is not None and share.low is not None and share.high is not None:
        shapes.append(el("line", x1=_x(share.low), x2=_x(share.high), y1=y, y2=y, stroke=colour, stroke_width=1.5))
    shapes.append(el("circle", cx=_x(_value(prompt, label)), cy=y, r=4, fill=colour))
    return shapes


def _value(prompt: Prompt, label: str) -> float:
    share = prompt.share[label]
    return 0.0 if share is None or share.value is None else share.value


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
