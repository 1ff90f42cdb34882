"""Parts of large packages that are loaded when something of theirs is used, in place of when somebody names them.

Importing diffusers, transformers or open_clip imports PyTorch's compiler, its tensors of many machines, a system of computer algebra,
two more packages of models, SciPy's distributions and optimisers, the client of a cloud and the width of characters, and lists every
file of every installed package; importing SciPy's functions imports NumPy's compiler of Fortran and its tests. That is half of a start,
for what few commands call. After `defer()` a module of `CALLED` is a stand-in, which the real module takes the place of as soon as it is
asked for anything but those names, or one of them is used. So nothing is missing, whatever the versions: it only comes later.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any

from allfour.process.own_process import own_process

COMPILER = "torch._dynamo"
SIZES = "torch.fx.experimental.symbolic_shapes"
"""Sizes that are not known yet, by computer algebra: the compiler's, and those of tensors on many machines, which transformers imports."""
_OF_A_BOOLEAN = frozenset({"expect_true", "guard_or_false", "guard_or_true", "statically_known_true"})
"""Functions of it that give a plain boolean back, as every check of torch's operations in Python asks them to."""
CALLED: Mapping[str, frozenset[str]] = {
    "boto3": frozenset(),  # accelerate's dialogue of settings
    "cuda.bindings.driver": frozenset(),  # these two: torch's words for errors of a GPU
    "cuda.bindings.runtime": frozenset(),
    "numpy.f2py": frozenset(),  # these three: scipy.special binds every name of numpy
    "numpy.ma": frozenset(),
    "numpy.testing": frozenset(),
    "onnxruntime": frozenset(),  # diffusers' pipelines in another format
    "peft": frozenset({"PeftModel"}),  # these three: diffusers' adapters
    "peft.helpers": frozenset({"disable_input_dtype_casting"}),
    "peft.tuners.tuners_utils": frozenset({"BaseTunerLayer"}),
    "requests": frozenset(),  # diffusers' pictures by address
    "scipy.integrate": frozenset(),  # diffusers' linear multistep scheduler
    "scipy.optimize": frozenset({"linear_sum_assignment"}),  # transformers' losses for training
    "scipy.stats": frozenset(),  # diffusers' schedulers with a beta distribution
    "timm": frozenset(),  # these two: open_clip's image towers of other families
    "timm.layers": frozenset({"AttentionPool2d", "Mlp", "RotAttentionPool2d", "to_2tuple"}),
    COMPILER: frozenset(),  # diffusers, transformers and torchvision: `_COMPILERS` is what they ask of it
    f"{COMPILER}._trace_wrapped_higher_order_op": frozenset({"TransformGetItemToIndex"}),  # transformers' masks
    f"{COMPILER}.utils": frozenset({"is_compile_supported"}),  # torchvision's operations
    "torch.distributed._composable.fsdp": frozenset({"fully_shard"}),  # these three: transformers on many machines
    "torch.distributed.checkpoint.hf_storage": frozenset({"HuggingFaceStorageReader", "HuggingFaceStorageWriter"}),
    "torch.distributed.fsdp": frozenset({"CPUOffloadPolicy", "MixedPrecisionPolicy"}),
    SIZES: frozenset({"GuardOnDataDependentSymNode", "has_free_unbacked_symbols", *_OF_A_BOOLEAN}),
    "torchvision.models": frozenset(),
    "wcwidth": frozenset({"wcswidth", "wcwidth"}),  # ftfy's justified lines, by open_clip's tokenizer
}
"""Module -> functions and classes of it that others bind when they are imported, and only call or compare with later.

A class must be one of the module or of its parts, so that nothing is an instance of it before the module is loaded.
"""
_RAISED = frozenset({"GuardOnDataDependentSymNode"})
"""Those of them that are exceptions."""


_allowed: list[Any] = []
"""What is to be allowed in graphs, once there is a compiler that makes any."""


def _compiler() -> Any:
    """The compiler, where it is loaded; else None."""
    module = sys.modules.get(COMPILER)
    return None if isinstance(module, _Deferred) else importlib.import_module(COMPILER)


def _allow_in_graph(what: Any) -> Any:
    if (compiler := _compiler()) is not None:
        return compiler.allow_in_graph(what)
    _allowed.append(what)
    return what


def _assume_constant_result(what: Any) -> Any:
    what._dynamo_marked_constant = True  # all that the compiler's own does
    return what


def _disable(what: Any = None, *arguments: Any, **options: Any) -> Any:
    """A function that is never compiled, which is for a compiler to know."""
    if (compiler := _compiler()) is not None:
        return compiler.disable(what, *arguments, **options)
    if what is None:
        return lambda function: _disable(function, *arguments, **options)

    @functools.wraps(what)
    def plain(*given: Any, **named: Any) -> Any:
        compiler = _compiler()
        call = what if compiler is None else compiler.disable(what, *arguments, **options)
        return call(*given, **named)

    return plain


class _Compiled:
    """In place of the class of compiled modules: there are none before the compiler is loaded."""


_COMPILERS: Mapping[str, Any] = {
    "allow_in_graph": _allow_in_graph,
    "assume_constant_result": _assume_constant_result,
    "disable": _disable,
    "eval_frame": SimpleNamespace(OptimizedModule=_Compiled),
}


