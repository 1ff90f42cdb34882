"""What travels with allfour is read by a faster loader, which says the same as the one that reads all else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from allfour import checked_yaml
from allfour.checked_yaml import _DEEP, _FastLoader, _may_be_nested, _UniqueKeyLoader, read_yaml
from allfour.errors import ConfigError
from tests.places import REPOSITORY

OURS = sorted(path for folder in ("configs", "models") for path in (REPOSITORY / folder).rglob("*.yaml"))


def test_both_loaders_read_all_that_travels_alike() -> None:
    assert len(OURS) > 50
    for path in OURS:
        text = path.read_text(encoding="utf-8")
        assert _may_be_nested(text) <= _DEEP, path
        assert yaml.load(text, Loader=_FastLoader) == yaml.load(text, Loader=_UniqueKeyLoader), path


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1, b: 2}\n",
        "a: [\n",
        "a: 1\n b: 2\n",
        "a: !!python/object/apply:os.system ['true']\n",
        "a: 2026-13-45\n",
        "a: &b [*b]\n",
        "- 1\n",
        "a: \x01\n",
        "a: " + "[\n " * 30_000 + "]" * 30_000,  # in one line each might be a key, which takes a second to find out
        "{a: " * 100_000,
        "- " * 100_000,
        "\n".join(" " * depth + "a:" for depth in range(1500)),
    ],
)
def test_a_mistake_in_it_is_said_as_anywhere(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    for name in ("configs/c.yaml", None):
        monkeypatch.setattr(checked_yaml, "packaged_name", lambda path, name=name: name)
        with pytest.raises(ConfigError) as caught:
            read_yaml(tmp_path / "c.yaml")
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("text", ["a:\n- - - b\n", "a: [{b: [c]}]\n", "a:\n  b:\n  - c:\n    - d\n", "? a\n: - b\n"])
def test_nothing_is_nested_deeper_than_is_said(text: str) -> None:
    def depth(value: object) -> int:
        parts = (
            [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
        )
        return 0 if parts is None else 1 + max(map(depth, parts), default=0)

    assert depth(yaml.load(text, Loader=yaml.BaseLoader)) <= _may_be_nested(text)
