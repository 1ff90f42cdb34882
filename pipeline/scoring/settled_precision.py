"""In which precision a run's images are encoded, where `classifier.dtype: auto` leaves that open: settled once, for all who score the run.

Whoever begins a run settles it, by the machine, the model, the number of images and how many of them are in doubt; it stands in the header,
in the classifier's identity, and, since ranks write no header, in RUN/embeddings/dtype-*.json. Whoever goes on with the run takes what
stands there, on whatever CPU: so the run has one identity, whose decisions are those of float32.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from allfour.border import read_json
from allfour.errors import ClassifierError
from allfour.files import read_regular
from allfour.models.classifiers.base import NO_UNITS, TWICE, Classifier, EmbeddingClassifier, OpenPrecision
from allfour.pipeline.archives.base import ArchiveSource, Shard
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.identities import reading
from allfour.pipeline.run.seal import sealed, unsealed
from allfour.pipeline.run.writing import write_first
from allfour.pipeline.scoring.groups import Ahead
from allfour.pipeline.scoring.precision import MEASURED, Doubt, closing_items, measured_of

FULL: Final = "float32"
FEWEST = 1024
"""Images of a run from which on half precision is taken. To encode 128 in float32 too is gained again, with a fifth in doubt, on 500."""
_NOT_OF_THE_WEIGHTS = frozenset({"dtype", "half", "people", "skin_tone"})


@dataclass(frozen=True, slots=True)
class Settled:
    """What a run is encoded in."""

    said: str | None = None
    """What was taken and why; None where the settings say it all."""
    ahead: Ahead = field(default_factory=Ahead)
    """What was encoded to settle it, of the shards to come."""


def settled_in_half(classifier: Classifier) -> bool:
    """Whether a classifier whose settings leave its precision open was settled on half precision."""
    return isinstance(classifier, OpenPrecision) and classifier.precision_open and classifier.encodes_in_half


def take_up_precision(run: RunFolder, classifier: Classifier) -> bool:
    """Settle an open precision as the run is settled already, and write nothing; False where it is not settled yet."""
    if not isinstance(classifier, EmbeddingClassifier) or not isinstance(classifier, OpenPrecision):
        return True
    if not classifier.precision_open or classifier.why_in_full() is not None:
        return True
    if (taken := _settled(run, _weights(classifier))) is not None:
        classifier.settle(half=taken == TWICE)
    return taken is not None


def settle_precision(
    run: RunFolder,
    source: ArchiveSource,
    shards: Sequence[Shard],
    classifier: Classifier,
    *,
    config: ScoringConfig,
    elsewhere: bool = False,
    as_in: RunFolder | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Settled:
    """Settle what the settings leave open: as the run is settled already, or by what gains.

    Parameters
    ----------
    shards
        All of the source, whoever scores which.
    elsewhere
        Whether workers on machines that are not known encode: half precision is then taken up, and not begun.
    as_in
        The run that this folder belongs to, whose precision is taken; None: it is a run of its own.
    tell
        Given what takes time, before it does.
    """
    if not (isinstance(classifier, EmbeddingClassifier) and isinstance(classifier, OpenPrecision)):
        return Settled()
    if not classifier.precision_open:
        return Settled()
    weights, ahead = _weights(classifier), Ahead()
    taken, why = _settled(as_in or run, weights), "as it was begun"
    if taken is None and (always := classifier.why_in_full()) is not None:
        return Settled(f"classifier.dtype=auto: {FULL} ({always})")  # on every machine, so nothing is to be agreed on
    if taken is None:
        taken, why, ahead = _chosen(run, source, shards, classifier, config, elsewhere=elsewhere, tell=tell)
        taken = _agreed(run, weights, taken, why)
    classifier.settle(half=taken == TWICE)
    if taken == TWICE and not classifier.gains_by_half:
        why += f"; {NO_UNITS} and encodes in {FULL}"
    return Settled(f"classifier.dtype=auto: {taken} ({why})", ahead)


def _weights(classifier: EmbeddingClassifier) -> str:
    """What tells an encoder from others, in whatever precision it works."""
    known = reading(classifier.encoder_identity())
    return fingerprint({key: value for key, value in known.items() if key not in _NOT_OF_THE_WEIGHTS})


def _settled(run: RunFolder, weights: str) -> str | None:
    """What a run is settled on for an encoder; None where it has not begun."""
    encoder = (run.header().classifier or {}).get("encoder")
    if isinstance(encoder, Mapping) and encoder.get("dtype") in (FULL, TWICE):
        known = {key: value for key, value in reading(encoder).items() if key not in _NOT_OF_THE_WEIGHTS}
        if fingerprint(known) == weights:
            return str(encoder["dtype"])
    # Looked at before the record, which a rank writes before its first part.
    begun = any(run.parts_folder.glob("part-*.json"))
    if (written := _read(_record(run, weights))) is not None:
        return written
    # parts without either are of ranks of an earlier version, which took float32
    return FULL if encoder is None and begun else None


def _chosen(
    run: RunFolder,
    source: ArchiveSource,
    shards: Sequence[Shard],
    classifier: EmbeddingClassifier,
    config: ScoringConfig,
    *,
    elsewhere: bool,
    tell: Callable[[str], None],
) -> tuple[str, str, Ahead]:
    """What to begin a run in, why, and what was encoded to know it."""
    assert isinstance(classifier, OpenPrecision)
    if not classifier.has_half_units:
        return _in_full(NO_UNITS)
    if elsewhere:
        return _in_full("workers may sit on other machines")
    if not _holds(source, shards, FEWEST):
        return _in_full(f"for fewer than {FEWEST:,} images half precision gains nothing")
    tell(f"classifier.dtype=auto: encoding {MEASURED} images in bfloat16 and in float32")
    classifier.settle(half=True)
    try:
        measured = measured_of(run.embeddings_folder, source, shards, classifier, config)
    except ClassifierError:
        return _in_full("this image tower does not run in bfloat16")
    if measured is None:
        return _in_full("too few images can be read to measure by")
    doubt = Doubt(classifier, measured)
    share = f"{doubt.share:.0%} of {len(measured.half)} images"
    if not doubt.pays:
        why = f"{share} would be encoded twice"
        tell(f"classifier.dtype=auto: {FULL} ({why})")
        return _in_full(why)
    return (
        TWICE,
        f"this CPU multiplies bfloat16 in hardware, and {share} are encoded in {FULL} too; decisions are those of {FULL}",
        measured.ahead,
    )


def _in_full(why: str) -> tuple[str, str, Ahead]:
    return FULL, why, Ahead()


def _holds(source: ArchiveSource, shards: Sequence[Shard], count: int) -> bool:
    """Whether a source has so many images. Shards that do not know are read, as far as it takes."""
    found = sum(shard.images or 0 for shard in shards)
    for shard in shards:
        if found >= count:
            break
        if shard.images is None:
            with contextlib.closing(closing_items(source.read(shard))) as items:
                for item in items:
                    found += item.data is not None
                    if found >= count:
                        break
    return found >= count


def _record(run: RunFolder, weights: str) -> Path:
    return run.embeddings_folder / f"dtype-{weights[:16]}.json"


def _agreed(run: RunFolder, weights: str, taken: str, why: str) -> str:
    """What stands in the run's record after this process has written there, or another before it."""
    path = _record(run, weights)
    document = sealed({"dtype": taken, "because": why})
    write_first(path, json.dumps(document, indent=1).encode(), whole=lambda: _read(path) is not None)
    return _read(path) or taken


def _read(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found: Any = unsealed(read_json(read_regular(path)))
        if isinstance(found, dict) and found.get("dtype") in (FULL, TWICE):
            return str(found["dtype"])
    return None
