"""What is deferred is not loaded by naming it, and whole as soon as it is used."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allfour.process import deferred, own_process
from tests.pinned import with_pinned

RAN = "deferred_fogs_ran"


@pytest.fixture
def fogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A package `fog` that is deferred but for `lift`; which of its modules ran, in order."""
    (tmp_path / "fog").mkdir()
    note = f"import sys; sys.{RAN}.append(__name__)\n"
    (tmp_path / "fog" / "__init__.py").write_text(
        note + "from fog.bank import depth\nDENSITY = 3\ndef lift(by, *, off=0): return by + DENSITY - off\n"
    )
    (tmp_path / "fog" / "bank.py").write_text(note + "depth = 7\n")
    (tmp_path / "fog" / "horn.py").write_text(note + "sound = 'low'\n")
    ran: list[str] = []
    monkeypatch.setattr(sys, RAN, ran, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(importlib.metadata, "packages_distributions", importlib.metadata.packages_distributions)
    monkeypatch.setattr(own_process, "_own_process", True)
    monkeypatch.setattr(deferred, "CALLED", {"fog": frozenset({"lift"}), "no_such_fog": frozenset()})
    deferred.defer()
    yield ran
    for name in [name for name in sys.modules if name.partition(".")[0] == "fog"]:
        del sys.modules[name]


def bound() -> Any:
    """What `from fog import lift` binds."""
    return importlib.import_module("fog").lift


def test_naming_it_and_binding_its_functions_loads_nothing(fogs: list[str]) -> None:
    lift = bound()
    assert importlib.util.find_spec("fog") is not None
    assert importlib.util.find_spec("no_such_fog") is None
    assert fogs == []
    assert lift(1, off=2) == 2
    assert lift(5) == 8
    assert fogs == ["fog", "fog.bank"]
    assert importlib.import_module("fog").lift is not lift  # the real one from now on


def test_anything_else_of_it_is_the_real_thing(fogs: list[str]) -> None:
    early = importlib.import_module("fog")
    assert early.DENSITY == 3
    assert early.bank.depth == 7
    assert early.lift is importlib.import_module("fog").lift
    with pytest.raises(AttributeError, match="'fog' has no attribute 'snow'"):
        _ = early.snow
    assert fogs == ["fog", "fog.bank"]


@pytest.mark.parametrize(("module", "name", "value"), [("fog.bank", "depth", 7), ("fog.horn", "sound", "low")])
def test_a_submodule_runs_once_and_after_its_package(fogs: list[str], module: str, name: str, value: Any) -> None:
    found = importlib.import_module(module)
    assert getattr(found, name) == value
    assert found is sys.modules[module]
    assert fogs == ["fog", *dict.fromkeys(["fog.bank", module])]
    assert importlib.reload(found) is found  # its spec is its own
    with pytest.raises(ModuleNotFoundError, match=r"fog\.rain"):
        importlib.import_module("fog.rain")


def test_a_submodule_that_is_not_there_is_said_to_be(fogs: list[str]) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"fog\.rain"):
        importlib.import_module("fog.rain")
    assert importlib.import_module("fog").DENSITY == 3


