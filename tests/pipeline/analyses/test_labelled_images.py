"""What a labelled set may say: words of any alphabet, and paths that no file has."""

from __future__ import annotations

from pathlib import Path

import pytest

from allfour.models.attributes import AttributeSet
from allfour.pipeline.analyses.labelled_images import open_labelled, truth_mapping

ATTRIBUTES = AttributeSet.model_validate(
    {"attributes": {"age": {"labels": {"0-29": ["y"], "30-99": ["o"]}}}, "headline": "age"}
)


@pytest.mark.parametrize(
    ("word", "label"), [("7", "0-29"), ("٣٥", "30-99"), ("²", None), ("②", None), ("9" * 5000, None), ("", None)]
)
def test_an_age_is_a_number_in_decimal_digits(word: str, label: str | None) -> None:
    assert truth_mapping("age", ATTRIBUTES)(word) == label


def test_a_path_that_no_file_can_have_is_one_unreadable_image(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"path,age\na\0.png,7\nabsent.png,40\n")
    errors = [item.error for item in open_labelled(tmp_path / "labels.csv", ATTRIBUTES).items()]
    assert errors == ["cannot be read: no name of a file", "cannot be read: No such file or directory"]
