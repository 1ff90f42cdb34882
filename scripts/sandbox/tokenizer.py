"""The diffusion's own small tokenizer: CLIP's byte-level BPE over the drawn world's captions, so that its table stays tiny."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"


def train(captions: Iterable[str], *, folder: Path, size: int = 1024) -> None:
    """Learns merges from captions and writes `vocab.json` and `merges.txt`.

    Every byte has a token of its own, so that any text at all can be encoded.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, end_of_word_suffix="</w>", special_tokens=[], min_frequency=2,
    )  # fmt: skip
    tokenizer.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    known = set(vocabulary)
    kept = []
    for left, right in merges:
        if left in known and right in known and left + right not in known:
            kept.append(f"{left} {right}")
            vocabulary.append(left + right)
            known.add(left + right)
    vocabulary += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *kept]) + "\n")


def trained(folder: Path) -> CLIPTokenizer:
    """The tokenizer, padding to `LENGTH` tokens as Stable Diffusion does."""
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=LENGTH, pad_token=END,
        unk_token=END, bos_token=START, eos_token=END,
    )  # fmt: skip