def test_a_part_of_a_package_is_its_attribute(fogs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fog = importlib.import_module("fog")
    assert fog.DENSITY == 3
    monkeypatch.setattr(deferred, "CALLED", {"fog.horn": frozenset()})
    deferred.defer()
    from fog import horn  # type: ignore[import-not-found,unused-ignore]

    assert horn is importlib.import_module("fog").horn is sys.modules["fog.horn"]
    assert "fog.horn" not in fogs
    assert horn.sound == "low"
    assert sys.modules["fog.horn"] is importlib.import_module("fog").horn is not horn
    assert fogs.count("fog.horn") == 1


BANK = """
class Layer:
    below = 4
class Thick(Layer): pass
class Lost(Exception): pass
def lose(): raise Lost
"""


@pytest.fixture
def bank(fogs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A module `fog.deep.bank` that is deferred, in a package that does not import it."""
    (tmp_path / "fog" / "deep").mkdir()
    (tmp_path / "fog" / "deep" / "__init__.py").write_text(f"import sys; sys.{RAN}.append(__name__)\n")
    (tmp_path / "fog" / "deep" / "bank.py").write_text(f"import sys; sys.{RAN}.append(__name__)\n" + BANK)
    monkeypatch.setattr(deferred, "CALLED", {"fog.deep.bank": frozenset({"Layer", "Lost"})})
    monkeypatch.setattr(deferred, "_RAISED", frozenset({"Lost"}))
    monkeypatch.setattr(deferred, "_bound", {})
    for name in ("fog", "fog.bank"):
        sys.modules.pop(name, None)
    deferred.defer()
    return fogs


def test_a_part_is_deferred_without_what_is_above_it(bank: list[str]) -> None:
    assert bank == []
    fog = importlib.import_module("fog")
    deep = importlib.import_module("fog.deep")
    assert bank == ["fog", "fog.bank", "fog.deep"]
    assert fog.deep.bank is sys.modules["fog.deep.bank"]
    assert type(deep.__spec__.loader) is type(deep.__loader__) is type(importlib.import_module("fog.bank").__loader__)
    assert fog.deep.bank.Thick.below == 4
    assert fog.deep.bank is sys.modules["fog.deep.bank"] and bank[-1] == "fog.deep.bank"


def test_a_class_that_is_bound_is_a_class(bank: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    layer = importlib.import_module("fog.deep.bank").Layer
    monkeypatch.setattr(sys.modules[__name__], "held", layer, raising=False)
    assert not isinstance(3, layer) and not issubclass(int, layer)
    assert bank == []  # no instance, before there is a class
    assert isinstance(layer(), layer) and issubclass(importlib.import_module("fog.deep.bank").Thick, layer)
    assert vars(sys.modules[__name__])["held"] is importlib.import_module("fog.deep.bank").Layer is not layer
    assert layer.below == 4 and not isinstance(3, layer)
    assert (layer | None) == (importlib.import_module("fog.deep.bank").Layer | None) == (None | layer)


def test_a_class_that_is_bound_can_be_inherited_from(bank: list[str]) -> None:
    class Own(importlib.import_module("fog.deep.bank").Layer):  # type: ignore[misc]
        pass

    assert Own.__mro__[1] is importlib.import_module("fog.deep.bank").Layer and Own.below == 4


def test_an_exception_that_is_bound_is_caught(bank: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "Lost", importlib.import_module("fog.deep.bank").Lost, raising=False)
    with pytest.raises(KeyError):
        caught({}.__getitem__)
    assert bank == []
    assert caught(lambda key: importlib.import_module("fog.deep.bank").lose()) == "lost"


def caught(ask: Any) -> Any:
    try:
        return ask("key")
    except Lost:  # type: ignore[name-defined]  # noqa: F821 (bound by the test)
        return "lost"


def test_the_packages_are_listed_when_somebody_looks(fogs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def listing() -> dict[str, list[str]]:
        looked.append(1)
        return {"PIL": ["pillow"]}

    monkeypatch.setattr(deferred._Distributions, "_list", staticmethod(listing))
    packages = importlib.metadata.packages_distributions()
    assert looked == []
    assert packages["PIL"] == ["pillow"] and "snow" not in packages and list(packages) == ["PIL"]
    assert packages.get("snow") is None and len(packages) == 1
    assert looked == [1]


def test_in_a_process_of_others_nothing_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "_own_process", False)
    before = list(sys.meta_path), dict(sys.modules), importlib.metadata.packages_distributions
    deferred.defer()
    assert (sys.meta_path, dict(sys.modules), importlib.metadata.packages_distributions) == before


def test_a_variable_of_the_environment_leaves_imports_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "_own_process", False)
    monkeypatch.setenv(own_process.PLAIN_IMPORTS, "1")
    own_process.begin_command()
    assert not own_process.own_process()
    monkeypatch.delenv(own_process.PLAIN_IMPORTS)
    own_process.begin_command()
    assert own_process.own_process()


STARTED = """
import gc, json, sys
gc.disable()  # all that is imported stays
from allfour.process import bare_packages, deferred, own_process
own_process.begin_command()
deferred.defer()
from allfour.pipeline.config import load_attributes
from allfour.models.generators.base import GenerationRequest
from allfour.models.generators.stable_diffusion import StableDiffusion
from allfour.models.classifiers.clip import ClipClassifier
model = StableDiffusion(model="models/sandbox/diffusion", device="cpu", steps=1, guidance_scale=1.0)
made, = model.generate([GenerationRequest("a", 0, "a photo of a nurse", 3)])
assert made.data
ClipClassifier(attributes=load_attributes("configs/attributes/sandbox.yaml"), model=None, pretrained="models/sandbox/clip", device="cpu")
real = [n for n in deferred.CALLED if not isinstance(sys.modules.get(n), deferred._Deferred)]
bare = [n for n in bare_packages.BARE if type(sys.modules[n]).__name__ != "_Bare"]
from scipy import stats
listed = "_found" in vars(sys.modules["diffusers.utils.import_utils"]._package_map)

import torch
from diffusers.models.attention import BasicTransformerBlock
early, apart = torch._dynamo, torch.compiler.disable(lambda x: x + 1)
assert apart(1) == 2 and not isinstance(torch.nn.Linear(1, 1), early.eval_frame.OptimizedModule)
import torch._dynamo.eval_frame as eval_frame
allowed = torch._dynamo.trace_rules.lookup_callable(BasicTransformerBlock).__name__
assert torch._dynamo is not early and early.eval_frame is eval_frame and apart(1) == 2
assert isinstance(torch.compile(torch.nn.Linear(1, 1), backend="eager"), eval_frame.OptimizedModule)
import peft, torchvision, transformers
assert issubclass(transformers.T5EncoderModel, transformers.PreTrainedModel) and isinstance(model._pipe.text_encoder, transformers.CLIPTextModel)
assert type(sys.modules["transformers"]).__name__ == "_LazyModule"
import torch.distributed.tensor._collective_utils as collective  # which binds it in newer versions
found = torch.fx.experimental.symbolic_shapes.guard_or_false
assert getattr(collective, "guard_or_false", found) is found
assert sys.modules["diffusers.loaders.lora_base"].BaseTunerLayer.__name__ and peft.LoraConfig and torchvision.models.resnet18
assert issubclass(peft.tuners.lora.LoraLayer, sys.modules["diffusers.loaders.lora_base"].BaseTunerLayer)
print(json.dumps([real, bare, stats.norm.cdf(0.0), listed, allowed]))
"""


@with_pinned("scipy", "torch", "transformers")
@pytest.mark.slow
def test_drawing_and_reading_wait_for_none_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [], 0.5, False, "TorchInGraphFunctionVariable"]
