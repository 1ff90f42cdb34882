"""Foreign text is made valid at the border, once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allfour.border import REPLACEMENT, read_json, valid_text
from allfour.models._hosted.errors import read_error
from allfour.models.generators._openai.answers import read_answer
from allfour.pipeline.run.journal import Journal

ANY_CHARACTER = st.characters(exclude_categories=())  # lone surrogates and NUL too
ANY_TEXT = st.text(ANY_CHARACTER, max_size=30) | st.sampled_from(["\ud800", "\udfff\ud800", "\\ud800", "\x00", "😀"])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


def cleaned(value: Any) -> Any:
    """The slow and plain way: through Python's own strings."""
    if isinstance(value, str):
        # a high and a low surrogate side by side are one character to whoever reads the escapes
        whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return whole.replace("\x00", REPLACEMENT)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    return value


@given(ANY_TEXT)
def test_valid_text_is_valid_and_else_unchanged(text: str) -> None:
    found = valid_text(text)
    found.encode("utf-8")
    assert "\x00" not in found and len(found) == len(text)
    assert [a for a, b in zip(text, found, strict=True) if a != b] == [
        c for c in text if c == "\x00" or 0xD800 <= ord(c) <= 0xDFFF
    ]


@given(ANY_JSON)
@settings(max_examples=300)
def test_every_string_of_a_document_is_valid(value: Any) -> None:
    found = read_json(json.dumps(value))
    json.dumps(found, ensure_ascii=False).encode("utf-8")
    assert "\\u0000" not in json.dumps(found).replace("\\\\", "")
    assert found == cleaned(value)
    assert read_json(json.dumps(value).encode()) == found


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_json_or_a_value_error(data: bytes) -> None:
    try:
        found = read_json(data)
    except (ValueError, RecursionError):
        return
    json.dumps(found, ensure_ascii=False).encode("utf-8")


def test_bytes_that_spell_a_surrogate_are_replaced() -> None:
    assert "\ud800" not in read_json(b'"\xed\xa0\x80"')


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_what_an_api_says_is_valid(revised: str, size: str, message: str) -> None:
    body = {
        "data": [{"b64_json": "aGFsbG8=", "revised_prompt": revised}],
        "size": size,
        "model": message,
        "usage": {message: 1},
    }
    answer = read_answer(json.dumps(body).encode())
    error = read_error(json.dumps({"error": {"message": message, "code": size}}).encode())
    text = repr([*(item.revised_prompt for item in answer.items), answer.details, answer.usage, error])
    assert not any(0xD800 <= ord(character) <= 0xDFFF or character == "\0" for character in text)
    json.dumps([answer.details, answer.usage, error.message, error.code], ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("spelled", [b"\\ud800", b"\xed\xa0\x80", b"\\u0000"])
def test_a_journal_of_a_run_folder_is_valid(tmp_path: Any, spelled: bytes) -> None:
    (tmp_path / "outcomes.jsonl").write_bytes(
        b'{"prompt_id": "a", "index": 0, "fingerprint": "f", "status": "refused", "revised_prompt": "'
        + spelled
        + b'"}\n'
    )
    [outcome], _ = Journal(tmp_path / "outcomes.jsonl").read()
    assert set(outcome.revised_prompt or "") == {REPLACEMENT}
