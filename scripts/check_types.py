"""mypy over the package and the scripts.

The package's folders stand beside each other in the repository and inside one another where they are installed. mypy follows no
import hook of an editable install, so it is shown the installed shape: a tree of links under build/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def show_installed_shape(target: Path) -> None:
    """Links under `target` so that allfour lies there as it is installed."""
    shutil.rmtree(target, ignore_errors=True)
    package = target / "allfour"
    package.mkdir(parents=True)
    for path in sorted((ROOT / "allfour").iterdir()):
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    for name in ("configs", "models", "pipeline"):
        (package / name).symlink_to(ROOT / name, target_is_directory=True)
    (target / "scripts").symlink_to(ROOT / "scripts", target_is_directory=True)


def main() -> int:
    target = ROOT / "build" / "installed"
    show_installed_shape(target)
    # The cache lies beside the tree of links, which is made anew each time.
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"), *sys.argv[1:]]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, "-p", "allfour", "-p", "scripts"],
        cwd=target, env=os.environ | {"MYPYPATH": str(target)}, check=False,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
