"""Where the weights of an open_clip model are: resolved, hashed, and never random.

open_clip itself only warns where it finds no weights and goes on with random ones, whose scores look like any others; and it
asks a hub again and again before it gives up. Here the weights are located first, and what is not available is one error.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allfour import resources
from allfour.errors import ClassifierError, with_choices
from allfour.files import sha256_of
from allfour.models.classifiers._clip import hub, transformers_folder
from allfour.models.classifiers._clip.hub import OFFLINE_ALTERNATIVE, ToBeDownloadedError
from allfour.models.classifiers._clip.transformers_folder import TransformersFolder
from allfour.models.classifiers.clip_config import CONFIG_NAME, FolderConfig
from allfour.models.files import FileStamp
from allfour.process.deferred import defer

__all__ = ["ClipWeights", "ToBeDownloadedError", "resolve"]

_WEIGHT_NAMES = hub.OPEN_CLIP_WEIGHTS


@dataclass(frozen=True, slots=True)
class ClipWeights:
    """A model that can be built: what open_clip's factory needs, and what identifies it."""

    name: str
    """The architecture that open_clip builds, or `local-dir:FOLDER`, which `config` builds."""
    architecture: str
    """For people: the architecture's name, or that of the folder."""
    weights: Path
    tag: str | None
    """The pretrained tag, where the weights were named by one."""
    overrides: dict[str, Any]
    """Preprocessing and activation that belong to the tag, as keyword arguments of the factory."""
    config: FolderConfig | TransformersFolder | None = None
    """The checked model config, where the weights are those of a folder."""
    stamp: FileStamp = field(init=False, compare=False)
    """The file as it was when it was found."""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "stamp", FileStamp.of(self.weights))
        except OSError as error:
            raise ClassifierError(f"{self.weights}: cannot be read: {error.strerror}") from None

    def sha256(self) -> str:
        """Of the weights file. Raises ClassifierError where it is another one now than that which was found."""
        try:
            digest = sha256_of(self.weights)
        except OSError as error:
            raise ClassifierError(f"{self.weights}: cannot be read: {error.strerror}") from None
        if FileStamp.of(self.weights) != self.stamp:
            raise ClassifierError(f"{self.weights} was changed while it was in use. Repeat the command")
        return digest

    def tokenizer_sha256(self) -> str | None:
        """Over names and contents of the tokenizer's files in the folder; None where the tokenizer is CLIP's own."""
        files = self.config.tokenizer_files if self.config is not None else []
        if not files:
            return None
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.name}\0{sha256_of(path)}\n".encode())
        return digest.hexdigest()


def logit_scale_of(weights: Path) -> float | None:
    """The factor that a safetensors file of a CLIP holds for its cosines, without loading the rest; None where it cannot be told."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy") as file:
            return math.exp(float(file.get_tensor("logit_scale").reshape(-1)[0]))
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError):
        return None


_IMAGE_TOWER = ("visual.", "vision_model.", "visual_projection.")
"""How tensors of an image tower are named, by open_clip and by transformers."""


def tower_size_of(weights: Path) -> int | None:
    """How many numbers a safetensors file holds for the image tower, without loading them; None where it cannot be told."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy") as file:
            names = [name for name in file.keys() if name.startswith(_IMAGE_TOWER)]  # noqa: SIM118  (no mapping)
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names) or None
    except (SafetensorError, OSError, ValueError, TypeError):
        return None


