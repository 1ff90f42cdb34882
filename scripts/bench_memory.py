"""Peak memory of scoring against the number of images. Imported by `bench_scoring.py`, whose option --memory it is."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.bench_archives import make_tiny_weights


def peak_mb() -> float:
    """Peak memory of this program so far, MiB. Linux's ru_maxrss would count what the process was before it became this program."""
    status = Path("/proc/self/status")
    if status.exists():
        return (
            float(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(counts: Sequence[int], shard_size: int, *, program: str) -> dict[str, float]:
    """Peak memory, MiB, of the whole command in a process of its own, over archives of so many small images.

    Parameters
    ----------
    program
        A script that prints `memory_of` where it is given --memory-of, --weights and --shard-size.
    """
    found = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        weights = root / "tiny"
        for count in counts:
            archive = root / f"archive-{count}"
            for number in range(count):
                path = archive / f"prompt_{number % 250}" / f"{number // 250}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
                    (64, 64)
                ).save(path, quality=85)
            done = subprocess.run(
                [sys.executable, program, "--memory-of", str(archive), "--weights", str(weights), "--shard-size", str(shard_size)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            found[str(count)] = float(done.stdout.split()[-1])
            print(f"{count} images: peak {found[str(count)]:.0f} MiB", file=sys.stderr, flush=True)
            shutil.rmtree(archive)
    return found


def memory_of(archive: Path, weights: Path, shard_size: int) -> float:
    """Rescore an archive with a tiny CLIP, tables, metrics and report included."""
    from allfour.pipeline.commands import rescore as rescore_module
    from allfour.pipeline.commands.progress import Reporter
    from allfour.pipeline.config import RunConfig
    from allfour.pipeline.run.folder import RunFolder

    if not weights.exists():
        make_tiny_weights(weights)
    config = RunConfig.model_validate(
        {"classifier": {"backend": "clip", "pretrained": str(weights)}, "archive": {"shard_size": shard_size}}
    )
    with tempfile.TemporaryDirectory() as run:
        rescore_module.rescore(config, str(archive), RunFolder(Path(run)), Reporter(quiet=True))
    return peak_mb()
