"""Of a bare package single parts are loaded, and the whole as soon as anything else of it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from allfour.process import bare_packages, deferred, own_process

RAN = "bare_moor_ran"
NOTE = f"import sys; sys.{RAN}.append(__name__)\n"


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A package `moor` that is bare; which of its modules ran, in order."""
    (tmp_path / "moor").mkdir()
    (tmp_path / "moor" / "__init__.py").write_text(
        NOTE + "from moor.peat import Peat\nfrom moor.heath import Heath\nWIDE = 3\n"
    )
    (tmp_path / "moor" / "peat.py").write_text(NOTE + "class Peat: depth = 7\n")
    (tmp_path / "moor" / "heath.py").write_text(NOTE + "class Heath: pass\n")
    ran: list[str] = []
    monkeypatch.setattr(sys, RAN, ran, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(own_process, "_own_process", True)
    monkeypatch.setattr(deferred, "_bound", {})
    homes = {"Peat": "moor.peat", "Heath": "moor.heath", "Bog": "moor.bog", "Turf": "moor.peat"}
    monkeypatch.setattr(bare_packages, "BARE", {"moor": homes, "no_such_moor": {}})
    monkeypatch.setattr(bare_packages, "_BOUND", frozenset({"Heath"}))
    bare_packages.lay_bare()
    yield ran
    for name in [name for name in sys.modules if name.partition(".")[0] == "moor"]:
        del sys.modules[name]


def test_a_part_is_loaded_by_itself(ran: list[str]) -> None:
    assert "no_such_moor" not in sys.modules
    peat = importlib.import_module("moor.peat")
    assert importlib.import_module("moor").peat is peat
    assert ran == ["moor.peat"]


def test_a_name_is_taken_from_its_home(ran: list[str]) -> None:
    from moor import Peat  # type: ignore[import-not-found,unused-ignore]

    assert Peat.depth == 7 and Peat is importlib.import_module("moor.peat").Peat
    assert ran == ["moor.peat"]


def test_a_name_that_is_only_bound_loads_nothing(ran: list[str]) -> None:
    from moor import Heath

    assert not isinstance(3, Heath) and ran == []
    assert type(Heath()) is importlib.import_module("moor.heath").Heath and isinstance(Heath(), Heath)
    assert ran == ["moor.heath"]


def test_the_whole_keeps_what_is_loaded(ran: list[str]) -> None:
    bare = importlib.import_module("moor")
    peat = bare.peat
    assert bare.WIDE == 3
    whole = importlib.import_module("moor")
    assert whole is not bare and whole.peat is bare.peat is peat is sys.modules["moor.peat"]
    assert bare.Heath is whole.Heath
    assert ran == ["moor.peat", "moor", "moor.heath"]


@pytest.mark.parametrize("name", ["Bog", "Turf"])
def test_a_name_that_is_not_at_home_is_asked_of_the_whole(ran: list[str], name: str) -> None:
    with pytest.raises(AttributeError, match=f"'moor' has no attribute '{name}'"):
        getattr(importlib.import_module("moor"), name)
    assert "moor" in ran


@pytest.mark.parametrize("name", ["__wrapped__", "ModelMixin"])
def test_what_is_asked_of_every_package_is_not_looked_for(ran: list[str], name: str) -> None:
    assert not hasattr(importlib.import_module("moor"), name)
    assert ran == []


def test_in_a_process_of_others_nothing_is_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "_own_process", False)
    monkeypatch.setattr(bare_packages, "BARE", {"this": {}})
    bare_packages.lay_bare()
    assert "this" not in sys.modules