def resolve(*, model: str | None, pretrained: str | None, tag: str | None = None, download: bool = True) -> ClipWeights:
    """Locate the weights of `model` / `pretrained`.

    `pretrained` is a folder in open_clip's own format or in transformers' (also written `local-dir:FOLDER`), a .safetensors file, an
    id of the model hub (`hf-hub:OWNER/NAME`, which may stand in `model` too, as open_clip has it), or a pretrained tag of open_clip.
    A relative path is a packaged resource's where there is one of that name, and else one from the working directory.

    Parameters
    ----------
    tag
        The pretrained tag whose weights a .safetensors file holds: its activation and preprocessing are the tag's.
    download
        Whether the weights of a tag may be fetched from the model hub where they are not in its cache.

    Raises
    ------
    ToBeDownloadedError
        `download` is False, and only a download is missing.
    ClassifierError
        Nothing is named, the path or the tag does not exist, or the tag's weights are neither cached nor to be downloaded.
    """
    defer()
    named = (("model", model), ("pretrained", pretrained))
    of_hub = {key: name for key, name in named if name is not None and name.startswith(hub.PREFIX)}
    if of_hub:
        return _from_hub(of_hub, tag, download=download)
    if not pretrained:
        raise ClassifierError(
            with_choices(
                "classifier.pretrained is not set: it says which weights to use",
                f"name a folder with a CLIP, in open_clip's format ({CONFIG_NAME} and {_WEIGHT_NAMES[0]}) or in transformers':  "
                "--set classifier.pretrained=FOLDER",
                "name an architecture and a pretrained tag:  --set classifier.model=ViT-L-14 --set classifier.pretrained=openai",
                OFFLINE_ALTERNATIVE,
            )
        )
    text = pretrained.removeprefix("local-dir:")
    path = Path(text).expanduser()
    path = resources.locate_recorded(path) or path
    named_as_path = text != pretrained or "/" in text or "\\" in text or text.startswith((".", "~"))
    if tag is not None and not path.is_file():
        raise ClassifierError(
            "classifier.tag says which tag's weights a .safetensors file holds, but classifier.pretrained does not name a file. Remove classifier.tag, or put the tag in classifier.pretrained"
        )
    if path.is_dir() and (
        named_as_path or any((path / name).exists() for name in (CONFIG_NAME, transformers_folder.CONFIG_NAME))
    ):
        return _from_folder(path)
    if path.is_file():
        return _from_file(path, model, tag)
    if named_as_path:
        raise ClassifierError(
            with_choices(
                f"classifier.pretrained: no such folder or file: {path} (looked for: {', '.join(map(str, resources.candidates(text)))})",
                f"name a folder that holds {CONFIG_NAME} and {_WEIGHT_NAMES[0]}",
                OFFLINE_ALTERNATIVE,
            )
        )
    return _from_tag(model, pretrained, download=download)


def _from_hub(named: dict[str, str], tag: str | None, *, download: bool) -> ClipWeights:
    key, name = next(iter(named.items()))
    if tag is not None or len(set(named.values())) > 1:
        raise ClassifierError(
            f"classifier.{key}: {name[:100]} names a whole model. Remove classifier.tag and any second id"
        )
    folder = hub.folder_of(name, key=f"classifier.{key}", download=download)
    return _from_folder(folder, architecture=name.removeprefix(hub.PREFIX))


def _from_folder(folder: Path, *, architecture: str | None = None) -> ClipWeights:
    names: tuple[str, ...] = _WEIGHT_NAMES
    config_name = CONFIG_NAME
    config: FolderConfig | TransformersFolder
    if not (folder / CONFIG_NAME).exists() and transformers_folder.is_transformers(folder):
        config = TransformersFolder(folder)
        names, config_name = (transformers_folder.WEIGHTS_NAME,), transformers_folder.CONFIG_NAME
    else:
        config = FolderConfig(folder)
    for name in names:
        if (folder / name).is_file():
            return ClipWeights(
                name=f"local-dir:{folder}",
                architecture=architecture or folder.name,
                weights=folder / name,
                tag=None,
                overrides={},
                config=config,
            )
    raise ClassifierError(
        f"{folder} has {config_name} but no weights ({', '.join(names)}). Add them: random weights are refused, because their scores would look like any others"
    )


def _from_file(path: Path, model: str | None, tag: str | None) -> ClipWeights:
    if path.suffix != ".safetensors":
        raise ClassifierError(
            f"{path}: weights must be a .safetensors file, because a pickled checkpoint can run code when it is read. Convert it, or get the .safetensors file of the same model"
        )
    name = _architecture(model)
    overrides = (
        _overrides(_tag_config(name, tag, "classifier.tag")) if tag is not None else _common_overrides(path, name)
    )
    return ClipWeights(name=name, architecture=name, weights=path, tag=tag, overrides=overrides)


def _common_overrides(path: Path, name: str) -> dict[str, Any]:
    """What belongs to a file whose tag was not said: what all tags of the architecture share, and its own where it has none.

    Weights do not tell the activation or the preprocessing that they were trained with, and with another they give other
    probabilities that look like any.
    """
    import open_clip

    kinds: dict[str, list[str]] = {}
    for tag in open_clip.list_pretrained_tags_by_model(name):
        settings = json.dumps(_overrides(open_clip.get_pretrained_cfg(name, tag)), sort_keys=True, default=list)
        kinds.setdefault(settings, []).append(tag)
    if len(kinds) > 1:
        groups = "; ".join(", ".join(tags) for tags in kinds.values())
        raise ClassifierError(
            f"{path}: the tags of {name} differ in activation or preprocessing, and the file does not say which one it belongs to. Name the tag:  --set classifier.tag=TAG  (tags that are alike: {groups})"
        )
    found: dict[str, Any] = json.loads(next(iter(kinds))) if kinds else {}
    return found


