"""Python's garbage collector while large packages are imported: it goes over a million objects again and again, all of which stay.

Importing torch, diffusers and open_clip takes a fifth longer with it than without.
"""

from __future__ import annotations

import atexit
import gc

_SELDOM = 200_000
"""New objects between two collections; Python's own number is some hundred."""
_usual: tuple[int, int, int] | None = None


def collect_seldom() -> None:
    """Collect seldom from now on, in a command's own process: what it does first is importing."""
    global _usual  # noqa: PLW0603
    if _usual is None and gc.isenabled():
        _usual = gc.get_threshold()
        gc.set_threshold(_SELDOM, *_usual[1:])


def collect_as_usual() -> None:
    """Leave what is there by now, packages most of all, out of every collection to come, and collect as often as Python does.

    Nothing is done where `collect_seldom` was not called, as in a notebook.
    """
    global _usual  # noqa: PLW0603
    if _usual is not None:
        gc.freeze()
        atexit.register(gc.unfreeze)  # what extensions hold is given back at the end, which some of them watch for
        gc.set_threshold(*_usual)
        _usual = None
