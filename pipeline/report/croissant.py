"""Croissant metadata of an exported data set: JSON-LD by which data hubs and loaders know its files and columns.

Format: MLCommons Croissant 1.0, docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from allfour.pipeline.report.prose import PERCEIVED
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.words import clean

CROISSANT_FILE = "croissant.json"
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
_COLUMNS: Mapping[str, str] = {
    "prompt_id": "Id of the prompt.", "prompt": "The prompt.", "group": "Group of the prompt in its prompt set.",
    "index": "Number of the image of its prompt, from 0.", "status": "What became of the image.",
    "person": "Number of the person in the image.", "attribute": "What was asked.",
    "decision": "The label that was decided on, or why there is none.", "label": "A label.",
    "probability": "The classifier's probability of the label.",
}  # fmt: skip


def croissant(folder: Path, schema: pa.Schema, metrics: Metrics, header: Header) -> bytes:
    """Metadata of the data set in a folder: its files with their sha256, and the columns of its scores.

    Parameters
    ----------
    folder
        With scores/scores.parquet, scores.csv, images/metadata.jsonl and images/PROMPT_ID/INDEX.EXT.
    schema
        Of scores.parquet.
    """
    name = clean(header.name or folder.name, 100)
    maker = header.generator if isinstance(header.generator, dict) else {}
    model = maker.get("model") or maker.get("backend")
    made_by = f", made by {clean(model, 100)}" if model else ""
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": (
            f"Images of {metrics.accounting.generated:,} requests for {len(metrics.prompts):,} prompts"
            f"{made_by}, and what a classifier read in "
            f"them. {PERCEIVED} The terms of the images are those of the model or archive that they come from."
        ),
        **({"datePublished": header.finished[:10]} if header.finished else {}),
        "rai:dataBiases": "The images are what a model made of the prompts, gathered in order to measure that model's bias: no sample of people.",
        "rai:dataUseCases": "Auditing perceived presentation in generated images. Not for identifying people or inferring who somebody is.",
        "distribution": _files(folder),
        "recordSet": [_scores(schema)],
    }
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()


def _files(folder: Path) -> list[dict[str, Any]]:
    listed: Sequence[tuple[str, str, str]] = (
        ("scores.parquet", "scores/scores.parquet", "application/x-parquet"),
        ("scores.csv", "scores.csv", "text/csv"),
        ("metadata.jsonl", "images/metadata.jsonl", "application/jsonlines"),
    )
    files: list[dict[str, Any]] = []
    for id_, path, kind in listed:
        with (folder / path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append(
            {
                "@type": "cr:FileObject",
                "@id": id_,
                "name": id_,
                "contentUrl": path,
                "encodingFormat": kind,
                "sha256": digest,
            }
        )
    return files


def _scores(schema: pa.Schema) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"scores/{column.name}",
            "name": column.name,
            "description": _COLUMNS.get(column.name, ""),
            "dataType": _data_type(column.type),
            "source": {"fileObject": {"@id": "scores.parquet"}, "extract": {"column": column.name}},
        }
        for column in schema
    ]
    about = "A row per image, person, attribute and label."
    return {"@type": "cr:RecordSet", "@id": "scores", "name": "scores", "description": about, "field": fields}


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