def _architecture(model: str | None) -> str:
    import open_clip

    known = open_clip.list_models()
    if model in known:
        _refuse_namesakes(str(model))
        return str(model)
    if model is None:
        raise ClassifierError("classifier.model is not set: name the architecture, such as ViT-L-14")
    close = difflib.get_close_matches(model, known, n=3)
    raise ClassifierError(
        f"classifier.model: open_clip has no architecture {model!r}. "
        + (f"Did you mean {' or '.join(map(repr, close))}? " if close else "")
        + 'List them all:  python -c "import open_clip; print(open_clip.list_models())"'
    )


def _refuse_namesakes(name: str) -> None:
    """Raise ClassifierError where a folder in the working directory bears the hub name of the architecture's text tower or
    tokenizer: it would be read in place of the hub's, whatever is in it."""
    import open_clip

    text = (open_clip.get_model_config(name) or {}).get("text_cfg") or {}
    for key in ("hf_model_name", "hf_tokenizer_name"):
        found = text.get(key)
        if isinstance(found, str) and found and Path(found).exists():
            raise ClassifierError(
                f"classifier.model: {name} loads its text tower from {found!r} on the model hub, but something in the working directory has that name and would be read instead. Work in another directory, or rename it"
            )


def _tag_config(name: str, tag: str, key: str) -> dict[str, Any]:
    """open_clip's entry of a tag. Raises ClassifierError, naming `key`, where the architecture has no such tag."""
    import open_clip

    config: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if config:
        return config
    tags = open_clip.list_pretrained_tags_by_model(name)
    close = difflib.get_close_matches(tag, tags, n=1)
    raise ClassifierError(
        f"{key}: {name} has no pretrained tag {tag!r} (and there is no such folder). "
        + (f"Did you mean {close[0]!r}? " if close else "")
        + f"Tags of {name}: {', '.join(tags) or 'none'}"
    )


def _overrides(config: dict[str, Any]) -> dict[str, Any]:
    """Activation and preprocessing of a tag's entry, as keyword arguments of open_clip's factory."""
    overrides: dict[str, Any] = {"force_quick_gelu": bool(config.get("quick_gelu", False))}
    for ours, theirs in (("image_mean", "mean"), ("image_std", "std"), ("image_interpolation", "interpolation"),
                         ("image_resize_mode", "resize_mode")):  # fmt: skip
        if config.get(theirs) is not None:
            overrides[ours] = config[theirs]
    return overrides


def _from_tag(model: str | None, tag: str, *, download: bool) -> ClipWeights:
    name = _architecture(model)
    config = _tag_config(name, tag, "classifier.pretrained")
    weights = _cached(config) or _download(name, tag, config, allowed=download)
    return ClipWeights(name=name, architecture=name, weights=weights, tag=tag, overrides=_overrides(config))


def _hub_location(config: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Hub repository of a tag, and the file names to look for, best first."""
    repository, _, file = str(config.get("hf_hub", "")).rpartition("/")
    if file:
        return repository, (file.rsplit(".", 1)[0] + ".safetensors",)
    return repository, ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")


def _cached(config: dict[str, Any]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, names = _hub_location(config)
    if not repository:
        return None
    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _download(name: str, tag: str, config: dict[str, Any], *, allowed: bool) -> Path:
    repository, names = _hub_location(config)
    problem = (
        hub.problem_of_the_hub()
        if repository
        else "its weights are published only as a pickled file, which allfour does not read"
    )
    command = f"python -c \"import open_clip; open_clip.create_model('{name}', pretrained='{tag}')\""
    if problem is None and not allowed:
        raise ToBeDownloadedError(
            f"the weights of {name} / {tag} are not on this machine; the first run will download them from the model hub, which is reachable",
            command=command,
        )
    if problem is None:
        from huggingface_hub import hf_hub_download

        for file in names:
            try:
                return Path(hf_hub_download(repository, file))
            except Exception as error:
                problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    raise ClassifierError(
        with_choices(
            f"the weights of {name} / {tag} are not on this machine and cannot be downloaded: {problem}",
            hub.copied_from_another_machine(command),
            hub.OWN_FOLDER,
            OFFLINE_ALTERNATIVE,
        )
    )
