"""`allfour relabel`: the stored embeddings of a scored run under another wording or other margins, without touching an image.

What must be the same is the encoder; the text tower is loaded, the images are not. The result is a run folder of its own, which holds
(as links, where the disk allows) the same embeddings, so that it can be relabelled in turn.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.attributes import AttributeSet
from models.classifiers.base import EmbeddingClassifier
from pipeline import stages
from pipeline.config import AttributesConfig, ConfigError, RunConfig, apply_overrides, load_attributes, validate
from pipeline.parts import PartStore, read_embeddings
from pipeline.progress import Reporter
from pipeline.records import IMAGES_SCHEMA
from pipeline.run_folder import (
    RunFolder,
    RunFolderBusyError,
    atomic_file,
    fingerprint,
    sweep_temp_files,
    write_json,
)
from pipeline.score_tables import CODED_SCHEMA, coded_scores, readable_rows
from pipeline.scoring import SCORING_VERSION, fits, matrix_of

_ENCODED_COLUMNS = ["prompt_id", "attribute", "decision", "probabilities.key_value.key"]
"""Columns in which few values repeat; a dictionary of probabilities would be as long as the column."""

_DAMAGED = "Score it again with the command that made it (what stands is kept), then relabel"


@dataclass(frozen=True, slots=True)
class _Part:
    id: str
    ordinal: int
    manifest: Mapping[str, Any]
    images: Path
    embeddings: Path


def relabel(
    run: RunFolder,
    attributes_file: str,
    out: RunFolder,
    reporter: Reporter,
    *,
    overrides: Sequence[str] = (),
    calibration: Path | None = None,
) -> stages.RunSummary:
    """Score the embeddings of `run` under the attributes of a file, into the run folder `out`; metrics and report.

    Parameters
    ----------
    overrides
        `path.to.key=value` on the run's own config, such as where its weights lie on this machine.

    Raises
    ------
    ConfigError, ClassifierError
        The run has no embeddings, or another encoder made them than the config's.
    """
    header = run.header()
    if not header or not run.scores_path.exists() or not run.images_path.exists():
        raise ConfigError(
            f"{run.path}: no scored run: run.json, images.parquet and scores.parquet must stand there. Score it first: "
            "`allfour audit` or `allfour rescore`"
        )
    if out.path.resolve() == run.path.resolve():
        raise ConfigError(f"--run {out.path}: that is the run to be relabelled; choose another folder")
    encoder = _stored_encoder(run, header)
    attributes = load_attributes(attributes_file)
    config = _config(header, overrides, attributes_file, where=str(run.header_path))
    with _held(run), out.lock():
        sweep_temp_files(out.path)
        parts = _parts(run, header, encoder, config)
        classifier = stages.build_classifier(config, attributes)
        if not isinstance(classifier, EmbeddingClassifier):
            raise ConfigError(f"classifier.backend={config.classifier.backend}: it reads no embeddings")
        _check_same_encoder(run, encoder, classifier.encoder_identity())
        # what was measured is the stored embeddings, whatever precision this machine would encode in
        identity = {**classifier.identity(), "encoder": dict(encoder)}
        stages.start_run(out, config, attributes, kind="relabel")
        out.update_header(
            classifier=identity,
            relabelled_from=str(run.path.resolve()),
            **{key: header[key] for key in ("generator", "source", "spent") if key in header},
        )
        stage = fingerprint(SCORING_VERSION, identity, attributes.model_dump(mode="json"), [p.manifest for p in parts])
        scored = 0
        if out.stage_done("scores", stage, out.scores_path, out.images_path):
            reporter.note("scores stand already: nothing to relabel")
        else:
            started = time.monotonic()
            _copy_images(run, out, own=header.get("kind") == "audit")
            scored, rows = _score(parts, out, classifier, attributes, reporter)
            out.commit_stage("scores", stage, seconds=time.monotonic() - started, images=scored, rows=rows)
        return stages.finish_run(out, config, attributes, work={"relabelled": scored}, calibration=calibration)


def _stored_encoder(run: RunFolder, header: Mapping[str, Any]) -> Mapping[str, Any]:
    encoder = header.get("classifier", {}).get("encoder")
    if not isinstance(encoder, dict):
        backend = header.get("classifier", {}).get("backend", "unknown")
        raise ConfigError(
            f"{run.path}: its classifier ({backend}) keeps no embeddings, so there is nothing to relabel. Score the images with a "
            f"CLIP: `allfour rescore {run.path} --config configs/rescore.yaml`"
        )
    return encoder


def _config(header: Mapping[str, Any], overrides: Sequence[str], attributes_file: str, *, where: str) -> RunConfig:
    config = validate(RunConfig, apply_overrides(dict(header.get("config") or {}), list(overrides)), where=where)
    name = (config.name or "run").removesuffix(" (relabelled)")[:80]
    return config.model_copy(
        update={"attributes": AttributesConfig(file=attributes_file), "name": f"{name} (relabelled)"}
    )


@contextlib.contextmanager
def _held(run: RunFolder) -> Iterator[None]:
    """Nobody writes to the run meanwhile. One that lies where nothing can be written cannot change, and needs no lock."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run.lock(shared=True))
        except RunFolderBusyError:
            raise
        except ConfigError:
            pass
        yield


