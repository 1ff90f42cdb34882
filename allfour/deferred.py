"""Parts of large packages that are loaded when something of theirs is used, in place of when somebody names them.

Importing diffusers, transformers or open_clip imports SciPy's distributions and optimisers, the client of a cloud and the width of
characters, and lists every file of every installed package; importing SciPy's functions imports NumPy's compiler of Fortran and its
tests. That is a quarter of a start, for what no command calls. After `defer()` a module of `CALLED` is a stand-in, which the real
module takes the place of as soon as it is asked for anything but those functions, or one of them is called. So nothing is missing,
whatever the versions: it only comes later.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from allfour import frames

CALLED: Mapping[str, frozenset[str]] = {
    "boto3": frozenset(),  # accelerate's dialogue of settings
    "numpy.f2py": frozenset(),  # these three: scipy.special binds every name of numpy
    "numpy.ma": frozenset(),
    "numpy.testing": frozenset(),
    "scipy.integrate": frozenset(),  # diffusers' linear multistep scheduler
    "scipy.optimize": frozenset({"linear_sum_assignment"}),  # transformers' losses for training
    "scipy.stats": frozenset(),  # diffusers' schedulers with a beta distribution
    "wcwidth": frozenset({"wcswidth", "wcwidth"}),  # ftfy's justified lines, by open_clip's tokenizer
}
"""Module -> functions of it that others bind when they are imported, and only call later."""


def defer() -> None:
    """Defer what is installed and not loaded yet, in a command's own process. Called before packages are imported that would load it."""
    if not frames.own_process():
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        importlib.metadata.packages_distributions = _Distributions
    for name in CALLED:
        if name not in sys.modules and (spec := _spec(name)) is not None:
            sys.modules[name] = module = _Deferred(name, spec)
            parent, _, own = name.rpartition(".")
            if parent:
                vars(sys.modules[parent]).setdefault(
                    own, module
                )  # as the import system does; the real one takes its place there too


def _spec(name: str) -> ModuleSpec | None:
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
        if name in CALLED[self.__name__] and sys.modules.get(self.__name__) is self:
            return partial(_call, self.__name__, name)
        return getattr(_loaded(self.__name__), name)


def _call(module: str, name: str, *arguments: Any, **options: Any) -> Any:
    function: Callable[..., Any] = getattr(_loaded(module), name)
    return function(*arguments, **options)


def _loaded(name: str) -> ModuleType:
    """The real module, in place of its stand-in."""
    if isinstance(sys.modules.get(name), _Deferred):
        del sys.modules[name]
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
