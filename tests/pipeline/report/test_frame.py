"""The words that all prompts share."""

from __future__ import annotations

import pytest

from allfour.pipeline.report.frame import common_frame


@pytest.mark.parametrize(
    ("texts", "shared", "short"),
    [
        (["a photo of a nurse", "a photo of an architect", "a photo of a chief cook"], "a photo of a …", "nurse"),
        (["nurse at work, studio", "cook at work, studio", "maid at work, studio"], "… at work, studio", "nurse"),
        (["nurse", "cook", "maid"], "", "nurse"),
        (["a photo of a nurse", "a photo of a cook"], "", "a photo of a nurse"),
        (["a nurse", "a nurse", "a nurse"], "", "a nurse"),
        (["a photo of", "a photo of a cook", "a photo of a maid"], "", "a photo of"),
        (["", "x", "y"], "", ""),
    ],
)
def test_shared_words_are_said_once(texts: list[str], shared: str, short: str) -> None:
    frame = common_frame(texts)
    assert (frame.text, frame.short(texts[0])) == (shared, short)
