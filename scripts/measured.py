"""What scripts that measure say of the machine, and where they leave what they found."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def put_out(found: Mapping[str, Any], out: Path | None) -> None:
    """Print it as JSON, and write it to `out` too where one is given."""
    text = json.dumps(found, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
