"""`allfour init`: a commented config of one's own, put together from the bundled ones by three answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allfour import resources
from allfour.errors import ConfigError
from allfour.files import read_regular
from allfour.models.settings import not_found
from allfour.pipeline.config import load_prompts
from allfour.pipeline.run.writing import sweep_beside, write_atomic


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to a question."""

    what: str
    """In words."""
    config: str
    """The bundled config, or prompt set, that it takes from."""


IMAGES: Mapping[str, Choice] = {
    "sandbox": Choice("the embedded drawn world: no GPU, no key; says nothing about real models", "sandbox"),
    "diffusers": Choice("a diffusers model from the hub or a folder, on this machine's GPU", "sdxl"),
    "hosted": Choice("a hosted image API, with a key", "hosted-image-api"),
    "web-ui": Choice("a Stable Diffusion web UI on this machine", "web-ui"),
    "comfyui": Choice("a ComfyUI on this machine", "comfyui"),
    "archive": Choice("images that already exist, for `allfour rescore`", ""),
}
READERS: Mapping[str, Choice] = {
    "clip": Choice("OpenAI's CLIP ViT-L/14: any picture, any labels", "rescore"),
    "face": Choice("a face detector with a model of gender and age: photographs, offline", "rescore-face"),
    "judge": Choice("a vision-language model behind a chat API", "rescore-judge"),
    "sandbox": Choice("the sandbox's small CLIP: only for the sandbox's drawings", "sandbox"),
}
PROMPTS: Mapping[str, Choice] = {
    "experiment": Choice(
        "the twenty occupations of the 2022 hand experiment", "configs/prompts/bolukbasi-extremes.yaml"
    ),
    "us-labour": Choice("US occupations, compared with labour statistics", "configs/prompts/us-labour.yaml"),
    "asked-for": Choice("each occupation asked for as a woman and as a man", "configs/prompts/asked-for.yaml"),
    "adjectives": Choice("twenty adjectives of character and status", "configs/prompts/adjectives.yaml"),
    "all-occupations": Choice("all 320 words of Bolukbasi et al. 2016", "configs/prompts/bolukbasi-all.yaml"),
}
REFERENCES: Mapping[str, str] = {"us-labour": "configs/references/us-labour-2019.yaml"}
"""Shares that the prompts of an answer are compared with."""


def own_prompts(prompts: str, out: Path) -> str:
    """How the config `out` names the prompts of an answer: a file of the working folder by its way from the config, so that it is
    found from every folder.

    Raises
    ------
    ConfigError
        It is neither a key of `PROMPTS` nor the file of a prompt set.
    """
    if prompts in PROMPTS:
        return prompts
    given = Path(prompts).expanduser()
    if given.is_file():
        load_prompts(given.absolute())
        return prompts if given.is_absolute() else Path(os.path.relpath(given, out.parent)).as_posix()
    ours = resources.packaged(given)
    if (out.parent / given).is_file() or (ours is not None and ours.is_file()):
        return prompts  # as every relative path in a config: beside it, or among allfour's own
    raise ConfigError(f"--prompts: {not_found(prompts, [given.absolute()])}. Or choose one of {', '.join(PROMPTS)}")


def own_config(images: str, reader: str, prompts: str) -> str:
    """The text of a config.

    Parameters
    ----------
    images, reader
        Keys of `IMAGES` and `READERS`.
    prompts
        A key of `PROMPTS`, or a prompt set's file as the config is to name it (`own_prompts`).

    Raises
    ------
    ConfigError
        An answer is none of those.
    """
    source, read = _chosen("images", images, IMAGES), _chosen("reader", reader, READERS)
    listed = PROMPTS[prompts].config if prompts in PROMPTS else _scalar(prompts)
    lines = [
        f"# Images: {source.what}.",
        f"# Read by: {read.what}.",
        "# Every key: docs/configuration.md. Override any of them for one run: --set KEY=VALUE",
        "",
    ]
    if source.config:
        given = _text(source.config)
        lines += ["seed: 0                # another seed makes other images", _prompts_block(listed), ""]
        lines += [*_head(given), *filter(None, [_block(given, "notice")]), _block(given, "generator"), ""]
        if prompts in REFERENCES:
            lines += [f"reference: {{file: {REFERENCES[prompts]}}}  # marked beside the measured shares; no target", ""]
    else:
        lines += [
            f"prompts: {{file: {listed}, set_size: 4}}  # text and group of the prompts that folder names and captions match",
            "",
        ]
    reading = _text(read.config)
    lines += [
        *([] if read.config == source.config else _head(reading)),
        _block(reading, "classifier"),
        _block(reading, "attributes"),
    ]
    return "\n".join(line for line in lines if line is not None) + "\n"


def _scalar(text: str) -> str:
    """A text as a value of YAML, in quotes where it could be read as something else."""
    return text if re.fullmatch(r"[A-Za-z_./][\w./~-]*", text) else json.dumps(text, ensure_ascii=False)


def _prompts_block(listed: str) -> str:
    return f"prompts:\n  file: {listed}\n  images_per_prompt: 4   # more images narrow each prompt's interval; more prompts narrow the headline's (see `allfour plan`)\n  set_size: 4            # how many images must agree"


def _chosen(question: str, answer: str, choices: Mapping[str, Choice]) -> Choice:
    if answer not in choices:
        raise ConfigError(f"--{question} {answer}: choose one of {', '.join(choices)}")
    return choices[answer]


def _text(name: str) -> str:
    found = resources.packaged(Path("configs") / f"{name}.yaml")
    if found is None or not found.is_file():
        raise ConfigError(f"configs/{name}.yaml is missing from this installation. Install allfour again")
    return found.read_text(encoding="utf-8")


def _head(text: str) -> list[str]:
    """The comment at a config's head, without the commands that name it."""
    head = text[: m.start()] if (m := re.search(r"^[a-z]", text, re.MULTILINE)) else ""
    return [
        line for line in head.splitlines() if line.startswith("#") and "configs/" not in line and "--config" not in line
    ]


def _block(text: str, key: str) -> str:
    """A top-level block as it stands, comments and all."""
    found = re.search(rf"^{key}:.*?(?=^[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[0].rstrip() if found else ""


def write_config(path: Path, text: str) -> None:
    """Write a config that did not exist, or exists exactly as it would be written. Raises ConfigError."""
    sweep_beside(path)
    if path.exists():
        with contextlib.suppress(OSError):
            if read_regular(path) == text.encode():
                return
        raise ConfigError(f"{path} already exists and is not replaced. Name another file with --out")
    write_atomic(path, text.encode())


def next_steps(path: Path, images: str) -> list[str]:
    """What to type next."""
    config = shlex.quote(str(path))
    verb = f"allfour rescore FOLDER --config {config}" if images == "archive" else f"allfour audit --config {config}"
    first = f"{verb} --dry-run" if images == "archive" else f"{verb} --limit 8"
    return [f"allfour doctor --config {config}", first, verb]
