"""`allfour export`: a run in the forms that other programs read. The run is only read."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.border import read_json
from allfour.errors import RunFolderError, UsageError
from allfour.models.attributes import PRESENCE
from allfour.pipeline.analyses.each import beyond
from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.decoding import sniff_format
from allfour.pipeline.archives.kinds import EXTENSION_OF
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.config import recorded_config
from allfour.pipeline.metrics.gate import Gate, GateResult, evaluate
from allfour.pipeline.metrics.headline import headline_of
from allfour.pipeline.report.croissant import CROISSANT_FILE, croissant
from allfour.pipeline.report.exports import (
    csv_cell,
    intersections_csv,
    junit_xml,
    latex_table,
    markdown_summary,
    markdown_text,
    prompts_csv,
)
from allfour.pipeline.report.model_card import model_index
from allfour.pipeline.report.prose import PERCEIVED, of_an_archive, sought_in
from allfour.pipeline.run.columns import ImageStatus
from allfour.pipeline.run.documents import ReportError, read_header, read_metrics
from allfour.pipeline.run.folder import RunFolder, reading_table
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.writing import atomic_file, sweep_beside, whole_folder, write_atomic

Format = Literal["markdown", "latex", "junit", "csv", "intersections", "model-card", "dataset"]
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,99}")

TIDY_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("group", pa.string()),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("status", pa.string()),
        pa.field("person", pa.int32(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # null where the image got no probabilities
        pa.field("probability", pa.float32()),
    ]
)


def evaluate_gates(run: Path, gates: Sequence[Gate]) -> list[GateResult]:
    """Gates against the metrics of an existing run.

    Raises
    ------
    UsageError
        It is not a measured run, or a gate's path leads to no number of it.
    """
    metrics = _metrics(run)  # which says in one sentence what is wrong with the file
    document = read_json((run / "metrics.json").read_text(encoding="utf-8"))
    # a document from before there was a headline has the one that every page gives it
    if isinstance(summary := document.get("summary"), dict):
        summary.setdefault("headline", headline_of(metrics).document())
    return [evaluate(gate, document) for gate in gates]


def text_export(run: Path, kind: Format, *, gates: Sequence[GateResult] = ()) -> bytes:
    """The run as Markdown, LaTeX, JUnit XML, CSV (of prompts, or of intersections) or a model card's `model-index`; `gates` are the test cases of JUnit.

    Raises
    ------
    UsageError
        It is not a measured run.
    """
    metrics = _metrics(run)
    if kind == "markdown":
        return markdown_summary(metrics, **_from_header(run)).encode("utf-8", "replace")
    if kind == "latex":
        return latex_table(metrics).encode("utf-8", "replace")
    if kind == "model-card":
        return model_index(metrics, read_header(run)).encode("utf-8", "replace")
    if kind == "junit":
        return ci_junit(metrics, gates, name=run.resolve().name)
    if kind == "intersections":
        return intersections_csv(metrics)
    return prompts_csv(metrics)


def ci_junit(metrics: Metrics, gates: Sequence[GateResult], *, name: str) -> bytes:
    """Gates as JUnit test cases, with the headline as properties."""
    summary = metrics.summary
    properties: dict[str, object] = {"prompts": summary.prompts, "unanimous": summary.unanimous}
    if summary.unanimity is not None and summary.unanimity.value is not None:
        properties |= {f"unanimity.{end}": getattr(summary.unanimity, end) for end in ("value", "low", "high")}
    lead = headline_of(metrics)
    properties |= {
        f"headline.{key}": getattr(lead, key) for key in ("evidence", "value", "low", "high", "prompts", "verdict")
    }
    return junit_xml(gates, suite=f"allfour {name}", properties=properties)


def write_ci_files(run: Path, gates: Sequence[GateResult], *, junit: Path | None, markdown: Path | None) -> None:
    """What continuous integration picks up: gates as JUnit XML, and the summary as Markdown.

    The Markdown is added to the end of an existing file, as step summaries want it.
    """
    if junit is None and markdown is None:
        return
    metrics = _metrics(run)
    if junit is not None:
        write_file(junit, ci_junit(metrics, gates, name=run.resolve().name))
    if markdown is not None:
        before = markdown.read_bytes() if markdown.is_file() else b""
        write_file(markdown, before + markdown_summary(metrics, **_from_header(run)).encode("utf-8", "replace"))


def write_file(path: Path, data: bytes) -> None:
    """Write a file that the user named. Raises UsageError."""
    try:
        sweep_beside(path)
        write_atomic(path, data)
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}. Name another file") from None


def _from_header(run: Path) -> dict[str, Any]:
    """Whether the images were found and not made, and what was looked for in them; a run without a header is taken for the usual one."""
    try:
        header = read_header(run)
    except ReportError:
        return {}
    return {"archive": of_an_archive(header), "sought": sought_in(header)}


def _metrics(run: Path) -> Metrics:
    try:
        metrics = read_metrics(run)
    except ReportError as error:
        raise RunFolderError(f"{run}: no measured run: {error}") from None
    RunFolder(run).check_measured()
    return metrics


# --- data set --------------------------------------------------------------------------------------------------------


def export_dataset(run: Path, out: Path) -> dict[str, int]:
    """Write a folder of which `datasets.load_dataset` reads OUT/images and OUT/scores.

    OUT/images/PROMPT_ID/INDEX.EXT with OUT/images/metadata.jsonl, a line per picture: prompt, seed, hash, and each
    attribute's decision and probability. OUT/scores/scores.parquet and OUT/scores.csv, a row per image, person, attribute
    and label, for all images that were scored. OUT/README.md says so. The package guesses one file format per folder,
    hence the two. OUT/croissant.json describes files and columns for data hubs.

    Returns
    -------
    Number of `images` written, of `left_out` ones whose bytes are gone or changed, of `rows` of scores, and of images that are
    `beyond` the run's (`audit --each`), of which none is written.

    Raises
    ------
    UsageError
        It is not a scored run, or OUT holds something already.
    ArchiveError
        The archive that the run scored is not where it was.
    """
    metrics = _metrics(run)
    folder = RunFolder(run)
    if not folder.images_path.exists() or not folder.scores_path.exists():
        raise RunFolderError(f"{run}: no scored run: images.parquet and scores.parquet must be there")
    folder.check_tables(folder.images_path, folder.scores_path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: holds something already. Name a new or an empty folder")
    with reading_table(folder.images_path):
        images = pq.read_table(folder.images_path).to_pylist()
    sweep_beside(out)
    with reading_table(folder.scores_path), whole_folder(out) as aside:
        rows = _write_scores(folder, aside, images)
        written, left_out = _write_images(folder, aside / "images", images, metrics)
        write_atomic(aside / "README.md", _readme(run.resolve().name, metrics).encode("utf-8", "replace"))
        write_atomic(aside / CROISSANT_FILE, croissant(aside, TIDY_SCHEMA, metrics, read_header(run)))
    return {"images": written, "left_out": left_out, "rows": rows, "beyond": beyond(folder)}


def _write_scores(folder: RunFolder, out: Path, images: Sequence[Mapping[str, Any]]) -> int:
    """Both tidy tables, a batch at a time."""
    known = {(row["prompt_id"], row["index"]): row for row in images}
    total = 0
    with (
        atomic_file(out / "scores" / "scores.parquet") as parquet,
        pq.ParquetWriter(parquet, TIDY_SCHEMA, compression="zstd") as writer,
        atomic_file(out / "scores.csv") as raw,
    ):
        lines = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="")
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(TIDY_SCHEMA.names)
        for batch in pq.ParquetFile(folder.scores_path).iter_batches(20_000):
            rows = [row for score in batch.to_pylist() for row in _tidy(score, known)]
            writer.write_table(pa.Table.from_pylist(rows, schema=TIDY_SCHEMA))
            table.writerows([csv_cell(row[name]) for name in TIDY_SCHEMA.names] for row in rows)
            total += len(rows)
        lines.flush()
        lines.detach()
    return total


def _tidy(score: Mapping[str, Any], known: Mapping[tuple[str, int], Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    image = known.get((score["prompt_id"], score["index"]), {})
    shared = {
        **{name: image.get(name) for name in ("prompt", "group", "status")},
        **{name: score[name] for name in ("prompt_id", "index", "person", "attribute", "decision")},
    }
    for label, probability in score["probabilities"] or [(None, None)]:
        yield {**shared, "label": label, "probability": probability}


def _write_images(
    folder: RunFolder, out: Path, images: Sequence[Mapping[str, Any]], metrics: Metrics
) -> tuple[int, int]:
    """Original bytes under safe names, and metadata.jsonl; bytes that are not those of the table are left out."""
    wanted = {row["path"]: row for row in images if row["status"] == ImageStatus.GENERATED and row["path"]}
    decisions = _decisions(folder)
    lines = []
    for path, data in _image_bytes(folder):
        row = wanted.get(path)
        if row is None or hashlib.sha256(data).hexdigest() != row["sha256"]:
            continue
        extension = _extension(data)
        if extension is None:
            continue
        del wanted[path]
        name = f"{_safe(row['prompt_id'])}/{int(row['index'])}.{extension}"
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        facts = {key: row[key] for key in ("prompt_id", "prompt", "group", "index", "seed", "sha256", "revised_prompt")}
        found = decisions.get((row["prompt_id"], row["index"]), {})
        # every line has every key: a column that is missing in the first lines would be lost to the reader
        read: dict[str, str | float | None] = {}
        for attribute in metrics.labels:
            decision, probability = found.get(attribute, (None, None))
            read[f"perceived_{attribute}"] = decision
            read[f"perceived_{attribute}_probability"] = probability
        lines.append(json.dumps({"file_name": name, **facts, **read}, ensure_ascii=True))
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "metadata.jsonl", ("\n".join(lines) + "\n").encode() if lines else b"")
    return len(lines), len(wanted)


def _decisions(folder: RunFolder) -> dict[tuple[str, int], dict[str, tuple[str, float | None]]]:
    """Image -> attribute -> decision and probability; several people are listed with a comma between."""
    found: dict[tuple[str, int], dict[str, tuple[str, float | None]]] = {}
    columns = ["prompt_id", "index", "attribute", "decision", "probability"]
    for batch in pq.ParquetFile(folder.scores_path).iter_batches(20_000, columns=columns):
        for row in batch.to_pylist():
            if row["attribute"] == PRESENCE:
                continue
            mine = found.setdefault((row["prompt_id"], row["index"]), {})
            before = mine.get(row["attribute"])
            mine[row["attribute"]] = (
                (row["decision"], row["probability"]) if before is None else (f"{before[0]},{row['decision']}", None)
            )
    return found


def _image_bytes(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Path as images.parquet names it, and bytes, of everything that the run's source still holds."""
    header, base = read_header(folder.path), ""
    if header.generator or not isinstance(header.source, dict):
        made = _maker(folder)
        if made.path != folder.path:
            base = str(made.path.resolve())  # a run that was relabelled names its images by their whole paths
        source = open_source(str(made.path), options=ArchiveOptions(layout="run"))
    else:
        from allfour.pipeline.commands.rescore import archive_options

        config = recorded_config(header.config, where=str(folder.header_path))
        source = open_source(str(header.source.get("location")), options=archive_options(config))
    for shard in source.shards():
        for item in source.read(shard):
            if item.data is not None:
                yield os.path.join(base, item.image.path), item.data  # noqa: PTH118  (text, as the table has it)


