"""The tokenizer of a model folder, from its files alone. No code of the folder is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from allfour.border import read_json
from allfour.errors import ClassifierError
from allfour.files import read_regular

_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
          "vocab.json", "merges.txt", "vocab.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")  # fmt: skip
"""What a tokenizer is read from; with their sha256 they are part of the model's identity."""
_VOCABULARIES = frozenset(_FILES) - {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}

_MOST_BYTES = 256 * 2**20
"""Of one file: the largest vocabularies in use have 35 MB."""


def files_of(folder: Path) -> list[Path]:
    """Files of the folder that its tokenizer is read from."""
    return [folder / name for name in _FILES if (folder / name).is_file()]


def has_vocabulary(folder: Path) -> bool:
    return any(path.name in _VOCABULARIES for path in files_of(folder))


def load(
    folder: Path, *, context_length: int, mode: str | None = None, options: Mapping[str, Any] | None = None
) -> Any:
    """The folder's tokenizer behind open_clip's interface: texts -> tokens [texts, context_length].

    Raises
    ------
    ClassifierError
        Its files are missing, damaged, or ask for code.
    """
    import open_clip

    _refuse_code(folder)
    try:
        return open_clip.tokenizer.HFTokenizer(
            str(folder),
            context_length=context_length,
            tokenizer_mode=mode,
            trust_remote_code=False,
            local_files_only=True,
            **(options or {}),
        )
    except Exception as error:
        raise ClassifierError(
            f"{folder}: the tokenizer cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
        ) from None


def _refuse_code(folder: Path) -> None:
    for name in ("tokenizer_config.json", "config.json"):
        path = folder / name
        if not path.is_file():
            continue
        parsed = _read(path)
        for key in ("auto_map", "trust_remote_code"):
            if key in parsed:
                raise ClassifierError(
                    f"{path}: {key} asks allfour to run code from the model folder, which it never does. Use a model whose tokenizer needs no code of its own"
                )


def _read(path: Path) -> dict[str, Any]:
    try:
        parsed = read_json(read_regular(path, limit=_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ClassifierError(f"{path}: cannot be read: {error}") from None
    if not isinstance(parsed, dict):
        raise ClassifierError(f"{path} is not a mapping")
    return parsed


# --- CLIP's own ------------------------------------------------------------------------------------------------------------


@cache
def _clips() -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges of CLIP's own tokenizer."""
    import open_clip

    own = open_clip.SimpleTokenizer()
    ends = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}  # the names of the original
    vocabulary = {ends.get(token, token): number for token, number in own.encoder.items()}
    merges = sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)
    return vocabulary, [" ".join(pair) for pair in merges]


def is_clips(folder: Path) -> bool:
    """Whether the folder's tokenizer is CLIP's own, as transformers saves it: the same tokens under the same numbers, the same merges.

    Raises
    ------
    ClassifierError
        Its files cannot be read.
    """
    vocabulary, merges = _vocabulary(folder)
    return vocabulary is not None and (vocabulary, merges) == _clips()


def _vocabulary(folder: Path) -> tuple[dict[str, int] | None, list[str]]:
    """Of a byte-pair tokenizer with CLIP's marks of ends; None where it is another."""
    if (folder / "tokenizer.json").is_file():
        parsed = _read(folder / "tokenizer.json")
        model = parsed.get("model")
        if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or model.get("type", "BPE") != "BPE":
            return None, []
        lower = json.dumps(parsed.get("normalizer"))
        if model.get("end_of_word_suffix") != "</w>" or "Lowercase" not in lower:
            return None, []
        return model["vocab"], [m if isinstance(m, str) else " ".join(m) for m in model.get("merges", [])]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocabulary.is_file() and merges.is_file()):
        return None, []
    try:
        lines = read_regular(merges, limit=_MOST_BYTES).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ClassifierError(f"{merges}: cannot be read: {error}") from None
    return _read(vocabulary), [line for line in lines if line.strip() and not line.startswith("#version")]
