"""The embeddings that a scored run keeps: found, checked against the encoder that is to read them, and read a part at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from allfour.errors import RunFolderError
from allfour.models.classifiers.base import HalfArray
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.columns import people_schema
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.identities import differing, reading
from allfour.pipeline.run.journal import RunFolderBusyError
from allfour.pipeline.scoring.parts import PartStore, read_embeddings, unchanged
from allfour.pipeline.scoring.people import People, belong
from allfour.pipeline.scoring.score_tables import readable_rows
from allfour.pipeline.scoring.scorer import SCORING_VERSION, fits, matrix_of

_DAMAGED = "Score it again with the command that made it (what stands is kept), then relabel"


@dataclass(frozen=True, slots=True)
class StoredPart:
    """One scored shard as it lies in the run folder."""

    id: str
    ordinal: int
    """Its place in the source's order."""
    manifest: Mapping[str, Any]
    images: Path
    embeddings: Path
    people: Path | None = None
    """Where the encoder's embeddings are of persons too."""


def stored_encoder(run: RunFolder, header: Header) -> Mapping[str, Any]:
    """Identity of the encoder that made the run's embeddings. Raises RunFolderError where its classifier keeps none."""
    classifier = header.classifier or {}
    encoder = classifier.get("encoder")
    if not isinstance(encoder, dict):
        backend = classifier.get("backend", "unknown")
        if backend == "judge":
            raise RunFolderError(
                f"{run.path}: a judge keeps answers and no embeddings, so other questions are to be asked anew: `allfour rescore "
                f"{run.header().to_reread(run.path)} --config CONFIG --set attributes.file=FILE --run NEW`. Other margins alone cost nothing: repeat the command "
                "that made the run with them, and the answers that it holds are used"
            )
        raise RunFolderError(
            f"{run.path}: its classifier ({backend}) keeps no embeddings, so there is nothing to relabel. Score the images with a "
            f"CLIP: `allfour rescore {run.header().to_reread(run.path)} --config configs/rescore.yaml`"
        )
    return encoder


@contextlib.contextmanager
def read_lock(run: RunFolder) -> Iterator[None]:
    """Nobody writes to the run meanwhile. One that lies where nothing can be written cannot change, and needs no lock."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run.lock(shared=True))
        except RunFolderBusyError:
            raise
        except RunFolderError:
            pass
        yield


def stored_parts(run: RunFolder, header: Header, encoder: Mapping[str, Any], config: RunConfig) -> list[StoredPart]:
    """The run's parts in order.

    Raises
    ------
    RunFolderError
        They are not all there, or not all of this encoder.
    """
    store = PartStore(run, scoring_fingerprint="")
    expected = fingerprint(SCORING_VERSION, reading(encoder), {"max_pixels": config.scoring.max_pixels})
    parts = []
    for path in run.parts_folder.glob("part-*.json"):
        if path.name.endswith(".attempts.json"):
            continue
        id_ = path.name.removeprefix("part-").removesuffix(".json")
        manifest = store.manifest(id_) or {}
        if not isinstance(manifest.get("ordinal"), int) or manifest.get("encoding", expected) != expected:
            raise RunFolderError(f"{path}: this part was not made by the run's encoder and settings. {_DAMAGED}")
        people = store.people_path(id_) if manifest.get("people") else None
        parts.append(
            StoredPart(id_, manifest["ordinal"], manifest, store.images_path(id_), store.embeddings_path(id_), people)
        )
    scores = header.stages.get("scores")
    if not parts or scores is None or sum(part.manifest.get("scores", 0) for part in parts) != scores.rows:
        raise RunFolderError(f"{run.path}: its embeddings are not there, or not of all its images. {_DAMAGED}")
    return sorted(parts, key=lambda part: part.ordinal)


def check_same_encoder(run: RunFolder, stored: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Text and image vectors must be of one model. Its precision may differ: the text tower is float32 everywhere. So may its
    detector of people, which is not asked again.

    Raises
    ------
    RunFolderError
        Names what differs.
    """
    one, other = (json.loads(json.dumps(dict(identity), default=list)) for identity in (stored, present))
    differs = [
        (key, there, here)
        for key, there, here in sorted(differing(one, other))
        if key.partition(".")[0] not in ("dtype", "half", "people")
        # where one asks for skin and the other does not, it is not read, or is missed when it is looked for
        and not (key.startswith("skin_tone.") and None in (there, here))
    ]
    if differs:
        text = "; ".join(f"{key}: {str(there)[:64]} there, {str(here)[:64]} here" for key, there, here in differs)
        raise RunFolderError(
            f"{run.path}: its embeddings are of another encoder than the config's ({text}). Name the weights that made them with "
            "`--set classifier.pretrained=...`, or score the images again with `allfour rescore`"
        )


def read_part(part: StoredPart, dim: int) -> tuple[pa.Table, HalfArray]:
    """Listed images of a part, and the embeddings [readable images, D] in their order.

    Raises
    ------
    RunFolderError
        The part cannot be read, or is not whole.
    """
    for path in filter(None, (part.images, part.embeddings if "encoding" in part.manifest else None, part.people)):
        if not unchanged(part.manifest, path):
            raise RunFolderError(f"{path}: missing, or not as it was written. {_DAMAGED}")
    try:
        images = pq.read_table(part.images, columns=["prompt_id", "index", "status", "sha256"])
        if "encoding" not in part.manifest:  # set aside: errors alone
            if readable_rows(images).any():
                raise RunFolderError(f"{part.images}: it has images without embeddings. {_DAMAGED}")
            return images, np.zeros((0, dim), dtype=np.float16)
        embeddings = read_embeddings(part.embeddings)
    except (OSError, pa.ArrowException) as error:
        raise RunFolderError(f"part {part.id} of the run cannot be read: {error}. {_DAMAGED}") from None
    if not fits(images, embeddings):
        raise RunFolderError(f"{part.embeddings}: not the embeddings of the images of {part.images.name}. {_DAMAGED}")
    return images, matrix_of(embeddings)


def read_people(part: StoredPart, dim: int) -> People | None:
    """The persons of a part whose images and embeddings `read_part` gave; None where nobody looked for people.

    Raises
    ------
    RunFolderError
        They cannot be read, or are not those of these images.
    """
    if part.people is None:
        return None
    try:
        table = read_embeddings(part.people)
        whole = belong(table, read_embeddings(part.embeddings))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RunFolderError(f"part {part.id} of the run cannot be read: {error}. {_DAMAGED}") from None
    known = [people_schema(dim, skin=skin, half=half) for skin in (False, True) for half in (False, True)]
    if not whole or table.schema not in known:
        raise RunFolderError(f"{part.people}: not the people of the images of {part.images.name}. {_DAMAGED}")
    return People(table, matrix_of(table))
