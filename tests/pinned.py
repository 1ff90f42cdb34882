"""Tests of what an import brings along hold for the versions that are pinned: older packages import more, and work all the same."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"


def with_pinned(*packages: str) -> pytest.MarkDecorator:
    """Skips a test where one of these packages is older than the pinned one."""
    pins = dict(line.split("==") for line in CONSTRAINTS.read_text().split() if "==" in line)
    older = [
        f"{name} {found}"
        for name in packages
        if _numbers(found := importlib.metadata.version(name)) < _numbers(pins[name])
    ]
    return pytest.mark.skipif(bool(older), reason=f"imports more than the pinned version: {', '.join(older)}")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
