"""A sample of a run's images for people to label: who is drawn, with what probability, and the page to label them on.

The classifier's decisions are known for every image; people label some. So that their labels say something of all images
whatever the classifier's error (estimates.py), the sample is random with known probabilities: within strata
of the classifier's decision and the prompt's group, every unit is as likely as any other.

A unit is an image, for shares, or a whole set of a prompt, for unanimity: labels of single images of many sets do not say of
any set whether all its images agree.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from allfour.border import read_json
from allfour.files import read_regular, sha256_of
from allfour.models.attributes import AttributeSet
from allfour.pipeline.config import RunConfig, recorded_config, validate
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.seal import unsealed
from allfour.pipeline.run.tables import connect

Unit = Literal["image", "set"]
Codes = NDArray[np.int64]

FORMAT = 1
FOLDER = "review"
"""Samples that were drawn: RUN/review/ID.json."""
MAX_LABELS = 9
"""One digit key each; 0 is `cannot tell`."""
NO_GROUP = "no group"
_DISPUTE = ("agreed", "disputed")
FAVOUR = 3
"""Units on which readers differ are drawn so many times as often: there labels tell most. Estimates know the probabilities."""
_UNRESOLVED, _DIFFERENT, _NOTHING = "unresolved", "different", "nothing to see"


@dataclass(frozen=True, slots=True)
class Population:
    """Every image row of a run that the headline rests on, as columns, in the order of images.parquet."""

    prompt_ids: Sequence[str]
    """Prompt ids by prompt number."""
    groups: Sequence[str]
    """Group of each prompt, by prompt number."""
    prompt: Codes
    """[rows] prompt number."""
    index: Codes
    """[rows] index within the prompt."""
    rank: Codes
    """[rows] 1 for a prompt's first image."""
    category: Codes
    """[rows] position of the classifier's reading in `categories`; -1 where there is nothing to see."""
    categories: tuple[str, ...]
    """Labels of the attribute, then ambiguous, no_person, mixed: what an image can read as."""
    labels: int
    """How many of the categories are labels."""
    disputed: NDArray[np.bool_] | None = None
    """[rows] whether readers gave the image different labels; None where no other run was laid beside this one."""


@dataclass(frozen=True, slots=True)
class Units:
    """What is sampled: images, or sets."""

    kind: Unit
    owner: Codes
    """[rows] unit of each image row; -1 for rows of none."""
    prompt: Codes
    """[units] prompt number."""
    size: int
    """Images of a unit."""
    predicted: NDArray[np.float64]
    """[units, categories] share of the unit's images that the classifier reads so; images that are missing add nothing."""
    visible: Codes
    """[units] images that can be seen."""


@dataclass(frozen=True, slots=True)
class Strata:
    """Which stratum every unit is in."""

    names: tuple[str, ...]
    code: Codes
    """[units] position in `names`."""
    scheme: tuple[str, ...]
    """By what they were made: of `dispute`, `decision`, `group`, `prompt`."""
    disputed: NDArray[np.bool_] | None = None
    """[units] whether readers differ on an image of it, where that is a part of the scheme."""


def read_run(run: RunFolder) -> tuple[RunConfig, AttributeSet]:
    """Config and attributes of a scored run, from its header.

    Raises
    ------
    RunFolderError
        It is not a run folder, or its scores do not exist.
    """
    header = run.scored_header()
    config = recorded_config(header.config, where=str(run.header_path))
    return config, validate(AttributeSet, header.attributes, where=str(run.header_path))


def scores_fingerprint(run: RunFolder) -> str:
    """What tells that the scores are still those that a sample was drawn from."""
    if (recorded := run.header().fingerprint_of("scores")) is not None:
        return recorded
    return sha256_of(run.scores_path)


