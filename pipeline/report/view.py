"""From tables to what the template prints: rows, tiles, charts and the data behind the detail dialog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from allfour.models.attributes import PRESENCE
from allfour.pipeline.report import prose, svg
from allfour.pipeline.report.each_prose import each_note
from allfour.pipeline.report.frame import common_frame
from allfour.pipeline.report.tables import ImageRecord, Key
from allfour.pipeline.report.thumbnails import Thumbnail
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import (
    clean,
    group_text,
    grouped,
    interval_text,
    label_text,
    percent,
    plural,
    probability,
    quantity,
    word,
)

MAX_ROWS = 240
"""Runs with more prompts show a sample of this many."""
MAX_IMAGES = 1500
"""Images on one page."""


@dataclass(frozen=True, slots=True)
class ImageView:
    """One image on the page."""

    number: int
    """Place in the page's image data."""
    kind: str
    label: str
    probability: str
    name: str
    """For screen readers."""
    thumbnail: Thumbnail | None
    evaluated: bool


@dataclass(frozen=True, slots=True)
class RowView:
    """One prompt on the page."""

    rank: int
    anchor: str
    text: str
    short: str
    """The text without the words that all prompts share."""
    group: str | None
    phrase: str
    """What a folded row says: the verdict, or the tally where its images differ."""
    value: str
    verdict: str
    verdict_kind: str
    tally: str
    share: str
    bar: Markup
    first: Sequence[ImageView]
    rest: Sequence[ImageView]
    hidden: int
    sort_share: float
    away: float
    """Distance of its share from that in another run; -1 where there is none."""
    confidence: float
    kinds: str
    """Space-separated marks that the filter knows it by."""
    notes: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class TileView:
    """One prompt of the headline figure."""

    anchor: str
    name: str
    picture: Markup


def kinds_by_label(labels: Sequence[str]) -> dict[str, str]:
    """Colour class of every decision: a letter per label, `u` unclear, `n` no reading."""
    kinds = {label: svg.series_class(number) for number, label in enumerate(labels)}
    return {**kinds, AMBIGUOUS: "u", MIXED: "u", NO_PERSON: "n", UNREADABLE: "n"}


def ranked(metrics: Metrics) -> list[Prompt]:
    """Prompts from the most to the least of the headline's first label; ties by more images, then by text."""
    first = metrics.headline_labels[0]

    def order(prompt: Prompt) -> tuple[bool, float, float, str]:
        share = prompt.share.get(first)
        known = share is not None and share.value is not None
        value = share.value if share is not None and share.value is not None else 0.0
        low = share.low if share is not None and share.low is not None else 0.0
        return (not known, -value, -low if value >= 0.5 else low, prompt.text)

    return sorted(metrics.prompts, key=order)