def defer() -> None:
    """Defer what is installed and not loaded yet, in a command's own process. Called before packages are imported that would load it."""
    if not own_process():
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        importlib.metadata.packages_distributions = _Distributions
    for name in CALLED:
        if name.startswith("torch.") and "torch" not in sys.modules:
            continue  # torch itself asks for some of it
        if name not in sys.modules and (spec := spec_of(name)) is not None:
            sys.modules[name] = _Deferred(name, spec)
            _bind_to_parent(name)


def spec_of(name: str) -> ModuleSpec | None:
    """Where a module lies, found without loading what is above it; None where it is not installed."""
    parent = name.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(name)
    found = spec_of(parent)
    places = found.submodule_search_locations if found is not None else None
    return PathFinder.find_spec(name, places) if places is not None else None


def _bind_to_parent(name: str) -> None:
    """As the import system does; the real one takes its place there too."""
    parent, _, own = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).setdefault(own, sys.modules[name])


class _Deferred(ModuleType):
    """Stands in `sys.modules` for a module that is not loaded."""

    def __init__(self, name: str, spec: ModuleSpec) -> None:
        super().__init__(name)
        self.__spec__ = spec
        self.__file__ = spec.origin  # asked of every module by whoever looks for the source of something
        self.__path__: list[str] = []  # so that the import system asks `_Finder` for submodules

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            if name in CALLED[self.__name__]:
                return late(self.__name__, name)
            if self.__name__ == COMPILER and name in _COMPILERS:
                return _COMPILERS[name]
        return getattr(_loaded(self.__name__), name)


class _Late:
    """A function or a class of a deferred module, to whoever only binds it. Once the module is loaded, the real one is bound in its place."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        return getattr(_loaded(self._module), self._name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        plain = not options and [type(argument) for argument in arguments] == [bool]
        if plain and self._module == SIZES and self._name in _OF_A_BOOLEAN:
            return arguments[0]
        return self._real()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        return self._is_loaded() and isinstance(instance, self._real())

    def __subclasscheck__(self, subclass: type) -> bool:
        return self._is_loaded() and issubclass(subclass, self._real())

    def _is_loaded(self) -> bool:
        """Without it there is neither an instance nor a subclass of its class."""
        return self._module in sys.modules and not isinstance(sys.modules[self._module], _Deferred)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        """It is inherited from."""
        return (self._real(),)

    def __or__(self, other: Any) -> Any:
        """In an annotation."""
        return self._real() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._real()

    def __getitem__(self, of: Any) -> Any:
        return self._real()[of]


_bound: dict[tuple[str, str], Any] = {}
"""Module and name -> what stands for it."""


def late(module: str, name: str) -> Any:
    """A function or a class of a module that is not loaded for it."""
    if (module, name) not in _bound:
        _bound[module, name] = type(name, (Exception,), {}) if name in _RAISED else _Late(module, name)
    return _bound[module, name]


def _bind(loaded: Sequence[str]) -> None:
    """Bind the functions and classes of loaded modules where something stands for them."""
    real = {
        id(standing): getattr(sys.modules[module], name)
        for (module, name), standing in _bound.items()
        if module in loaded and hasattr(sys.modules.get(module), name)
    }
    for module in list(sys.modules.values()) if real else ():
        names = getattr(module, "__dict__", {})
        for name, value in list(names.items()):
            if id(value) in real:
                names[name] = real[id(value)]


def _loaded(name: str) -> ModuleType:
    """The real module, in place of its stand-in, and with it those of its parts."""
    parent = min((other for other in CALLED if f"{name}.".startswith(f"{other}.")), key=len, default=name)
    parts = [
        other
        for other in CALLED
        if f"{other}.".startswith(f"{parent}.") and isinstance(sys.modules.get(other), _Deferred)
    ]
    for other in parts:
        del sys.modules[other]
    module = importlib.import_module(parent)
    while parent == COMPILER and _allowed and hasattr(module, "allow_in_graph"):  # not within its own import
        module.allow_in_graph(_allowed.pop())
    loaded = importlib.import_module(name)
    if parts:
        _bind(parts)
    return loaded


class _Finder(MetaPathFinder):
    """Loads a deferred module when a submodule of it is imported, which may load that too."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent = fullname.rpartition(".")[0]
        if parent and isinstance(sys.modules.get(parent), _Deferred):
            package = _loaded(parent)
            if (module := sys.modules.get(fullname)) is not None:
                spec = ModuleSpec(fullname, _Loaded(module), is_package=hasattr(module, "__path__"))
                module.__spec__ = spec  # the import system takes the module's own before ours, and would run it again
                return spec
            path = package.__path__
        elif not any(name.rpartition(".")[0] == fullname for name in CALLED):
            return None
        found = PathFinder.find_spec(fullname, path)
        if found is not None and found.loader is not None:
            found.loader = _Above(found.loader)
        return found


class _Above(Loader):
    """Loads a package, some parts of which are deferred, and makes them its attributes."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for name in CALLED:
            if name.rpartition(".")[0] == module.__name__ and name in sys.modules:
                _bind_to_parent(name)


class _Loaded(Loader):
    """Loads what is loaded already: nothing is run twice."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _Distributions(Mapping[str, list[str]]):
    """`importlib.metadata.packages_distributions`, listed when it is first looked into."""

    _list = staticmethod(importlib.metadata.packages_distributions)

    @cached_property
    def _found(self) -> Mapping[str, list[str]]:
        return self._list()

    def __getitem__(self, name: str) -> list[str]:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
