"""Parts of large packages that are loaded when something of theirs is used, in place of when somebody names them.

Importing diffusers, transformers or open_clip imports PyTorch's compiler, SciPy's distributions and optimisers, the client of a cloud
and the width of characters, and lists every file of every installed package; importing SciPy's functions imports NumPy's compiler of
Fortran and its tests. That is a third of a start, for what no command calls but one that compiles. After `defer()` a module of `CALLED`
is a stand-in, which the real module takes the place of as soon as it is asked for anything but those functions, or one of them is
called. So nothing is missing, whatever the versions: it only comes later.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any

from allfour import frames

COMPILER = "torch._dynamo"
CALLED: Mapping[str, frozenset[str]] = {
    "boto3": frozenset(),  # accelerate's dialogue of settings
    "numpy.f2py": frozenset(),  # these three: scipy.special binds every name of numpy
    "numpy.ma": frozenset(),
    "numpy.testing": frozenset(),
    COMPILER: frozenset(),  # diffusers, transformers and torchvision: `_COMPILERS` is what they ask of it
    f"{COMPILER}._trace_wrapped_higher_order_op": frozenset({"TransformGetItemToIndex"}),  # transformers' masks
    f"{COMPILER}.utils": frozenset({"is_compile_supported"}),  # torchvision's operations
    "scipy.integrate": frozenset(),  # diffusers' linear multistep scheduler
    "scipy.optimize": frozenset({"linear_sum_assignment"}),  # transformers' losses for training
    "scipy.stats": frozenset(),  # diffusers' schedulers with a beta distribution
    "wcwidth": frozenset({"wcswidth", "wcwidth"}),  # ftfy's justified lines, by open_clip's tokenizer
}
"""Module -> functions of it that others bind when they are imported, and only call later."""


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
    if not frames.own_process():
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        importlib.metadata.packages_distributions = _Distributions
    for name in CALLED:
        if name.startswith("torch.") and "torch" not in sys.modules:
            continue  # not for its sake
        if name not in sys.modules and (spec := _spec(name)) is not None:
            sys.modules[name] = module = _Deferred(name, spec)
            parent, _, own = name.rpartition(".")
            if parent:
                vars(sys.modules[parent]).setdefault(
                    own, module
                )  # as the import system does; the real one takes its place there too


def _spec(name: str) -> ModuleSpec | None:
    above = sys.modules.get(name.rpartition(".")[0])
    if isinstance(above, _Deferred) and above.__spec__ is not None:  # found without being loaded
        return PathFinder.find_spec(name, above.__spec__.submodule_search_locations)
    try:
        return importlib.util.find_spec(name)
    except ImportError:  # not even its parent is there
        return None


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
                return partial(_call, self.__name__, name)
            if self.__name__ == COMPILER and name in _COMPILERS:
                return _COMPILERS[name]
        return getattr(_loaded(self.__name__), name)


def _call(module: str, name: str, *arguments: Any, **options: Any) -> Any:
    function: Callable[..., Any] = getattr(_loaded(module), name)
    return function(*arguments, **options)


def _loaded(name: str) -> ModuleType:
    """The real module, in place of its stand-in, and with it those of its parts."""
    parent = COMPILER if name.startswith(f"{COMPILER}.") else name
    for other in CALLED:
        if (other == parent or other.startswith(f"{parent}.")) and isinstance(sys.modules.get(other), _Deferred):
            del sys.modules[other]
    module = importlib.import_module(parent)
    while parent == COMPILER and _allowed and hasattr(module, "allow_in_graph"):  # not within its own import
        module.allow_in_graph(_allowed.pop())
    return importlib.import_module(name)


class _Finder(MetaPathFinder):
    """Loads a deferred module when a submodule of it is imported, which may load that too."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent = fullname.rpartition(".")[0]
        if not parent or not isinstance(sys.modules.get(parent), _Deferred):
            return None
        package = _loaded(parent)
        if (module := sys.modules.get(fullname)) is not None:
            spec = ModuleSpec(fullname, _Loaded(module), is_package=hasattr(module, "__path__"))
            module.__spec__ = spec  # the import system takes the module's own before ours, and would run it again
            return spec
        return PathFinder.find_spec(fullname, package.__path__)


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