def read_population(
    run: RunFolder, attributes: AttributeSet, disputed: Collection[tuple[str, int]] = frozenset()
) -> Population:
    """Every image of the run that the headline rests on, with what the classifier reads in it.

    Parameters
    ----------
    disputed
        (prompt id, index) of images on which readers differ.
    """
    labels = attributes.labels(attributes.headline)
    categories = (*labels, AMBIGUOUS, NO_PERSON, MIXED)
    with connect(run) as connection:
        rows = connection.execute(
            'SELECT i.prompt_id, i."group", i."index", row_number() OVER (PARTITION BY i.prompt_id ORDER BY i."index"),'
            " CASE WHEN i.status = ? THEN coalesce(l.label, ?) ELSE ? END FROM counted_images i"
            ' LEFT JOIN labels l ON i.prompt_id = l.prompt_id AND i."index" = l."index" AND l.attribute = ?'
            " WHERE i.counted ORDER BY i.file_row_number",
            [ImageStatus.GENERATED.value, UNREADABLE, UNREADABLE, attributes.headline],
        ).fetchall()
    numbers: dict[str, int] = {}
    groups: list[str] = []
    for prompt_id, group, *_ in rows:
        if prompt_id not in numbers:
            numbers[prompt_id] = len(numbers)
            groups.append(group if group else NO_GROUP)
    place = {name: position for position, name in enumerate(categories)}
    return Population(
        prompt_ids=list(numbers),
        groups=groups,
        prompt=np.array([numbers[row[0]] for row in rows], dtype=np.int64),
        index=np.array([row[2] for row in rows], dtype=np.int64),
        rank=np.array([row[3] for row in rows], dtype=np.int64),
        category=np.array([place.get(row[4], -1) for row in rows], dtype=np.int64),
        categories=categories,
        labels=len(labels),
        disputed=np.array([(row[0], row[2]) in disputed for row in rows], dtype=bool) if disputed else None,
    )


def make_units(population: Population, kind: Unit, set_size: int) -> Units:
    """Images that can be seen, or the sets that the headline is about: the first `set_size` images of every prompt."""
    rows = len(population.prompt)
    owner = np.full(rows, -1, dtype=np.int64)
    if kind == "image":
        seen = population.category >= 0
        owner[seen] = np.arange(int(seen.sum()))
        prompt, size = population.prompt[seen], 1
    else:
        whole = np.bincount(population.prompt, minlength=len(population.prompt_ids)) >= set_size
        number = np.cumsum(whole) - 1
        inside = whole[population.prompt] & (population.rank <= set_size)
        owner[inside] = number[population.prompt[inside]]
        prompt, size = np.flatnonzero(whole), set_size
    readable = (owner >= 0) & (population.category >= 0)
    counts = np.zeros((len(prompt), len(population.categories)))
    np.add.at(counts, (owner[readable], population.category[readable]), 1)
    return Units(
        kind=kind, owner=owner, prompt=prompt, size=size, predicted=counts / size, visible=counts.sum(axis=1).astype(int)
    )  # fmt: skip


def stratify(units: Units, population: Population, scheme: Sequence[str]) -> Strata:
    """The stratum of every unit; names say what the classifier decided of it, and the group or prompt."""
    decisions = (*population.categories, _UNRESOLVED, _DIFFERENT, _NOTHING)
    decided = _decided(units, population)
    groups = sorted(set(population.groups))
    place = {name: position for position, name in enumerate(groups)}
    group = np.array([place[name] for name in population.groups], dtype=np.int64)
    disputed = _disputed(units, population)
    columns, names = [], []
    for part in scheme:
        of = {
            "dispute": disputed.astype(np.int64),
            "decision": decided,
            "group": group[units.prompt],
            "prompt": units.prompt,
        }[part]
        columns.append(of)
        names.append(
            {"dispute": _DISPUTE, "decision": decisions, "group": groups, "prompt": population.prompt_ids}[part]
        )
    # a set without a single image to see needs no label, and so no share of the sample: a stratum of its own
    nothing = decided == len(decisions) - 1
    table = np.stack([nothing.astype(np.int64), *(np.where(nothing, 0, column) for column in columns)], axis=1)
    keys, code = np.unique(table, axis=0, return_inverse=True)
    text = [
        _NOTHING if alone else " / ".join(names[i][value] for i, value in enumerate(values)) or "all"
        for alone, *values in keys.tolist()
    ]
    return Strata(
        tuple(text), code.reshape(-1).astype(np.int64), tuple(scheme), disputed if "dispute" in scheme else None
    )


def _disputed(units: Units, population: Population) -> NDArray[np.bool_]:
    """[units] whether readers differ on an image of the unit."""
    result = np.zeros(len(units.prompt), dtype=bool)
    if population.disputed is not None:
        result[units.owner[population.disputed & (units.owner >= 0)]] = True
    return result


def _decided(units: Units, population: Population) -> Codes:
    """[units] the category that all images of a unit have, or one of three codes behind them: unresolved, different, nothing."""
    number, labels = len(population.categories), population.labels
    best = units.predicted.argmax(axis=1)
    one = units.predicted.max(axis=1, initial=0) == 1
    labelled = np.rint(units.predicted[:, :labels].sum(axis=1) * units.size) == units.size
    result = np.where(labelled, number + 1, number)
    result = np.where(one & ((best < labels) | (units.kind == "image")), best, result)
    return np.where(units.visible == 0, number + 2, result).astype(np.int64)


