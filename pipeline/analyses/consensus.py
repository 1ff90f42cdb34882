"""Two or more readers of one run: how far they agree, by attribute and list of prompts, and what that says of each one's errors.

Images are matched by the hash of their bytes. RUN/consensus.json holds the result and which images are disputed, so that the other runs
are not needed again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour.errors import RunFolderError
from allfour.models.attributes import AttributeSet
from allfour.pipeline.analyses.base import KeptAnalysis, basis
from allfour.pipeline.config import recorded_config, validate
from allfour.pipeline.run.columns import UNREADABLE
from allfour.pipeline.run.consensus import Consensus
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.tables import add_views, connect
from allfour.pipeline.statistics.clustered_agreement import clustered_agreement
from allfour.pipeline.statistics.latent_class import FEWEST_PROMPTS, FEWEST_READERS, LatentClasses, latent_classes

TWO_READERS, SAME_SOURCE, FEW_PROMPTS = "two_readers", "same_source", "few_prompts"
NO_LABEL = "no label"
"""The decision of a reader that gives none: ambiguous, no person, several who differ."""
MOST_DISPUTED = 50_000
"""Disputed images that are kept by name; any part of them can be looked at first."""

Table = NDArray[np.int64]


_READER = """r{number} AS (
  SELECT i.sha256, min(l.label) AS label FROM {prefix}images i JOIN {prefix}labels l ON i.prompt_id = l.prompt_id AND i."index" = l."index"
  WHERE i.sha256 IS NOT NULL AND l.attribute = {attribute} AND l.label <> '{unreadable}' GROUP BY i.sha256
)"""
"""What one reader says of an image with these bytes."""

_PATTERNS = """
WITH named AS (
  SELECT sha256, arg_min(prompt_id, file_row_number) AS prompt_id, arg_min("group", file_row_number) AS list
  FROM images WHERE sha256 IS NOT NULL GROUP BY sha256
)
SELECT prompt_id, list, {columns}, count(*) FROM joined JOIN named USING (sha256) GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class _Read:
    """Decisions on one attribute of the images that all its readers have read."""

    prompts: list[str]
    groups: list[str | None]
    """Of each prompt."""
    patterns: Table
    """[patterns, readers] position of the label; the number of labels for none."""
    counts: Table
    """[prompts, patterns] images."""


def write_consensus(run: RunFolder, others: Sequence[RunFolder]) -> None:
    """Lay other runs' readings of the same images beside a run's own; writes RUN/consensus.json.

    The others are runs that `write_second_opinion` takes.

    Raises
    ------
    RunFolderError
        No image was read by all.
    """
    header = run.scored_header()
    where = str(run.header_path)
    config = recorded_config(header.config, where=where)
    attributes = validate(AttributeSet, header.attributes, where=where)
    asked = [validate(AttributeSet, other.header().attributes, where=str(other.header_path)) for other in others]
    confidence, labels = config.statistics.confidence, attributes.labels(attributes.headline)
    sources = [source_of(folder.header().classifier) for folder in (run, *others)]
    names = [attributes.headline, *(name for name in attributes.attributes if name != attributes.headline)]
    with connect(run) as connection:
        for number, other in enumerate(others, start=1):
            add_views(connection, other, f"other{number}_")
        found = []
        for name in names:
            readers = _readers(name, attributes, asked)
            if len(readers) > 1:
                read = _read(connection, name, attributes.labels(name), readers)
                entry = _attribute(
                    name=name,
                    labels=attributes.labels(name),
                    readers=readers,
                    sources=sources,
                    read=read,
                    confidence=confidence,
                )
                found.append(entry)
        disputed = _disputed(connection, attributes.headline, labels, _readers(attributes.headline, attributes, asked))
    if not found[0]["images"]:
        raise RunFolderError(
            f"no image of {run.path} was read by all of {', '.join(str(other.path) for other in others)} (they are matched by the sha256 of "
            "their bytes). Leave out the run that has not read them, or let its classifier read these very images: "
            f"allfour rescore {run.header().to_reread(run.path)} --config CONFIG --run NEW"
        )
    CONSENSUS.write(
        run,
        {
            "fingerprint": fingerprint(basis(run), [basis(other) for other in others], CONSENSUS.format),
            "confidence": confidence,
            "readers": [
                {"name": name, "classifier": folder.header().classifier, "source": source}
                for name, folder, source in zip(
                    ["", *(other.path.resolve().name for other in others)], (run, *others), sources, strict=True
                )
            ],
            "attributes": found,
            "disputed_images": disputed,
        },
    )