def _parts(run: RunFolder, header: Mapping[str, Any], encoder: Mapping[str, Any], config: RunConfig) -> list[_Part]:
    """The run's parts in order.

    Raises
    ------
    ConfigError
        They are not all there, or not all of this encoder.
    """
    store = PartStore(run, scoring_fingerprint="")
    expected = fingerprint(SCORING_VERSION, encoder, {"max_pixels": config.scoring.max_pixels})
    parts = []
    for path in run.parts_folder.glob("part-*.json"):
        if path.name.endswith(".attempts.json"):
            continue
        id_ = path.name.removeprefix("part-").removesuffix(".json")
        manifest = store.manifest(id_) or {}
        if not isinstance(manifest.get("ordinal"), int) or manifest.get("encoding", expected) != expected:
            raise ConfigError(f"{path}: this part was not made by the run's encoder and settings. {_DAMAGED}")
        parts.append(_Part(id_, manifest["ordinal"], manifest, store.images_path(id_), store.embeddings_path(id_)))
    rows = header.get("stages", {}).get("scores", {}).get("rows")
    if not parts or sum(part.manifest.get("scores", 0) for part in parts) != rows:
        raise ConfigError(f"{run.path}: its embeddings are not there, or not of all its images. {_DAMAGED}")
    return sorted(parts, key=lambda part: part.ordinal)


def _check_same_encoder(run: RunFolder, stored: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Text and image vectors must be of one model. Its precision may differ: the text tower is float32 everywhere."""
    one, other = (json.loads(json.dumps(dict(identity), default=list)) for identity in (stored, present))
    differs = [key for key in sorted({*one, *other} - {"dtype"}) if one.get(key) != other.get(key)]
    if differs:
        said = "; ".join(f"{key}: {str(one.get(key))[:64]} there, {str(other.get(key))[:64]} here" for key in differs)
        raise ConfigError(
            f"{run.path}: its embeddings are of another encoder than the config's ({said}). Name the weights that made them with "
            "`--set classifier.pretrained=...`, or score the images again with `allfour rescore`"
        )


def _copy_images(run: RunFolder, out: RunFolder, *, own: bool) -> None:
    """The same rows; where the run made the images its paths are relative to it, and become absolute."""
    base = str(run.path.resolve())
    place = IMAGES_SCHEMA.get_field_index("path")
    with (
        pq.ParquetFile(run.images_path) as source,
        atomic_file(out.images_path) as file,
        pq.ParquetWriter(file, IMAGES_SCHEMA, compression="zstd") as writer,
    ):
        for batch in source.iter_batches(batch_size=100_000):
            table = pa.Table.from_batches([batch]).cast(IMAGES_SCHEMA)
            if own:
                absolute = pc.binary_join_element_wise(base, table["path"], os.sep)  # null stays null
                table = table.set_column(place, IMAGES_SCHEMA.field(place), absolute)
            writer.write_table(table)


def _score(
    parts: Sequence[_Part],
    out: RunFolder,
    classifier: EmbeddingClassifier,
    attributes: AttributeSet,
    reporter: Reporter,
) -> tuple[int, int]:
    """Write scores.parquet, a part at a time; one part is written while the next is computed."""
    store = PartStore(out, scoring_fingerprint="")
    images = rows = 0
    writing: Future[None] | None = None
    with (
        reporter.task("relabelling", sum(part.manifest.get("images", 0) for part in parts)) as task,
        ThreadPoolExecutor(1) as pool,
        atomic_file(out.scores_path) as file,
        scores_writer(file) as writer,
    ):
        for part in parts:
            listed, embeddings = _read(part, classifier.embedding_dim)
            table = coded_scores(listed, classifier.probabilities(embeddings), attributes)
            if writing is not None:
                writing.result()
            writing = pool.submit(writer.write_table, table)
            images += table.num_rows // len(attributes.questions)
            rows += table.num_rows
            _keep(part, store, table.num_rows)
            task.advance(listed.num_rows)
        if writing is not None:
            writing.result()
    return images, rows


def scores_writer(file: Any) -> pq.ParquetWriter:
    """A writer of coded scores. Without the arrow schema in the file, its columns are read as plain strings again."""
    return pq.ParquetWriter(
        file, CODED_SCHEMA, compression="zstd", compression_level=1, use_dictionary=_ENCODED_COLUMNS, store_schema=False
    )


def _read(part: _Part, dim: int) -> tuple[pa.Table, np.ndarray[Any, np.dtype[np.float16]]]:
    """Listed images of a part, and the embeddings of the readable ones."""
    try:
        images = pq.read_table(part.images, columns=["prompt_id", "index", "status", "sha256"])
        if "encoding" not in part.manifest:  # set aside: errors alone
            if readable_rows(images).any():
                raise ConfigError(f"{part.images}: it has images without embeddings. {_DAMAGED}")
            return images, np.zeros((0, dim), dtype=np.float16)
        embeddings = read_embeddings(part.embeddings)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"part {part.id} of the run cannot be read: {error}. {_DAMAGED}") from None
    if not fits(images, embeddings):
        raise ConfigError(f"{part.embeddings}: not the embeddings of the images of {part.images.name}. {_DAMAGED}")
    return images, matrix_of(embeddings)


def _keep(part: _Part, store: PartStore, rows: int) -> None:
    """The part's images and embeddings in the new run too, as links where the disk allows."""
    for source, target in (
        (part.images, store.images_path(part.id)),
        (part.embeddings, store.embeddings_path(part.id)),
    ):
        if not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            with source.open("rb") as read, atomic_file(target) as write:
                shutil.copyfileobj(read, write)
    write_json(store.manifest_path(part.id), {**part.manifest, "fingerprint": None, "scores": rows})
