"""Images of a prompt that are nearly the same as an earlier one: a cache, a fixed seed, a crop or a re-encoded file.

Such an image is no draw of its own. How near is near is taken from the run itself: how far apart this encoder puts different images of
one prompt. One picture that is nearly the same under several prompts says nothing of any: a placeholder for what was withheld, which
differs in noise, in a time that is written on it, or in how it was encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from allfour.errors import RunFolderError
from allfour.pipeline.run.columns import EMBEDDING_COLUMN
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.repeats import repeated_rows
from allfour.pipeline.scoring.parts import PartStore, read_embeddings, unchanged

NEARER = 40
"""A near-copy is so many times nearer than three quarters of the pairs of one prompt are. Measured with photo-clip: JPEG copies at quality
70 and 90% of the size lie within 0.0022 of the original (260 images), the nearest hundredth of different pictures of one occupation
within 0.0115; the threshold there is 0.0034."""
NEAREST_PART, BELOW = 0.02, 5
"""And so many times nearer than the nearest part of the pairs that are not: where pictures of one prompt fall into heaps, such as women
and men of a drawn world, three quarters speak of how far the heaps are apart."""
MOST_IMAGES = 50_000
"""Above this, equal bytes alone are looked for: reading the embeddings anew at each report takes 0.02 s at 20 x 64, 0.13 s at 2,000 x 4 and
3 s at this many, so that nothing is kept of it."""
_FEWEST_PAIRS = 50
_FEWEST_PROMPTS = 3
"""Under so many prompts a picture is nearly the same, to be told as one that says nothing of them. Measured with photo-clip and with the
sandbox's classifier: pictures under no more than two prompts are as near in 2 pairs of 1,000 photographs of faces in ten groups and in
none of 60 photographs of occupations and 80 drawn portraits; under three prompts, none are."""
_ANCHORS = 2048
"""Images, evenly spaced, that all others are held against: with up to so many, every pair. A picture that is under many prompts is
among more of them than one that is not."""


@dataclass(frozen=True, slots=True)
class NearCopies:
    """What was found in a run."""

    images: frozenset[tuple[str, int]]
    """(prompt id, index) of every image that is near an earlier one of its prompt."""
    threshold: float | None
    """1 - cosine below which two images are near-copies; None where equal bytes alone were looked for."""
    shared: int = 0
    """Images nearly the same as ones of two other prompts or more, those not counted whose bytes an image of another prompt has."""


def near_copies(*runs: RunFolder) -> NearCopies:
    """Find images with the bytes, or nearly the embedding, of an earlier image of the same prompt.

    Parameters
    ----------
    runs
        Of one generator and classifier, which together hold an image no more than once.
    """
    found = set(_same_bytes(runs))
    by_prompt = _embeddings(runs)
    distances = {key: _distances(vectors) for key, (_, vectors) in by_prompt.items()}
    pairs = [d[np.tril_indices(len(d), -1)] for d in distances.values() if len(d) > 1]
    apart = np.concatenate(pairs) if pairs else np.zeros(0, dtype=np.float32)
    if len(apart) < _FEWEST_PAIRS:
        return NearCopies(frozenset(found), None)
    threshold = _threshold(apart)
    for prompt, (indices, _) in by_prompt.items():
        near = np.tril(distances[prompt] < threshold, -1).any(axis=1)
        found |= {(prompt, int(index)) for index in indices[near]}
    shared = _under_several_prompts(by_prompt, threshold)
    counted = _bytes_of_several_prompts(runs) if shared else frozenset()
    return NearCopies(frozenset(found), threshold, len(shared - counted))


def _under_several_prompts(
    by_prompt: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float32]]], threshold: float
) -> frozenset[tuple[str, int]]:
    """Images that are nearly the same as ones of two other prompts or more."""
    if len(by_prompt) < _FEWEST_PROMPTS:
        return frozenset()
    unit = np.concatenate([vectors for _, vectors in by_prompt.values()])
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    prompt = np.repeat(np.arange(len(by_prompt)), [len(vectors) for _, vectors in by_prompt.values()])
    anchors = np.unique(np.linspace(0, len(unit) - 1, min(_ANCHORS, len(unit))).astype(np.int64))
    blocks = [slice(at, at + _ANCHORS) for at in range(0, len(unit), _ANCHORS)]
    met = np.zeros((len(anchors), len(by_prompt)), dtype=bool)
    for block in blocks:
        image, anchor = np.nonzero(unit[block] @ unit[anchors].T > 1 - threshold)
        met[anchor, prompt[block][image]] = True
    anchors = anchors[met.sum(axis=1) >= _FEWEST_PROMPTS]
    if not len(anchors):
        return frozenset()
    near = np.concatenate([(unit[block] @ unit[anchors].T > 1 - threshold).any(axis=1) for block in blocks])
    names = [(name, int(index)) for name, (indices, _) in by_prompt.items() for index in indices]
    return frozenset(names[at] for at in np.flatnonzero(near))


def _bytes_of_several_prompts(runs: Sequence[RunFolder]) -> frozenset[tuple[str, int]]:
    """Images whose bytes one of another prompt has."""
    table = repeated_rows([run.images_path for run in runs])
    rows = list(zip(*(table[name].to_pylist() for name in ("prompt_id", "index", "sha256")), strict=True))
    prompts: dict[str, set[str]] = {}
    for prompt, _, digest in rows:
        prompts.setdefault(digest, set()).add(prompt)
    return frozenset((prompt, index) for prompt, index, digest in rows if len(prompts[digest]) > 1)


def _threshold(apart: NDArray[np.float32]) -> float:
    """1 - cosine of a near-copy, by how far apart the pairs of one prompt are; up to three quarters of them may be copies."""
    ceiling = float(np.quantile(apart, 0.75)) / NEARER
    different = apart[apart >= ceiling]
    return min(ceiling, float(np.quantile(different, NEAREST_PART)) / BELOW)


def _same_bytes(runs: Sequence[RunFolder]) -> Iterator[tuple[str, int]]:
    table = repeated_rows([run.images_path for run in runs])
    seen: set[tuple[str, str]] = set()
    rows = zip(*(table[name].to_pylist() for name in ("prompt_id", "index", "sha256")), strict=True)
    for prompt, index, digest in sorted(rows, key=lambda row: row[1]):
        if (prompt, digest) in seen:
            yield prompt, index
        seen.add((prompt, digest))


def _embeddings(runs: Sequence[RunFolder]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Prompt -> its images' indices, ascending, and unit vectors; nothing where none are kept, or too many."""
    tables = []
    parts = [(run, path) for run in runs for path in sorted(run.embeddings_folder.glob("part-*.arrow"))]
    for run, path in parts:
        if path.name.endswith(".people.arrow"):
            continue
        store = PartStore(run, scoring_fingerprint="")
        part = path.name.removeprefix("part-").removesuffix(".arrow")
        manifest = store.manifest(part)
        if manifest is not None and not unchanged(manifest, path):
            raise RunFolderError(
                f"{path}: not as it was written, and so copies cannot be told. Delete {store.manifest_path(part)} and {run.scores_path} "
                "and repeat the command that made the run: it looks at those images again"
            )
        try:
            tables.append(read_embeddings(path).select(["prompt_id", "index", EMBEDDING_COLUMN]))
        except (OSError, pa.ArrowException, KeyError):
            return {}
    if not tables or not 0 < sum(table.num_rows for table in tables) <= MOST_IMAGES:
        return {}
    if len({table.schema.field(EMBEDDING_COLUMN).type for table in tables}) > 1:
        return {}
    whole = pa.concat_tables(tables).combine_chunks()
    column = whole[EMBEDDING_COLUMN].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    prompts, index = np.array(whole["prompt_id"].to_pylist(), dtype=object), whole["index"].to_numpy()
    order = np.lexsort((index, prompts.astype(str)))
    names, starts = np.unique(prompts[order].astype(str), return_index=True)
    ends = [*starts[1:], len(order)]
    return {
        str(name): (index[order[a:b]].astype(np.int64), vectors[order[a:b]].astype(np.float32))
        for name, a, b in zip(names, starts, ends, strict=True)
    }


def _distances(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, N] 1 - cosine; at most 512 images of a prompt, the first ones."""
    first = vectors[:512]
    unit = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12)
    near = np.ones((len(vectors), len(vectors)), dtype=np.float32) if len(vectors) > 512 else None
    distance: NDArray[np.float32] = 1 - unit @ unit.T
    if near is None:
        return distance
    near[:512, :512] = distance
    return near