def _maker(folder: RunFolder) -> RunFolder:
    """The run that made the images of a run, which may have been relabelled since, and that again."""
    seen = {folder.path.resolve()}
    while (header := folder.header()).kind == "relabel" and header.relabelled_from is not None:
        folder = RunFolder(Path(header.relabelled_from))
        if folder.path.resolve() in seen:
            raise RunFolderError(f"{folder.path}: relabelled from itself, as its run.json says. Restore that file")
        seen.add(folder.path.resolve())
    return folder


def _extension(data: bytes) -> str | None:
    return EXTENSION_OF.get(sniff_format(data) or "")


def _safe(prompt_id: str) -> str:
    """A prompt id as a folder name; what is none is replaced by its hash, whatever wrote the table."""
    return (
        prompt_id
        if _SAFE.fullmatch(prompt_id)
        else hashlib.sha256(prompt_id.encode("utf-8", "replace")).hexdigest()[:32]
    )


def _readme(name: str, metrics: Metrics) -> str:
    labels = "".join(
        f"- `perceived_{attribute}`: {', '.join(markdown_text(label) for label in labels)}, `ambiguous`, `no_person`\n"
        for attribute, labels in metrics.labels.items()
    )
    return (
        f"# Images and scores of the run {markdown_text(name)}\n\n{PERCEIVED}\n\n"
        "```python\nfrom datasets import load_dataset\n\n"
        'pictures = load_dataset("THIS_FOLDER/images")["train"]  # with prompts and readings\n'
        'scores = load_dataset("THIS_FOLDER/scores")["train"]    # every probability in a row of its own\n```\n\n'
        "`scores.csv` holds the same rows as the scores. Columns of the pictures:\n\n"
        f"{labels}\nThe terms of the images are those of the model or archive that they come from.\n"
    )
