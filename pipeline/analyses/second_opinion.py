"""How far two classifiers agree over the same images. Agreement does not tell which of them is right.

Images are matched by the hash of their bytes. RUN/second-opinion.json holds the result, so that the other run is not needed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour.errors import RunFolderError
from allfour.models.attributes import AttributeSet
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.base import KeptAnalysis, basis
from allfour.pipeline.config import RunConfig, recorded_config, validate
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.identities import differing, reading
from allfour.pipeline.run.metrics import SecondOpinion
from allfour.pipeline.run.tables import add_views, connect
from allfour.pipeline.statistics.clustered_agreement import clustered_agreement

_NO_LABEL = (AMBIGUOUS, NO_PERSON, MIXED)

_OTHER = """
CREATE TEMP VIEW second AS
SELECT i.sha256, min(l.label) AS label FROM other_images i JOIN other_labels l ON i.prompt_id = l.prompt_id AND i."index" = l."index"
WHERE i.sha256 IS NOT NULL AND l.attribute = $attribute AND l.label <> $unreadable GROUP BY i.sha256
"""

_PAIRS = """
SELECT prompt_id, first, second, count(*) FROM (
  SELECT i.sha256, arg_min(i.prompt_id, i.file_row_number) AS prompt_id, min(l.label) AS first, min(s.label) AS second
  FROM images i JOIN labels l ON i.prompt_id = l.prompt_id AND i."index" = l."index" JOIN second s ON i.sha256 = s.sha256
  WHERE l.attribute = $attribute AND l.label <> $unreadable GROUP BY i.sha256
) GROUP BY ALL
"""

_SETS = """
WITH sets AS (SELECT prompt_id, last FROM first_sets($size) WHERE counted AND images >= $size)
SELECT i.prompt_id, l.label, s.label, count(*)
FROM images i JOIN sets ON i.prompt_id = sets.prompt_id AND i."index" <= sets.last
LEFT JOIN labels l ON i.prompt_id = l.prompt_id AND i."index" = l."index" AND l.attribute = $attribute
LEFT JOIN second s ON i.sha256 = s.sha256 GROUP BY ALL
"""


def write_second_opinion(run: RunFolder, other: RunFolder) -> None:
    """Compare a run's readings with those of another run over the same images; writes RUN/second-opinion.json.

    Raises
    ------
    RunFolderError
        The other run holds none of these images, other labels, or the readings of the same classifier.
    """
    config, attributes = _loaded(run)
    check_second_opinion(run, other)
    labels = attributes.labels(attributes.headline)
    size, confidence = config.prompts.set_size, config.statistics.confidence
    asked = {"attribute": attributes.headline, "unreadable": UNREADABLE}
    with connect(run) as connection:
        add_views(connection, other, "other_")
        _create(connection, _OTHER, asked)
        pairs = connection.execute(_PAIRS, asked).fetchall()
        sets = connection.execute(_SETS, {"attribute": attributes.headline, "size": size}).fetchall()
    if not pairs:
        raise RunFolderError(
            f"{other.path} holds none of the images of {run.path} (they are matched by the sha256 of their bytes). Let another "
            f"classifier read these very images: allfour rescore {run.header().to_reread(run.path)} --config configs/rescore-face.yaml --run NEW"
        )
    own, second = run.header(), other.header()
    SECOND_OPINION.write(
        run,
        {
            "fingerprint": fingerprint(basis(run), basis(other), SECOND_OPINION.format),
            "name": other.path.resolve().name,
            "classifier": second.classifier,
            "same_encoder": _encoder(own) is not None and _encoder(own) == _encoder(second),
            "attribute": attributes.headline,
            "labels": list(labels),
            "confidence": confidence,
            **_agreement(pairs, labels, confidence),
            "unanimity": _unanimity(sets, labels, size, confidence),
        },
    )


def check_second_opinion(run: RunFolder, other: RunFolder) -> None:
    """Raise RunFolderError where another run is not a second opinion on this one, whatever images it has."""
    _check(run, other, _loaded(run)[1], _loaded(other)[1])


def _loaded(run: RunFolder) -> tuple[RunConfig, AttributeSet]:
    header = run.scored_header()
    where = str(run.header_path)
    config = recorded_config(header.config, where=where)
    return config, validate(AttributeSet, header.attributes, where=where)


def _encoder(header: Header) -> str | None:
    encoder = (header.classifier or {}).get("encoder")
    return encoder.get("tensors_sha256", encoder.get("weights_sha256")) if isinstance(encoder, Mapping) else None


def _alike(run: RunFolder, other: RunFolder) -> bool:
    """Whether both were read by one classifier in one wording."""
    one, two = (reading(each.header().classifier or {}) for each in (run, other))
    return not differing(one, two)


def _check(run: RunFolder, other: RunFolder, attributes: AttributeSet, others: AttributeSet) -> None:
    name = attributes.headline
    if run.path.resolve() == other.path.resolve() or _alike(run, other):
        raise RunFolderError(
            f"{other.path} was read by the same classifier in the same words, which is no second opinion. Take another: "
            f"allfour rescore {run.header().to_reread(run.path)} --config configs/rescore-face.yaml --run NEW"
        )
    if name not in others.attributes:
        raise RunFolderError(
            f"{other.path}: it has no readings of {name}; it was asked for {', '.join(others.attributes)}"
        )
    if set(others.labels(name)) != set(attributes.labels(name)):
        raise RunFolderError(
            f"{other.path}: its labels of {name} are {', '.join(others.labels(name))}; those of {run.path} are "
            f"{', '.join(attributes.labels(name))}. Score it again with the same label names"
        )


def _create(connection: Any, statement: str, asked: Mapping[str, str]) -> None:
    """A view takes no parameters, so its two strings go in as literals."""
    for name, value in asked.items():
        statement = statement.replace(f"${name}", "'" + value.replace("'", "''") + "'")
    connection.execute(statement)


def _agreement(pairs: Sequence[tuple[str, str, str, int]], labels: Sequence[str], confidence: float) -> dict[str, Any]:
    """Agreement over images that both decided, and the whole table of decisions."""
    prompts = {id_: row for row, id_ in enumerate(dict.fromkeys(pair[0] for pair in pairs))}
    names = [*labels, *(name for name in _NO_LABEL if any(name in pair[1:3] for pair in pairs))]
    place = {name: number for number, name in enumerate(names)}
    tables: NDArray[np.int64] = np.zeros((len(prompts), len(labels), len(labels)), dtype=np.int64)
    confusion: NDArray[np.int64] = np.zeros((len(names), len(names)), dtype=np.int64)
    for prompt, first, second, count in pairs:
        confusion[place[first], place[second]] += count
        if first in labels and second in labels:
            tables[prompts[prompt], place[first], place[second]] += count
    decided = len(labels)
    found = clustered_agreement(tables, confidence=confidence)
    return {
        "images": {
            "common": int(confusion.sum()),
            "both_decided": int(confusion[:decided, :decided].sum()),
            "only_first": int(confusion[:decided, decided:].sum()),
            "only_second": int(confusion[decided:, :decided].sum()),
            "neither": int(confusion[decided:, decided:].sum()),
        },
        "agreement": found.agreement.to_dict(),
        "kappa": found.kappa.to_dict(),
        "confusion": {"decisions": names, "counts": confusion.tolist()},
    }


def _unanimity(
    sets: Sequence[tuple[str, str | None, str | None, int]], labels: Sequence[str], size: int, confidence: float
) -> dict[str, Any]:
    """The headline by either classifier, over prompts of whose set the other run has read every image that this one has."""
    counts: dict[str, NDArray[np.int64]] = {}
    lacking: set[str] = set()
    for prompt, first, second, count in sets:
        table = counts.setdefault(prompt, np.zeros((2, len(labels)), dtype=np.int64))
        if first is not None and first != UNREADABLE and second is None:
            lacking.add(prompt)
        for row, label in enumerate((first, second)):
            if label is not None and label in labels:
                table[row][list(labels).index(label)] += count
    tables = np.array([table for id_, table in counts.items() if id_ not in lacking], dtype=np.int64)
    tables = tables.reshape(-1, 2, len(labels))
    unanimous = (tables == size).any(axis=2)

    def figure(row: int) -> dict[str, Any]:
        hits = int(unanimous[:, row].sum())
        return {"unanimous": hits, "unanimity": st.wilson(hits, len(tables), confidence=confidence).to_dict()}

    return {
        "prompts": len(tables),
        "prompts_left_out": len(lacking),
        "first": figure(0),
        "second": figure(1),
        "both": int(unanimous.all(axis=1).sum()),
    }


SECOND_OPINION = KeptAnalysis(
    name="second_opinion",
    file="second-opinion.json",
    format=1,
    record=SecondOpinion.model_validate,
    what="a second opinion",
    again="allfour report RUN --second-opinion OTHER",
)
