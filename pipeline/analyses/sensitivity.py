"""How the headline moves under other wordings, margins, thresholds and heads: one pass over the stored embeddings, counts alone kept.

RUN/sensitivity.json holds the result; docs/method.md says what it means. No calibration enters: one belongs to one wording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import FloatArray, HalfArray
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.base import KeptAnalysis
from allfour.pipeline.analyses.sensitivity_grid import FACTORS, WORDING_FACTORS, Plan, Setting
from allfour.pipeline.metrics.breakdowns import mean_shares
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.labels import AMBIGUOUS_CODE, MIXED_CODE, NO_PERSON_CODE, image_codes
from allfour.pipeline.run.metrics import Sensitivity
from allfour.pipeline.run.tables import connect
from allfour.pipeline.scoring.decisions import decide_all
from allfour.pipeline.scoring.people import People, present, readings_of
from allfour.pipeline.scoring.score_tables import readable_rows
from allfour.pipeline.scoring.stored_embeddings import StoredPart, read_part, read_people
from allfour.pipeline.scoring.twins import first_twins

if TYPE_CHECKING:
    from allfour.models.classifiers.linear_probe import Probe  # which imports torch

SENSITIVITY_VERSION = 1
"""Raise it when the same embeddings would give another document."""


_MAX_COUNTS = 40_000_000
"""Counts in memory at once; more settings than that allows are scored in several passes over the embeddings."""

Heads = Callable[[FloatArray | HalfArray], list[dict[str, FloatArray]]]
"""Embeddings -> per wording question -> [N, labels]: see `allfour.models.classifiers.base.Rewordable`."""


_Tables = tuple[list[dict[str, FloatArray]], list[FloatArray | None]]
"""Per wording question -> [N, labels], and per head the headline's own [N, labels], or None where it is zero-shot."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The run's prompts, from images.parquet."""

    rows: Mapping[str, int]
    """Prompt id -> its row in every array here."""
    requested: NDArray[np.int64]
    """[P] images, whatever became of them."""
    last: NDArray[np.int64]
    """[P] index of the last image of the prompt's set."""


def read_prompts(run: RunFolder, *, set_size: int) -> Prompts:
    """Prompts of a run and where their sets end; those that the headline does not rest on are in no unanimity figure."""
    with connect(run) as connection:
        found = connection.execute(
            "SELECT prompt_id, images, last FROM first_sets(?) WHERE counted ORDER BY place",
            [set_size],
        ).fetchall()
    return Prompts(
        rows={row[0]: place for place, row in enumerate(found)},
        requested=np.array([row[1] for row in found], dtype=np.int64),
        last=np.array([row[2] for row in found], dtype=np.int64),
    )


@dataclass(frozen=True, slots=True)
class Task:
    """What is scored, and how it is counted."""

    plan: Plan
    attributes: AttributeSet
    """The run's own, the headline's attribute alone."""
    heads: Heads
    probes: Sequence[Probe | None]
    """Per head; None is the zero-shot head."""
    dim: int
    prompts: Prompts
    set_size: int
    confidence: float


@dataclass(slots=True)
class _Counts:
    """Counts of several settings, the run's own first."""

    every: NDArray[np.int32]
    """[settings, P, labels + 3] images, by label, mixed, no person, ambiguous."""
    in_set: NDArray[np.int32]
    """The same over each prompt's set alone."""
    changed: NDArray[np.int64]
    """[settings] images with another decision than under the run's own setting."""


def score_settings(task: Task, parts: Sequence[StoredPart], advance: Callable[[int], None]) -> list[dict[str, Any]]:
    """The headline under every setting of the plan, the run's own first.

    Parameters
    ----------
    advance
        Called with the number of images that were read since the last call: all of them in each of `passes(task)`.

    Raises
    ------
    ConfigError
        A part cannot be read.
    """
    own, *others = task.plan.settings
    room = _room(task)
    entries: list[dict[str, Any]] = []
    for start in range(0, max(1, len(others)), room):
        settings = [own, *others[start : start + room]]
        found = _entries(task, settings, _count(task, settings, parts, advance))
        entries += found[1 if entries else 0 :]
    return entries


