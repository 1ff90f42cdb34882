"""Identities side by side: half precision with the decisions of float32 is the classifier that float32 is."""

from __future__ import annotations

from typing import Any

import pytest

from allfour.models.classifiers.base import TWICE
from allfour.pipeline.run.identities import deciding_alike, differing


def clip(dtype: Any, **more: Any) -> dict[str, Any]:
    half = {"half": {"format": "bfloat16", "in_float32": ["norms"]}} if dtype == TWICE else {}
    return {"backend": "clip", "encoder": {"tensors_sha256": "a", "dtype": dtype, **half, **more}}


def test_precisions_with_the_same_decisions_do_not_differ() -> None:
    assert differing(clip("float32"), clip(TWICE)) == differing(clip(TWICE), clip("float32")) == []
    assert deciding_alike(clip("float32"), clip(TWICE)) and deciding_alike(clip(TWICE), clip("float32"))
    assert not deciding_alike(clip(TWICE), clip(TWICE))
    found = differing(clip("float32", logit_scale=1.0), clip(TWICE, logit_scale=2.0))
    assert found == [("encoder.logit_scale", 1.0, 2.0)]


@pytest.mark.parametrize("other", ["float16", "bfloat16", None, ["float32"]])
def test_other_precisions_do(other: Any) -> None:
    assert ("encoder.dtype", TWICE, other) in differing(clip(TWICE), clip(other))
    assert ("encoder.dtype", "float32", other) in differing(clip("float32"), clip(other))
    assert not deciding_alike(clip(TWICE), clip(other))
