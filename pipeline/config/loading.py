"""Reading what a user wrote: one YAML is one way to run, and a mistake in it ends in one `ConfigError`."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from allfour import resources
from allfour.checked_yaml import check_values, read_yaml
from allfour.errors import ConfigError
from allfour.models.attributes import AttributeSet
from allfour.models.settings import BESIDE, WRITTEN, not_found, texts_in
from allfour.pipeline.config.blocks import Reference, RunConfig, WordLists
from allfour.pipeline.config.paths import resolve_path
from allfour.pipeline.config.prompt_sets import PromptFile, PromptSet, WordFile, WordList
from allfour.pipeline.config.validation import models_at, tag_of, validate

_FIELD = re.compile(r"\{[a-z_]+\}")
"""A pattern that is one field, such as `{prompt}`; to YAML it would be a block with a key and no value."""
_TAGS = ("backend", "detector")
"""Keys that say which kind of block it is."""


def apply_overrides(data: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """`a.b=c` set into the nested mappings of a config; the value is read as YAML (so `4` is a number and `[a, b]` a list).

    Where a block gets another `backend` or `detector`, the keys go that stood there and that the new one does not have.

    Raises
    ------
    ConfigError
        One is no `path.to.key=value`, or its path leads through what is not a block.
    """
    result: dict[str, Any] = json.loads(json.dumps(data, default=str))
    given: set[tuple[str, ...]] = set()
    for override in overrides:
        key, sign, text = override.partition("=")
        parts = key.strip().split(".")
        if not sign or not all(parts):
            raise ConfigError(f"--set {override!r}: write it as path.to.key=value")
        try:
            said = text.strip()
            value = said if _FIELD.fullmatch(said) else yaml.safe_load(text) if said else None
        except (yaml.YAMLError, ValueError):
            value = text  # what is no YAML is taken as plain text
        except RecursionError:
            raise ConfigError(f"--set {key}: blocks or lists are nested too deeply") from None
        check_values({key.strip(): value}, where="--set")
        node = result
        for part in parts[:-1]:
            child = node[part] = {} if node.get(part) is None else node[part]
            if not isinstance(child, dict):
                raise ConfigError(f"--set {override!r}: {part!r} is no block, it holds {child!r}")
            node = child
        if parts[-1] in _TAGS and node.get(parts[-1]) != value:
            # what was typed for the wrong kind stays, and is a mistake
            typed = {path[-1] for path in given if path[:-1] == tuple(parts[:-1])}
            for rival in _not_of(value, parts[:-1], set(node) - typed):
                del node[rival]
        given.add(tuple(parts))
        node[parts[-1]] = value
    return result


def _not_of(tag: Any, block: list[str], keys: set[str]) -> set[str]:
    """Those of `keys` that the kind of block called `tag` does not have; none where there is no such kind."""
    known = {name for model in models_at(RunConfig, block)[0] if tag_of(model) == tag for name in model.model_fields}
    return keys - known if known else set()


def find_config(path: Path, folder: str = "configs", *, ours: bool = False) -> Path:
    """The file of a config, or of a study. Raises ConfigError where there is none; the message lists where it was looked for.

    Parameters
    ----------
    folder
        Where the packaged ones lie that go by their bare name.
    ours
        The package names it, not a user: packaged ones go first.
    """
    places = resources.candidates(path, ours=ours)
    name = path
    if (
        path.suffix not in (".yaml", ".yml") and len(path.parts) == 1
    ):  # a packaged config goes by its name too, such as sd3.5-medium
        name = Path(folder) / f"{path.name}.yaml"
        named = resources.packaged(name)
        if named is not None and stat.S_ISREG(_mode(named)):
            places = [named, *places] if ours else [*places, named]
    for place in places:
        mode = _mode(place)
        if stat.S_ISREG(mode):
            resources.tell_hidden(name, place)
            return place
        if mode and place == places[-1]:
            what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise ConfigError(
                f"{path}: {place} is {what}. Name a YAML file; one that a pipe gives must be written to a file first"
            )
    raise ConfigError(f"{not_found(path, places)}{_closest_packaged(path, folder) if name != path else ''}")


def _closest_packaged(path: Path, folder: str) -> str:
    """A hint for a bare name: the packaged one that is closest; empty where none is close."""
    known = resources.packaged(Path(folder))
    names = sorted(p.stem for p in known.glob("*.yaml")) if known is not None else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f". Did you mean {close[0]}, which comes with allfour?" if close else ""


def _mode(path: Path) -> int:
    """What kind of file stands there; 0 where there is none, or none that could bear the name."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # too long, or with a NUL
        return 0


