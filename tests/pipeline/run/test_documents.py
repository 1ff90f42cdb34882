"""The typed documents of a run folder: one record each, by which they are written, read and described."""

from __future__ import annotations

import json

from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.record import Interval, Note
from allfour.pipeline.run.schema import metrics_schema_text
from tests.places import REPOSITORY


def test_the_committed_schema_is_the_record_s() -> None:
    committed = (REPOSITORY / "pipeline/run/metrics.schema.json").read_text(encoding="utf-8")
    assert committed == metrics_schema_text(), "run: python scripts/write_schema.py"


def test_what_nobody_set_is_no_key_and_what_is_not_known_is_kept() -> None:
    given = {"format": 1, "summary": {"prompts": 2, "of_a_later_version": [1]}, "later": {"x": 1}}
    read = Metrics.model_validate(given)
    assert read.document() == given
    assert read.summary.set_size == 4


def test_a_document_of_before_there_were_codes_has_notes() -> None:
    read = Metrics.model_validate({"format": 1, "warnings": ["3 of 8 images are missing."]})
    assert read.notes == [Note(code="uncoded", text="3 of 8 images are missing.")]
    more = read.noted(Note(code="outdated", text="b", about="review"))
    assert more.warnings == ["3 of 8 images are missing.", "b"]
    assert json.loads(json.dumps(more.document()))["notes"][1] == {"code": "outdated", "text": "b", "about": "review"}


def test_numbers_that_are_not_finite_are_read_as_none() -> None:
    assert Interval.model_validate({"value": float("nan"), "low": 0.1, "high": float("inf")}).high is None
