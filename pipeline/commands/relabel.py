"""`allfour relabel`: the stored embeddings of a scored run under another wording or other margins, without touching an image.

What must be the same is the encoder; the text tower is loaded, the images are not. The result is a run folder of its own, which holds
(as links, where the disk allows) the same embeddings, so that it can be relabelled in turn.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from allfour.errors import ConfigError, RunFolderError, UsageError
from allfour.models.classifiers.base import EmbeddingClassifier
from allfour.pipeline.analyses.each import FILE, asked_of_each, more_of
from allfour.pipeline.commands import build
from allfour.pipeline.commands.each_tables import has_more
from allfour.pipeline.commands.job import Job, RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.report import finish_run
from allfour.pipeline.commands.start import start_run
from allfour.pipeline.config import (
    AttributesConfig,
    RunConfig,
    load_attributes,
    recorded_config,
)
from allfour.pipeline.metrics.calibration import check_calibration
from allfour.pipeline.metrics.wanted_error import with_margins
from allfour.pipeline.run.columns import IMAGES_SCHEMA
from allfour.pipeline.run.folder import TABLE_STAGES, RunFolder, fingerprint, reading_table
from allfour.pipeline.run.header import PICKED_KIND, Header
from allfour.pipeline.run.parquet import table_writer
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.run.writing import atomic_file, write_json
from allfour.pipeline.scoring.parts import PRECISION, PartStore, read_embeddings
from allfour.pipeline.scoring.people import reading_scores
from allfour.pipeline.scoring.precision import Doubt, Measured
from allfour.pipeline.scoring.score_tables import CODED_SCHEMA
from allfour.pipeline.scoring.scorer import SCORING_VERSION, doubtful_rows, half_rows
from allfour.pipeline.scoring.stored_embeddings import (
    StoredPart,
    check_same_encoder,
    read_lock,
    read_part,
    read_people,
    stored_encoder,
    stored_parts,
)


def relabel(
    run: RunFolder,
    attributes_file: str,
    out: RunFolder,
    reporter: Reporter,
    *,
    overrides: Sequence[str] = (),
    calibration: Path | None = None,
) -> RunSummary:
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
    header = run.scored_header()
    if out.path.resolve() == run.path.resolve():
        raise UsageError(f"--run {out.path}: that is the run to be relabelled; choose another folder")
    origin = str(run.path.resolve())
    _check_replaces_nothing(out, origin)
    encoder = stored_encoder(run, header)
    attributes = with_margins(load_attributes(attributes_file), calibration, out.path)
    check_calibration(calibration, attributes)
    config = _config(header, overrides, attributes_file, where=str(run.header_path))
    with read_lock(run), out.lock():
        run.check_still(header)
        _check_replaces_nothing(out, origin)
        parts = stored_parts(run, header, encoder, config)
        classifier = build.build_classifier(without_detector(config), attributes)
        if not isinstance(classifier, EmbeddingClassifier):
            raise ConfigError(f"classifier.backend={config.classifier.backend}: it reads no embeddings")
        check_same_encoder(run, encoder, classifier.encoder_identity())
        # what was measured is the stored embeddings, whatever precision this machine would encode in
        identity = {**classifier.identity(), "encoder": dict(encoder)}
        start_run(
            out, config, attributes, kind="relabel", asked=header.asked, relabelled_from=origin,
            **{key: getattr(header, key) for key in ("generator", "source", "left_out", "spent", "prompt_set") if key in header.model_fields_set},
        )  # fmt: skip
        stage = fingerprint(SCORING_VERSION, identity, attributes.model_dump(mode="json"), [p.manifest for p in parts])
        scored = 0
        if out.stage_done("scores", stage, out.scores_path, out.images_path):
            out.update_header(classifier=identity)
            reporter.note("scores already exist: nothing to relabel")
        else:
            out.forget_stages(*TABLE_STAGES, classifier=identity)
            started = time.monotonic()
            _copy_images(run, out, own=header.kind == "audit", base=run.path)
            scored, rows = _score(parts, out, classifier, reporter)
            out.commit_stage(
                "scores", stage, out.scores_path, out.images_path,
                seconds=time.monotonic() - started, images=scored, rows=rows, **_doubtful(run, parts, classifier, reporter),
            )  # fmt: skip
        job = Job(out, config, attributes, reporter, calibration)
        scored += _relabel_more(run, job, encoder, classifier, identity)
        return finish_run(job, work={"relabelled": scored})


def _check_replaces_nothing(out: RunFolder, origin: str) -> None:
    """Raise RunFolderError where a folder has another run's result."""
    if (earlier := out.header().relabelled_from) not in (None, origin):
        raise RunFolderError(
            f"run folder {out.path}: it is {earlier} relabelled, which would be lost. Nothing was changed. "
            "Choose another folder with --run, or remove this one"
        )


def _relabel_more(
    run: RunFolder, job: Job, encoder: Mapping[str, Any], classifier: EmbeddingClassifier, identity: Mapping[str, Any]
) -> int:
    """The same of images that were made beyond those of the run, for single prompts; returns how many were relabelled."""
    asked = asked_of_each(run)
    if asked is None or not has_more(run, job):
        (job.run.path / FILE).unlink(missing_ok=True)
        return 0
    scored, more, out, header = 0, more_of(run), more_of(job.run), run.header()
    if more.images_path.exists():
        started = time.monotonic()
        parts = stored_parts(more, more.header(), encoder, job.config)
        start_run(out, job.config, job.attributes, kind=PICKED_KIND, generator=job.run.header().generator)
        out.forget_stages(*TABLE_STAGES, classifier=dict(identity))
        _copy_images(more, out, own=header.kind == "audit", base=run.path)
        scored, rows = _score(parts, out, classifier, job.reporter)
        stage = fingerprint(SCORING_VERSION, identity, [p.manifest for p in parts])
        out.commit_stage(
            "scores",
            stage,
            out.scores_path,
            out.images_path,
            seconds=time.monotonic() - started,
            images=scored,
            rows=rows,
        )
    asked.keep(job.run)
    return scored