def source_of(classifier: Any) -> str:
    """What a reader's mistakes come from: the same weights make mostly the same, in whatever words they are asked."""
    if not isinstance(classifier, Mapping):
        return fingerprint(classifier)
    encoder = classifier.get("encoder")
    if isinstance(encoder, Mapping) and (weights := encoder.get("tensors_sha256", encoder.get("weights_sha256"))):
        return str(weights)
    for backend, key in (("judge", "model"), ("face", "reader")):
        if classifier.get("backend") == backend and key in classifier:
            return fingerprint(backend, classifier[key])
    return fingerprint(classifier)


def disputed_images(run: RunFolder) -> frozenset[tuple[str, int]]:
    """(prompt id, index) of images on which readers differ, where a consensus of the present scores stands."""
    found = CONSENSUS.read(run)
    if found is None or not CONSENSUS.stands(run, found):
        return frozenset()
    return frozenset((str(prompt), int(index)) for prompt, index in found["disputed_images"])


def _readers(name: str, attributes: AttributeSet, asked: Sequence[AttributeSet]) -> list[int]:
    """Places of those who were asked an attribute in the same labels; the run itself is 0."""
    own = set(attributes.labels(name))
    return [0, *(n for n, other in enumerate(asked, 1) if name in other.attributes and set(other.labels(name)) == own)]


def _joined(connection: Any, name: str, readers: Sequence[int]) -> None:
    """The view `joined`: images by their bytes, with the label that each reader gives."""
    attribute = "'" + name.replace("'", "''") + "'"
    parts = [_READER.format(number=n, prefix=_prefix(n), attribute=attribute, unreadable=UNREADABLE) for n in readers]
    joins = " ".join(f"JOIN r{n} USING (sha256)" for n in readers[1:])
    columns = ", ".join(f"r{n}.label AS label{n}" for n in readers)
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW joined AS WITH {', '.join(parts)} SELECT sha256, {columns} FROM r{readers[0]} {joins}"  # noqa: S608
    )


def _prefix(reader: int) -> str:
    return f"other{reader}_" if reader else ""


def _read(connection: Any, name: str, labels: Sequence[str], readers: Sequence[int]) -> _Read:
    _joined(connection, name, readers)
    columns = ", ".join(f"label{n}" for n in readers)
    rows = connection.execute(_PATTERNS.format(columns=columns)).fetchall()
    place = {label: number for number, label in enumerate(labels)}
    prompts: dict[str, int] = {}
    groups: list[str | None] = []
    patterns: dict[tuple[int, ...], int] = {}
    entries = []
    for prompt, group, *decided, count in rows:
        if prompt not in prompts:
            prompts[prompt] = len(prompts)
            groups.append(group or None)
        pattern = tuple(place.get(label, len(labels)) for label in decided)
        entries.append((prompts[prompt], patterns.setdefault(pattern, len(patterns)), count))
    counts = np.zeros((len(prompts), len(patterns)), dtype=np.int64)
    for row, column, count in entries:
        counts[row, column] += count
    return _Read(list(prompts), groups, np.array(list(patterns), dtype=np.int64).reshape(-1, len(readers)), counts)


def _disputed(connection: Any, name: str, labels: Sequence[str], readers: Sequence[int]) -> list[list[Any]]:
    """[prompt id, index] of every row of an image to which two readers gave different labels."""
    _joined(connection, name, readers)
    given = ", ".join(f"label{n}" for n in readers)
    rows = connection.execute(
        f'SELECT i.prompt_id, i."index" FROM images i JOIN joined j USING (sha256)'  # noqa: S608
        f" WHERE len(list_distinct(list_filter([{given}], lambda l : list_contains(?, l)))) > 1"
        " ORDER BY i.sha256, i.file_row_number LIMIT ?",
        [list(labels), MOST_DISPUTED],
    ).fetchall()
    return [list(row) for row in rows]


