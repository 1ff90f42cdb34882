"""What a header says of a run's images: where they are to be read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allfour.pipeline.run.header import Header


@pytest.mark.parametrize(
    ("header", "typed"),
    [
        ({"kind": "audit"}, "'runs/my run'"),
        ({"kind": "rescore", "source": {"location": "/data/photos"}}, "/data/photos"),
        ({"kind": "rescore", "source": {"location": "/my data/a.zip"}}, "'/my data/a.zip'"),
        ({"kind": "relabel", "relabelled_from": "runs/first", "source": {"location": "/data"}}, "runs/first"),
    ],
)
def test_images_are_read_again_from_where_they_lie(header: dict[str, Any], typed: str) -> None:
    assert Header.model_validate(header).to_reread(Path("runs/my run")) == typed
