"""A CLIP by its id on the model hub: found in the hub's cache, or fetched into it. Never a pickled file, never code."""

from __future__ import annotations

import os
import re
from pathlib import Path

from allfour.errors import ClassifierError, with_choices

PREFIX = "hf-hub:"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_CONFIGS = {"open_clip_config.json": OPEN_CLIP_WEIGHTS, "config.json": ("model.safetensors",)}
"""What says that a repository has a CLIP, best first, and the weights that go with it."""
_BESIDE = ("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
           "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "sentencepiece.bpe.model", "spiece.model",
           "tokenizer.model")  # fmt: skip
_PROBE_SECONDS = 5.0
_ID = re.compile(r"[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95}", re.ASCII)

OFFLINE_ALTERNATIVE = (
    "read photographs with the face model, which needs no hub:  "
    "--set classifier.backend=face --set attributes.file=configs/attributes/face.yaml"
)
OWN_FOLDER = "use the folder of a CLIP that you have:  --set classifier.pretrained=FOLDER"


def copied_from_another_machine(command: str) -> str:
    """The way to get what only the hub has onto a machine that cannot reach it."""
    return (
        f"on a machine that reaches the hub, run  {command}  and copy its cache (~/.cache/huggingface, or HF_HOME) here"
    )


class ToBeDownloadedError(ClassifierError):
    """The weights are not on this machine, and the model hub answers: whoever may download gets them there."""

    def __init__(self, message: str, *, command: str) -> None:
        super().__init__(message)
        self.command = command
        """What downloads them beforehand, for a shell."""


def folder_of(name: str, *, key: str, download: bool) -> Path:
    """The folder of `hf-hub:OWNER/NAME` in the hub's cache.

    Parameters
    ----------
    key
        The key of the config that names it, for errors.
    download
        Whether it may be fetched where it is not there.

    Raises
    ------
    ToBeDownloadedError
        `download` is False, and only a download is missing.
    ClassifierError
        It is not an id of a repository, or is neither cached nor to be downloaded.
    """
    repository = name.removeprefix(PREFIX)
    if not _ID.fullmatch(repository):
        raise ClassifierError(f"{key}: {name[:100]!r} is not the id of a model on the hub: write {PREFIX}OWNER/NAME")
    return _cached(repository) or _fetched(repository, allowed=download)


def _cached(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for config, weights in _CONFIGS.items():
        found = try_to_load_from_cache(repository, config)
        if isinstance(found, str) and any((Path(found).parent / name).is_file() for name in weights):
            return Path(found).parent
    return None


def _fetched(repository: str, *, allowed: bool) -> Path:
    problem = problem_of_the_hub()
    command = (
        f"hf download {repository} --include '*.json' --include '*.safetensors' --include '*.txt' --include '*.model'"
    )
    if problem is None and not allowed:
        raise ToBeDownloadedError(
            f"{repository} is not on this machine; the first run will download it from the model hub, which is reachable",
            command=command,
        )
    if problem is None:
        from huggingface_hub import hf_hub_download, snapshot_download

        try:
            folder = Path(snapshot_download(repository, allow_patterns=[*_CONFIGS, *_BESIDE]))
            weights = next((names for config, names in _CONFIGS.items() if (folder / config).is_file()), ())
            for name in weights:
                try:
                    hf_hub_download(repository, name)
                    return folder
                except Exception as error:
                    problem = _reason_of(error)
            problem = problem or f"it has neither {' nor '.join(_CONFIGS)}"
        except Exception as error:
            problem = _reason_of(error)
    raise ClassifierError(
        with_choices(
            f"{PREFIX}{repository} is not on this machine and cannot be downloaded: {problem}",
            copied_from_another_machine(command),
            OWN_FOLDER,
            OFFLINE_ALTERNATIVE,
        )
    )


def _reason_of(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"


def problem_of_the_hub() -> str | None:
    """Why the model hub cannot be reached, found out in seconds; None where it answers."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set"
    try:
        httpx.head(constants.ENDPOINT, timeout=_PROBE_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        return f"the model hub does not answer ({type(error).__name__})"
    return None