def context_of(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The validation context of a file that is read: where its paths are looked for, and which of them a user wrote.

    In a packaged file those are what `overrides` says; in any other all are.
    """
    context: dict[str, Any] = {BESIDE: path.resolve().parent}
    if resources.packaged_name(path) is not None:
        context[WRITTEN] = texts_in(apply_overrides({}, list(overrides)))
    return context


def load_config(path: Path, overrides: list[str] | None = None, *, ours: bool = False) -> RunConfig:
    """Read and check one config.

    Parameters
    ----------
    path
        A file, here or among the packaged configs, or the bare name of a packaged one, such as `sandbox`.
    ours
        The package names it, not a user: packaged ones go first.

    Raises
    ------
    ConfigError
        See `validate` and `read_yaml`; a file that the config names stands nowhere.
    """
    path = find_config(path, ours=ours)
    data = apply_overrides(read_yaml(path), overrides or [])
    if data.get("name") is None:
        data["name"] = path.stem
    where = f"{path} (with --set)" if overrides else str(path)
    config = validate(RunConfig, data, where=where, context=context_of(path, overrides or []))
    return config.model_copy(update={"classifier": config.classifier.for_prompts(several=_asks_for_several(config))})


def _asks_for_several(config: RunConfig) -> bool:
    """Whether a prompt asks for several people. A set that cannot be read is an error where it is used."""
    if config.prompts.file is not None:
        with contextlib.suppress(ConfigError):
            return any(prompt.people == "several" for prompt in load_prompts(config.prompts.file).prompts)
    return False


_RETIRED = {"statistics": frozenset({"bootstrap"})}
"""Keys that headers of earlier runs hold and no result depended on, by block. In a config they are unknown keys."""


def recorded_config(recorded: Any, *, where: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The config in a run's header, also where an earlier version wrote it, with `--set` applied.

    Raises
    ------
    ConfigError
        See `validate` and `apply_overrides`.
    """
    data = recorded
    if isinstance(recorded, dict):
        data = {
            name: {key: value for key, value in block.items() if key not in _RETIRED[name]}
            if name in _RETIRED and isinstance(block, dict)
            else block
            for name, block in recorded.items()
        }
    if not overrides:
        return validate(RunConfig, data, where=where)
    data = apply_overrides(data if isinstance(data, dict) else {}, list(overrides))
    typed = texts_in(apply_overrides({}, list(overrides)))
    return validate(RunConfig, data, where=where, context={BESIDE: None, WRITTEN: typed})


def load_prompts(path: str | Path) -> PromptSet:
    """Read a prompt set, its templates filled in.

    Raises
    ------
    ConfigError
        It is not a prompt set, or a list of words that it names is none.
    """
    resolved = resolve_path(path)
    data = read_yaml(
        resolved, mend="A prompt set is YAML: `name: NAME`, and under `prompts:` a line `- TEXT` for each prompt"
    )
    if not {"templates", "variables"} & set(data):  # most sets: every prompt is checked once
        return validate(PromptSet, data, where=str(resolved))
    written = validate(PromptFile, data, where=str(resolved), context=context_of(resolved))
    lists = {
        name: load_word_list(words.file).values if isinstance(words, WordFile) else words
        for name, words in written.variables.items()
    }
    try:
        filled = written.expanded(lists)
    except ValueError as error:
        raise ConfigError(f"{resolved}: {error}") from None
    return validate(PromptSet, filled, where=str(resolved))


def load_word_list(path: str | Path) -> WordList:
    """Read a list of words for a variable of templates. Raises ConfigError."""
    resolved = resolve_path(path)
    return validate(WordList, read_yaml(resolved), where=str(resolved))


def load_attributes(path: str | Path) -> AttributeSet:
    """Read the questions and their wording. Raises ConfigError."""
    resolved = resolve_path(path)
    found = validate(AttributeSet, read_yaml(resolved), where=str(resolved))
    for name, spec in found.attributes.items():
        if spec.max_error is not None and spec.margin:
            raise ConfigError(
                f"{resolved}: attributes.{name} has a margin and a max_error, which takes one from a calibration: give one"
            )
    return found


def load_word_lists(path: str | Path) -> WordLists:
    """Read lists of words. Raises ConfigError."""
    resolved = resolve_path(path)
    return validate(WordLists, read_yaml(resolved), where=str(resolved))


def load_reference(path: str | Path) -> Reference:
    """Read reference shares. Raises ConfigError.

    A planted-world file may hold more than shares; keys that this reader does not know are left to the renderer.
    """
    resolved = resolve_path(path)
    data = read_yaml(resolved)
    known = {key: value for key, value in data.items() if key in Reference.model_fields}
    return validate(Reference, known, where=str(resolved))