def choose_scheme(units: Units, population: Population, number: int) -> Strata:
    """The finest of the schemes that leaves several sampled units to a stratum."""
    grouped = len(set(population.groups)) > 1
    schemes: list[tuple[tuple[str, ...], int]] = [(("decision",), 2), ((), 1)]
    if grouped:
        schemes.insert(0, (("decision", "group"), 4))
    elif units.kind == "image":
        schemes.insert(0, (("decision", "prompt"), 4))
    if 0 < _disputed(units, population).sum() < len(units.prompt):
        schemes = [*((("dispute", *scheme), least) for scheme, least in schemes), *schemes]
    for scheme, least in schemes:
        strata = stratify(units, population, scheme)
        sizes = np.bincount(strata.code)
        if np.minimum(sizes, least).sum() <= number or not scheme:
            return strata
    raise AssertionError("the last scheme always fits")


def allocate(sizes: Codes, number: int, favour: NDArray[np.float64] | None = None) -> Codes:
    """How many units to draw of every stratum: in proportion, yet two where there are two, so that a variance can be seen.

    Parameters
    ----------
    favour
        How many times as often units of a stratum are drawn; by default all as often.
    """
    take = np.minimum(sizes, 2)
    heavy = sizes if favour is None else sizes * favour
    wanted = number * heavy / heavy.sum()
    for _ in range(number - int(take.sum())):
        short = np.where(take < sizes, wanted - take, -np.inf)
        if not np.isfinite(short).any():
            break
        take[int(short.argmax())] += 1
    return take


def plan_path(run: RunFolder, identity: str) -> Path:
    """Where a sample is kept."""
    return run.path / FOLDER / f"{identity}.json"


def read_plan(run: RunFolder, identity: str) -> dict[str, Any] | None:
    """A sample that was drawn from this run, or None."""
    try:
        plan = unsealed(read_json(read_regular(plan_path(run, identity))))
    except (OSError, ValueError, RecursionError):
        return None
    return plan if isinstance(plan, dict) and plan.get("format") == FORMAT and plan.get("id") == identity else None


def draw_units(units: Units, strata: Strata, number: int, seed: int) -> tuple[Codes, NDArray[np.float64]]:
    """Numbers of the drawn units, and the probability that each unit had."""
    seen = np.flatnonzero(units.visible > 0)
    present, code = np.unique(strata.code[seen], return_inverse=True)
    sizes = np.bincount(code, minlength=len(present)).astype(np.int64)
    favour = None
    if strata.disputed is not None:
        favour = np.ones(len(present))
        favour[code[strata.disputed[seen]]] = FAVOUR
    take = allocate(sizes, number, favour)
    random = np.random.default_rng([seed, 1])
    chosen = [
        random.choice(seen[code == stratum], size=int(some), replace=False) for stratum, some in enumerate(take.tolist())
    ]  # fmt: skip
    probability = np.zeros(len(units.prompt))
    probability[seen] = (take / sizes)[code]
    return np.sort(np.concatenate(chosen)), probability


def listing(
    identity: str,
    population: Population,
    *,
    units: Units,
    strata: Strata,
    chosen: Codes,
    probability: NDArray[np.float64],
    seed: int,
) -> list[dict[str, Any]]:
    """The images of the drawn units in the order of the page.

    The order is random over all of them: whoever stops early has labelled a random part, and four images of one prompt do
    not follow each other, where the first would colour how the next ones read. Where readers differ on some, these come first, in
    random order, since there a label tells most.
    """
    rows = np.flatnonzero(np.isin(units.owner, chosen) & (population.category >= 0))
    order = np.random.default_rng([seed, 2]).permutation(rows)
    if strata.disputed is not None:
        order = order[np.argsort(~strata.disputed[units.owner[order]], kind="stable")]
    result = []
    for row in order.tolist():
        unit = int(units.owner[row])
        prompt_id, index = population.prompt_ids[population.prompt[row]], int(population.index[row])
        result.append(
            {
                "image": fingerprint(identity, prompt_id, index)[:16],
                "prompt_id": prompt_id,
                "index": index,
                "stratum": strata.names[strata.code[unit]],
                "probability": float(probability[unit]),
            }
        )
    return result