def _attribute(
    *,
    name: str,
    labels: Sequence[str],
    readers: Sequence[int],
    sources: Sequence[str],
    read: _Read,
    confidence: float,
) -> dict[str, Any]:
    differ = [len({d for d in pattern if d < len(labels)}) > 1 for pattern in read.patterns.tolist()]
    columns = _independent(readers, sources)
    missing = _why_not(columns, readers, read)
    latent = (
        None
        if missing
        else latent_classes(read.patterns[:, columns], read.counts, labels=len(labels), confidence=confidence)
    )
    pairs = []
    for one, other in itertools.combinations(range(len(readers)), 2):
        expected = None
        if latent is not None and one in columns and other in columns:
            expected = float(latent.expected_agreement[columns.index(one), columns.index(other)])
        pairs.append(
            {"first": readers[one], "second": readers[other], "expected": expected, **_pair(read, one, other, labels, confidence)}
        )  # fmt: skip
    return {
        "attribute": name,
        "labels": list(labels),
        "readers": list(readers),
        "images": int(read.counts.sum()),
        "prompts": len(read.prompts),
        "disputed": int(read.counts[:, differ].sum()) if differ else 0,
        "pairs": pairs,
        "latent": None if latent is None else _latent(latent, labels, [readers[column] for column in columns]),
        "latent_missing": missing,
    }


def _independent(readers: Sequence[int], sources: Sequence[str]) -> list[int]:
    """Columns of the first reader of each source."""
    first: dict[str, int] = {}
    for column, reader in enumerate(readers):
        first.setdefault(sources[reader], column)
    return list(first.values())


def _why_not(columns: Sequence[int], readers: Sequence[int], read: _Read) -> str | None:
    if len(readers) < FEWEST_READERS:
        return TWO_READERS
    if len(columns) < FEWEST_READERS:
        return SAME_SOURCE
    return FEW_PROMPTS if len(read.prompts) < FEWEST_PROMPTS else None


def _pair(read: _Read, one: int, other: int, labels: Sequence[str], confidence: float) -> dict[str, Any]:
    """Agreement of two columns over the images to which both gave a label, and the same for each list of prompts."""
    size = len(labels)
    tables = np.zeros((len(read.prompts), size, size), dtype=np.int64)
    for column, pattern in enumerate(read.patterns.tolist()):
        if pattern[one] < size and pattern[other] < size:
            tables[:, pattern[one], pattern[other]] += read.counts[:, column]

    def figures(of: Table) -> dict[str, Any]:
        found = clustered_agreement(of, confidence=confidence)
        return {"images": int(of.sum()), "agreement": found.agreement.to_dict(), "kappa": found.kappa.to_dict()}

    groups = []
    for name in dict.fromkeys(group for group in read.groups if group is not None):
        rows = [number for number, group in enumerate(read.groups) if group == name]
        groups.append({"name": name, **figures(tables[rows])})
    return {**figures(tables), "groups": groups}


def _latent(found: LatentClasses, labels: Sequence[str], readers: Sequence[int]) -> dict[str, Any]:
    decisions = (*labels, NO_LABEL)
    return {
        "shares": {label: share.to_dict() for label, share in zip(labels, found.shares, strict=True)},
        "readers": [
            {
                "reader": reader,
                "error": error.to_dict(),
                "rates": {
                    label: {decision: rate.to_dict() for decision, rate in zip(decisions, row, strict=True)}
                    for label, row in zip(labels, rates, strict=True)
                },
            }
            for reader, error, rates in zip(readers, found.errors, found.rates, strict=True)
        ],
        "starts": found.starts,
        "reached": found.reached,
        "settled": found.settled,
    }


def _record(document: Mapping[str, Any]) -> Consensus:
    """What metrics.json says: all but the names of disputed images."""
    return Consensus.model_validate({key: value for key, value in document.items() if key != "disputed_images"})


CONSENSUS = KeptAnalysis(
    name="consensus",
    file="consensus.json",
    format=1,
    record=_record,
    what="a consensus of readers",
    again="allfour report RUN --second-opinion OTHER --second-opinion ANOTHER",
)