def passes(task: Task) -> int:
    """How often `score_settings` reads the embeddings."""
    return -(-max(1, len(task.plan.settings) - 1) // _room(task))


def _columns(task: Task) -> int:
    return len(task.attributes.labels(task.attributes.headline)) + 3


def _room(task: Task) -> int:
    """Settings besides the run's own whose counts fit into memory."""
    return max(1, _MAX_COUNTS // max(1, 2 * _columns(task) * len(task.prompts.requested)) - 1)


def _count(
    task: Task, settings: Sequence[Setting], parts: Sequence[StoredPart], advance: Callable[[int], None]
) -> _Counts:
    shape = (len(settings), len(task.prompts.requested), _columns(task))
    counts = _Counts(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(len(settings), np.int64))
    asked = [(setting, _asked(task.attributes, setting)) for setting in settings]
    for part in parts:
        listed, embeddings = read_part(part, task.dim)
        read = listed.filter(readable_rows(listed))
        if read.num_rows:
            _add(task, asked, counts, read, _Codes(task, embeddings, read_people(part, task.dim)))
        advance(listed.num_rows)
    return counts


def _asked(attributes: AttributeSet, setting: Setting) -> AttributeSet:
    """Margin and threshold of a setting; its wording is in the probabilities already."""
    name = attributes.headline
    spec = attributes.attributes[name]
    if setting.margin != spec.margin:  # one margin in place of the other
        spec = spec.model_copy(update={"margin": setting.margin, "margin_logit": None})
    presence = attributes.presence
    if presence is not None and setting.threshold is not None:
        presence = presence.model_copy(update={"threshold": setting.threshold})
    return attributes.model_copy(update={"attributes": {name: spec}, "presence": presence})


def _add(
    task: Task, asked: Sequence[tuple[Setting, AttributeSet]], counts: _Counts, read: pa.Table, codes: _Codes
) -> None:
    """Count one part's readable images."""
    columns = _columns(task)
    ids = read["prompt_id"].combine_chunks().dictionary_encode()
    places = np.array([task.prompts.rows.get(id_, -1) for id_ in ids.dictionary.to_pylist()], dtype=np.int64)
    local = ids.indices.to_numpy().astype(np.int64)
    known = places[local] >= 0
    rows = places[places >= 0]
    local = (np.cumsum(places >= 0) - 1)[local[known]]  # among the known prompts
    in_set = read["index"].to_numpy()[known] <= task.prompts.last[rows][local]
    first = first_twins(read)
    own: NDArray[np.int16] | None = None
    for place, (setting, attributes) in enumerate(asked):
        code = codes.of(setting, attributes)[first][known]
        own = code if own is None else own
        counts.changed[place] += int((code != own).sum())
        cell = local * columns + code.astype(np.int64) % columns  # codes without a label count from the end
        for table, chosen in ((counts.every, cell), (counts.in_set, cell[in_set])):
            found = np.bincount(chosen, minlength=len(rows) * columns).reshape(len(rows), columns)
            table[place, rows] += found.astype(np.int32)


class _Codes:
    """Decisions on the headline for one part's readable images, under any setting."""

    def __init__(self, task: Task, embeddings: HalfArray, people: People | None) -> None:
        self._headline = task.attributes.headline
        self._images = len(embeddings)
        self._whole = self._tables(task, embeddings)
        self._image = None if people is None or not len(people.vectors) else people.table["image"].to_numpy()
        self._crops = None if people is None or self._image is None else self._tables(task, people.vectors)

    @staticmethod
    def _tables(task: Task, vectors: FloatArray | HalfArray) -> _Tables:
        headline, labels = task.attributes.headline, task.attributes.labels(task.attributes.headline)
        probes = [None if probe is None else probe.table(headline, labels, vectors) for probe in task.probes]
        return task.heads(vectors), probes

    def _probabilities(self, tables: _Tables, setting: Setting) -> dict[str, FloatArray]:
        worded, probed = tables
        head = probed[setting.head]
        return worded[setting.wording] if head is None else {**worded[setting.wording], self._headline: head}

    def of(self, setting: Setting, attributes: AttributeSet) -> NDArray[np.int16]:
        """[images] a label's place, or a code of `allfour.pipeline.scoring.decisions`."""
        whole = self._probabilities(self._whole, setting)
        if self._crops is None or self._image is None:
            return decide_all(whole, attributes)[self._headline].code
        crops = self._probabilities(self._crops, setting)
        kept = present(crops, attributes, len(self._image))  # who counts as a person follows the threshold
        found = np.bincount(self._image[kept], minlength=self._images)
        readings = readings_of(kept, self._image[kept], found)
        both = {name: np.concatenate([table, crops[name]])[readings] for name, table in whole.items()}
        return image_codes(decide_all(both, attributes)[self._headline].code, np.where(found >= 2, found, 1))


def _entries(task: Task, settings: Sequence[Setting], counts: _Counts) -> list[dict[str, Any]]:
    names = task.attributes.labels(task.attributes.headline)
    evaluated = task.prompts.requested >= task.set_size
    prompts = int(evaluated.sum())
    own: NDArray[np.bool_] | None = None
    entries = []
    for place, setting in enumerate(settings):
        labelled = counts.in_set[place, :, : len(names)].astype(np.int64)
        unresolved = np.minimum(task.prompts.requested, task.set_size) - labelled.sum(axis=1)
        unanimous = np.asarray(st.unanimous_label(labelled, unresolved=unresolved) >= 0) & evaluated
        own = unanimous if own is None else own
        every = counts.every[place].astype(np.int64)
        shares = mean_shares(every[:, : len(names)], names, task.confidence)
        entries.append(
            {
                "name": setting.name,
                "factor": setting.factor,
                "changed": dict(setting.changed),
                "unanimous": int(unanimous.sum()),
                "unanimity": st.wilson(int(unanimous.sum()), prompts, confidence=task.confidence).to_dict(),
                "share": {name: share and share.document() for name, share in shares.items()},
                "labelled": int(every[:, : len(names)].sum()),
                "ambiguous": int(every[:, AMBIGUOUS_CODE].sum()),
                "no_person": int(every[:, NO_PERSON_CODE].sum()),
                "mixed": int(every[:, MIXED_CODE].sum()),
                "images_changed": int(counts.changed[place]),
                "prompts_gained": int((unanimous & ~own).sum()),
                "prompts_lost": int((own & ~unanimous).sum()),
            }
        )
    return entries


def document(task: Task, entries: Sequence[Mapping[str, Any]], made: str) -> dict[str, Any]:
    """What sensitivity.json holds.

    Parameters
    ----------
    entries
        Of `score_settings`, in the plan's order.
    made
        Fingerprint of everything that this document follows from.
    """
    own = entries[0]
    factors = [
        {"name": factor, **_spread([own, *found]), "settings": found}
        for factor in FACTORS
        if (found := [entry for entry in entries if entry["factor"] == factor])
    ]
    moved = max(factors, key=lambda factor: factor["range"] or 0.0, default=None)
    images = sum(own[key] for key in ("labelled", "ambiguous", "no_person", "mixed"))
    return {
        "fingerprint": made,
        "headline": task.attributes.headline,
        "labels": list(task.attributes.labels(task.attributes.headline)),
        "set_size": task.set_size,
        "confidence": task.confidence,
        "prompts": int((task.prompts.requested >= task.set_size).sum()),
        "images": images,
        **{key: value for key, value in _spread(entries).items() if key in ("low", "high", "range")},
        "moved_most": moved["name"] if moved and moved["range"] else None,
        "baseline": own,
        "factors": factors,
        "combined": _table(task.plan, entries),
        "notes": list(task.plan.notes),
    }


def _spread(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Least and greatest headline of some settings, and the settings that gave them."""
    known = [entry for entry in entries if entry["unanimity"]["value"] is not None]
    if not known:
        return {"low": None, "high": None, "range": None, "lowest": None, "highest": None}
    least, most = (choose(known, key=lambda entry: float(entry["unanimity"]["value"])) for choose in (min, max))
    low, high = least["unanimity"]["value"], most["unanimity"]["value"]
    return {"low": low, "high": high, "range": high - low, "lowest": least["name"], "highest": most["name"]}


def _table(plan: Plan, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Unanimous prompts by wording and margin, at the run's own head and threshold; None where they were not combined."""
    own = plan.settings[0]
    if not any(setting.factor == "combined" for setting in plan.settings):
        return None
    found = {
        (setting.wording, setting.margin): entry
        for setting, entry in zip(plan.settings, entries, strict=True)
        if setting.head == own.head and setting.threshold == own.threshold
    }
    margins = sorted({margin for _, margin in found})
    cells = [[found[wording, margin] for margin in margins] for wording in range(len(plan.wordings))]
    return {
        "wordings": list(plan.names),
        "margins": margins,
        "unanimous": [[cell["unanimous"] for cell in row] for row in cells],
        "settings": sum(len(row) for row in cells),
        **_spread([cell for row in cells for cell in row]),
    }


def _summary(found: Mapping[str, Any]) -> Sensitivity:
    ends = ("low", "high", "range")
    combined = found["combined"]
    factors = {factor["name"]: factor for factor in found["factors"]}
    summary = {
        "fingerprint": found["fingerprint"],
        "settings": 1 + sum(len(factor["settings"]) for factor in factors.values()),
        "baseline": found["baseline"]["unanimity"],
        **{key: found[key] for key in (*ends, "moved_most")},
        "factors": {
            name: {"settings": len(factor["settings"]), **{key: factor[key] for key in ends}}
            for name, factor in factors.items()
        },
        "combined": combined and {key: combined[key] for key in ("settings", *ends)},
        **_wording_spread(found),
    }
    return Sensitivity.model_validate(summary)


def _wording_spread(found: Mapping[str, Any]) -> dict[str, Any]:
    """How far the headline scatters over the grid's wordings, as if they were a sample of wordings like them."""
    settings = [
        found["baseline"],
        *(s for f in found["factors"] if f["name"] in WORDING_FACTORS for s in f["settings"]),
    ]
    values = [s["unanimity"]["value"] for s in settings if s["unanimity"]["value"] is not None]
    return {"wordings": len(values), "wording_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None}


SENSITIVITY = KeptAnalysis(
    name="sensitivity",
    file="sensitivity.json",
    format=1,
    record=_summary,
    what="a sensitivity analysis",
    again="allfour relabel RUN --grid default",
)