def _config(header: Header, overrides: Sequence[str], attributes_file: str, *, where: str) -> RunConfig:
    if any(override.partition("=")[0].strip().startswith("classifier.people") for override in overrides):
        raise UsageError(
            "--set classifier.people...: relabelling does not look at the images again, and so finds nobody new. Score them again: "
            "`allfour rescore`"
        )
    config = recorded_config(header.config, where=where, overrides=overrides)
    name = (config.name or "run").removesuffix(" (relabelled)")[:80]
    return config.model_copy(
        update={"attributes": AttributesConfig(file=attributes_file), "name": f"{name} (relabelled)"}
    )


def without_detector(config: RunConfig) -> RunConfig:
    """People that were found stay found; the detector's package is not needed to read them again."""
    return config.model_copy(update={"classifier": config.classifier.without_detector()})


def _copy_images(run: RunFolder, out: RunFolder, *, own: bool, base: Path) -> None:
    """The same rows; where the run made the images its paths are relative to `base`, and become absolute."""
    place = IMAGES_SCHEMA.get_field_index("path")
    with (
        reading_table(run.images_path),
        pq.ParquetFile(run.images_path) as source,
        atomic_file(out.images_path) as file,
        table_writer(file, IMAGES_SCHEMA) as writer,
    ):
        for batch in source.iter_batches(batch_size=100_000):
            table = pa.Table.from_batches([batch]).cast(IMAGES_SCHEMA)
            if own:
                absolute = pc.binary_join_element_wise(str(base.resolve()), table["path"], os.sep)  # null stays null
                table = table.set_column(place, IMAGES_SCHEMA.field(place), absolute)
            writer.write_table(table)


def _score(
    parts: Sequence[StoredPart],
    out: RunFolder,
    classifier: EmbeddingClassifier,
    reporter: Reporter,
) -> tuple[int, int]:
    """Write scores.parquet, a part at a time; one part is written while the next is computed."""
    store = PartStore(out, scoring_fingerprint="")
    images = rows = 0
    writing: Future[None] | None = None
    with (
        reporter.task("relabelling", sum(part.manifest.get("images", 0) for part in parts)) as task,
        atomic_file(out.scores_path) as file,
        table_writer(file, CODED_SCHEMA) as writer,
        ThreadPoolExecutor(
            1
        ) as pool,  # innermost: what is being written ends before the writer is closed, also by an error
    ):
        for part in parts:
            listed, embeddings = read_part(part, classifier.embedding_dim)
            table = reading_scores(listed, embeddings, read_people(part, classifier.embedding_dim), classifier)
            if writing is not None:
                writing.result()
            writing = pool.submit(writer.write_table, table)
            images += listed.num_rows
            rows += table.num_rows
            _keep(part, store, table.num_rows)
            task.advance(listed.num_rows)
        if writing is not None:
            writing.result()
    return images, rows


def _doubtful(
    run: RunFolder, parts: Sequence[StoredPart], classifier: EmbeddingClassifier, reporter: Reporter
) -> dict[str, Any]:
    """Of embeddings made in half precision: how many could have another decision in full. Said to the user, and for the header."""
    facts = [(part, part.manifest.get(PRECISION)) for part in parts]
    found = {"encoded": 0, "half": 0, "in_doubt": 0}
    for part, made in facts:
        if not isinstance(made, dict):
            continue
        measured = Measured.load(run.embeddings_folder / str(made.get("file")))
        doubt = None if measured is None else Doubt(classifier, measured)
        for path in filter(None, (part.embeddings, part.people)):
            if path.exists():
                table = read_embeddings(path)
                found["encoded"] += table.num_rows
                found["half"] += int(half_rows(table).sum())
                found["in_doubt"] += int(doubtful_rows(table, doubt).sum())
    if not found["half"]:
        return {}
    reporter.note(
        f"bfloat16: {found['half']:,} of {found['encoded']:,} embeddings were made in bfloat16, and {found['in_doubt']:,} of those lie so near a "
        "margin of this wording that float32 might decide otherwise; `allfour rescore` looks at the images again"
    )
    return {"precision": found}


def _measures(part: StoredPart, store: PartStore) -> list[tuple[Path, Path]]:
    """The file by which a part that was encoded in half precision is judged, and its place in the new run."""
    name = (part.manifest.get(PRECISION) or {}).get("file")
    target = store.embeddings_path(part.id).parent / str(name)
    return (
        [(part.embeddings.parent / str(name), target)] if name and target.name == name and not target.exists() else []
    )


def _keep(part: StoredPart, store: PartStore, rows: int) -> None:
    """The part's images and embeddings in the new run too, as links where the disk allows."""
    for source, target in (
        (part.images, store.images_path(part.id)),
        (part.embeddings, store.embeddings_path(part.id)),
        (part.people, store.people_path(part.id)),
        *_measures(part, store),
    ):
        if source is None or not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            with source.open("rb") as read, atomic_file(target) as write:
                shutil.copyfileobj(read, write)
    write_json(store.manifest_path(part.id), sealed({**part.manifest, "fingerprint": None, "scores": rows}))