def sample(prompts: Sequence[Prompt], limit: int = MAX_ROWS) -> list[tuple[int, Prompt]]:
    """Rank and prompt of those shown: all, or a quarter from either end and the rest evenly spaced between."""
    count = len(prompts)
    if count <= limit:
        return list(enumerate(prompts, start=1))
    end = limit // 4
    middle = limit - 2 * end
    span = count - 2 * end
    places = [
        *range(end),
        *(end + (2 * k + 1) * span // (2 * middle) for k in range(middle)),
        *range(count - end, count),
    ]
    return [(place + 1, prompts[place]) for place in places]


def images_per_row(rows: int, set_size: int) -> int:
    """How many images of each prompt fit on the page."""
    return max(set_size, MAX_IMAGES // max(rows, 1))


def alone(share: Mapping[str, Interval | None], label: str) -> svg.Mark | None:
    """A label's share as a mark on a scale."""
    found = share.get(label)
    return None if found is None or found.value is None else svg.Mark(found.value, found.low, found.high)


def _decision_of(record: ImageRecord, attribute: str) -> str:
    return record.decision(attribute) or (UNREADABLE if record.status == "unreadable" else record.status)


def _copied(prompt: Prompt) -> str:
    """What marks a set that holds near-copies of one image."""
    return "; near-copies" if prompt.near_copies_in_set else ""


def _distance(one: svg.Mark | None, two: svg.Mark | None) -> float:
    """Between two marks; -1 where there is one at most."""
    if one is None or two is None or one.value is None or two.value is None:
        return -1.0
    return abs(one.value - two.value)


class PageBuilder:
    """Numbers images across the page and builds its rows."""

    def __init__(self, metrics: Metrics, *, data: list[dict[str, Any]] | None = None, run: str = "") -> None:
        """`data` are the records of a page's images that there are already, `run` is said of each where there are several runs."""
        self.metrics = metrics
        self.run = run
        self.labels = metrics.headline_labels
        self.kinds = kinds_by_label(self.labels)
        self.frame = common_frame([prompt.text for prompt in metrics.prompts])
        self.data: list[dict[str, Any]] = [] if data is None else data

    def row(
        self, rank: int, prompt: Prompt, shown: Sequence[ImageRecord], thumbnails: Mapping[Key, Thumbnail]
    ) -> RowView:
        """One prompt's row; `shown` are the images that get a place on the page."""
        size = self.metrics.summary.set_size
        evaluated = {record.key for record in shown[:size]}
        text = clean(prompt.text, 300)
        views = [self._image(record, text, thumbnails, record.key in evaluated) for record in shown]
        missing = max(0, prompt.images - sum(prompt.counts.values()))
        mark = alone(prompt.share, self.labels[0])
        reference = (prompt.reference or {}).get(self.labels[0])
        tally = prose.tally(prompt.counts, self.labels, missing)
        share = self._share_text(mark)
        verdict, verdict_kind = self._verdict(prompt)
        sure = [p for p in (record.probability(self.metrics.headline) for record in shown) if p is not None]
        decisions = {_decision_of(record, self.metrics.headline) for record in shown}
        decisions |= {decision for decision, count in prompt.counts.items() if count}
        notes = [] if reference is None else [f"reference {percent(reference)} {plural(self.labels[0])}"]
        fit = self.metrics.summary.calibration_fit
        second = alone(prompt.share_corrected or {}, self.labels[0]) if fit is None or fit.fits else None
        if second is not None:
            notes.append(f"corrected {percent(second.value)} ({interval_text(second.low, second.high)})")
        if prompt.near_copies:
            notes.append(
                f"{quantity(prompt.near_copies, 'image')} of it near-copies of another, which are no draws of their own"
            )
        if (beyond := each_note(self.metrics.each, prompt.id)) is not None:
            notes.append(beyond)
        other = self._against(prompt)
        if other is not None and self.metrics.against is not None:
            name = clean(self.metrics.against.name, 40)
            notes.append(f"in {name} {percent(other.value)} ({interval_text(other.low, other.high)})")
        return RowView(
            rank=rank,
            anchor=f"p{rank}",
            text=text,
            short=clean(self.frame.short(prompt.text), 300),
            phrase=(tally[:1].upper() + tally[1:] if verdict_kind == "mixed" else verdict) + _copied(prompt),
            value="–" if mark is None or mark.value is None else percent(mark.value),
            group=None if prompt.group is None else group_text(prompt.group),
            verdict=verdict,
            verdict_kind=verdict_kind,
            tally=tally,
            share=share,
            bar=svg.prompt_bar(
                self.segments(prompt),
                mark,
                reference,
                f"{'; '.join([f'{tally}. {share}', *notes])}.",
                even=1 / len(self.labels),
                against=other,
            ),
            first=[view for view in views if view.evaluated],
            rest=[view for view in views if not view.evaluated],
            hidden=max(0, prompt.images - len(shown)),
            sort_share=-1.0 if mark is None or mark.value is None else mark.value,
            away=_distance(mark, other),
            confidence=min(sure, default=0.0),
            kinds=" ".join(sorted(self._marks(decisions, verdict_kind))),
            notes=notes,
        )

    def _against(self, prompt: Prompt) -> svg.Mark | None:
        """The prompt's share of the first label in another run."""
        found = self.metrics.against.prompts.get(prompt.id) if self.metrics.against is not None else None
        return None if found is None else alone(found.share, self.labels[0])

    def segments(self, prompt: Prompt) -> list[svg.Segment]:
        """First label, unclear, other labels, no reading."""
        counts = prompt.counts
        missing = max(0, prompt.images - sum(counts.values()))
        unclear = counts.get(AMBIGUOUS, 0) + counts.get(MIXED, 0)
        silent = missing + sum(counts.get(key, 0) for key in (NO_PERSON, UNREADABLE, "refused", "failed"))
        return [
            svg.Segment(self.kinds[self.labels[0]], counts.get(self.labels[0], 0)),
            svg.Segment("u", unclear),
            *(svg.Segment(self.kinds[label], counts.get(label, 0)) for label in self.labels[1:]),
            svg.Segment("n", silent),
        ]

    def tile(self, anchor: str, prompt: Prompt, records: Sequence[ImageRecord]) -> TileView:
        """The prompt's first set as a square of cells."""
        size = self.metrics.summary.set_size
        decisions = [_decision_of(record, self.metrics.headline) for record in records[:size]]
        decisions += ["missing"] * (size - len(decisions))
        order = {kind: place for place, kind in enumerate((*svg.SERIES, "u", "n"))}
        kinds = sorted((self.kinds.get(decision, "n") for decision in decisions), key=lambda kind: order[kind])
        name = clean(self.frame.short(prompt.text), 80)
        return TileView(
            anchor, name, svg.tile(kinds, f"{name}: {', '.join(label_text(d) for d in decisions)}{_copied(prompt)}")
        )

    def _verdict(self, prompt: Prompt) -> tuple[str, str]:
        size = self.metrics.summary.set_size
        if not prompt.evaluated:
            return f"Fewer than {word(size)} images: not counted", "n"
        if (asked := prompt.expect.get(self.metrics.headline)) is not None:
            shown = f"{grouped(prompt.counts.get(asked, 0))} of {quantity(prompt.images, 'image')}"
            return f"{plural(asked).capitalize()} asked for, in {shown}", self.kinds.get(asked, "u")
        if not any(prompt.counts.get(decision, 0) for decision in (*self.labels, AMBIGUOUS, MIXED, NO_PERSON)):
            return "No image could be read", "n"
        more = prompt.images > size
        if prompt.unanimous is not None:
            who = plural(prompt.unanimous)
            whole = "Both" if size == 2 else f"All {word(size)}"
            return f"First {word(size)} all {who}" if more else f"{whole} {who}", self.kinds.get(prompt.unanimous, "u")
        return f"First {word(size)} not unanimous" if more else "Not unanimous", "mixed"

    def _share_text(self, mark: svg.Mark | None) -> str:
        if mark is None or mark.value is None:
            return "No image with a label"
        interval = "" if mark.low is None else f" ({interval_text(mark.low, mark.high)})"
        return f"{percent(mark.value)} {plural(self.labels[0])}{interval}"

    def _marks(self, decisions: Iterable[str], verdict_kind: str) -> set[str]:
        """What the filter knows a row by. Labels go by place, so that no foreign text gets into an attribute that is split at spaces."""
        found = {f"has-label-{self.labels.index(decision)}" for decision in decisions if decision in self.labels}
        for decision in decisions:
            if decision in (AMBIGUOUS, MIXED):
                found.add("has-ambiguous")
            elif decision == NO_PERSON:
                found.add("has-no_person")
            elif decision not in self.labels:
                found.add("has-missing")
        if verdict_kind == "mixed":
            return found | {"mixed"}
        return found if verdict_kind == "n" else found | {"unanimous", f"all-{verdict_kind}"}

    def images(self, records: Sequence[ImageRecord], text: str, thumbnails: Mapping[Key, Thumbnail]) -> list[ImageView]:
        """Images of a prompt that are not among its first set, in their order."""
        return [self._image(record, text, thumbnails, False) for record in records]

    def _image(self, record: ImageRecord, text: str, thumbnails: Mapping[Key, Thumbnail], evaluated: bool) -> ImageView:
        decision = _decision_of(record, self.metrics.headline)
        label = label_text(decision)
        sure = probability(record.probability(self.metrics.headline)) if decision in self.labels else ""
        number = len(self.data)
        self.data.append(self._detail(record, f"reads as {label}" if decision in self.labels else label))
        return ImageView(
            number=number,
            kind=self.kinds.get(decision, "n"),
            label=label,
            probability=sure,
            name=f"{label} {sure}".strip() + f", image {record.index} for {clean(text, 120)}",
            thumbnail=thumbnails.get(record.key),
            evaluated=evaluated,
        )

    def _people(self, record: ImageRecord) -> list[dict[str, Any]]:
        """Everybody that was found: number, box in shares of the picture, colour class of the reading."""
        if not record.width or not record.height:
            return []
        size = (record.width, record.height) * 2
        return [
            {
                "number": score.person + 1,
                "box": [round(min(max(edge / side, 0.0), 1.0), 4) for edge, side in zip(score.box, size, strict=True)],
                "kind": self.kinds.get(score.decision, "u"),
            }
            for score in record.scores
            if score.attribute == self.metrics.headline and score.box is not None
        ]

    def _detail(self, record: ImageRecord, label: str) -> dict[str, Any]:
        facts = {
            "Run": self.run,
            "Seed": record.seed,
            "File": record.path,
            "Size": f"{record.width} x {record.height} pixels" if record.width and record.height else None,
            "sha256": record.sha256,
            "Status": None if record.status == "generated" else record.status,
            "Code": record.code,
            "Reason": record.error,
            "Prompt as rewritten by the service": record.revised_prompt,
            **{f"Planted {label_text(name)}": value for name, value in record.truth.items()},
        }
        return {
            "prompt": clean(record.prompt, 2000),
            "index": record.index,
            "label": label,
            "people": self._people(record),
            "facts": [[key, clean(value, 1000)] for key, value in facts.items() if value not in (None, "")],
            "scores": [
                {
                    "attribute": ("" if score.attribute == PRESENCE else "perceived ") + label_text(score.attribute),
                    "person": score.person,
                    "decision": label_text(score.decision),
                    "probabilities": [
                        [label_text(name), round(float(value), 4)]
                        for name, value in score.probabilities.items()
                        if value is not None
                    ],
                }
                for score in record.scores
            ],
        }


def flatten(value: Any, prefix: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """A nested value as lines of `key.inner`, value."""
    if isinstance(value, Mapping) and depth < 6:
        lines: list[tuple[str, str]] = []
        for key, inner in value.items():
            lines += flatten(inner, f"{prefix}.{key}" if prefix else str(key), depth + 1)
        return lines
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = ", ".join(str(item) for item in value)
    return [(clean(prefix, 120), "–" if value is None else clean(value, 300))]


def page_path(run_dir: Path) -> Path:
    """Where the report goes."""
    return run_dir / "report.html"
