"""Does the wheel hold all of allfour, and nothing else? Built from a clean copy, installed alone, and run in an empty folder.

The wheel goes into a fresh environment that sees the dependencies of this one, so nothing is downloaded. There `allfour audit` must
make the sandbox's report and `allfour doctor` must find all well, in a folder that holds nothing but another project's models/.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("allfour", "configs", "models", "pipeline", "pyproject.toml", "README.md", "LICENSE")
INSIDE = (
    "allfour/configs/sandbox.yaml",
    "allfour/configs/prompts/bolukbasi-extremes.yaml",
    "allfour/configs/references/us-labour.yaml",
    "allfour/configs/calibrations/clip-vit-b-16-openai-fairface.json",
    "allfour/models/sandbox/clip/open_clip_model.safetensors",
    "allfour/models/sandbox/diffusion/unet/diffusion_pytorch_model.safetensors",
    "allfour/pipeline/report/templates/report.html.j2",
    "allfour/pipeline/run/metrics.schema.json",
    "allfour/py.typed",
)
"""One of each kind of file that is no code."""


def build(out: Path) -> Path:
    """The wheel, made of a copy: a build folder that was left behind may hold modules that are gone."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in SOURCES:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, copy / name)
        pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(copy))
    return next(out.glob("allfour-*.whl"))


def pip(*arguments: str, python: Path | None = None) -> None:
    where = ["--python", str(python)] if python is not None else []
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", *where, arguments[0], *quiet, *arguments[1:]], check=True)


def check_contents(wheel: Path) -> None:
    """One top-level name, and every kind of file that a run needs."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    installed = {top for top in tops if not top.endswith(".dist-info")}
    assert installed == {"allfour"}, f"the wheel installs {sorted(installed)}"
    missing = sorted(set(INSIDE) - set(names))
    assert not missing, f"the wheel lacks {missing}"
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 2**20:.1f} MiB")


def install(wheel: Path, folder: Path) -> Path:
    """The command `allfour` of a fresh environment with the wheel and, behind it, the packages of this one."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    pip("install", "--no-deps", "--no-index", str(wheel), python=scripts / "python")
    own = next(folder.rglob("site-packages"))
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (own / "dependencies.pth").write_text("\n".join(shared))  # a path alone: the editable allfour in there is not found
    return scripts / "allfour"


def run(command: Path, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [str(command), *arguments],
        cwd=folder, capture_output=True, text=True, check=False, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, f"allfour {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_runs(command: Path, folder: Path) -> None:
    """The sandbox from an empty folder, where a project's own models/ is in nobody's way."""
    for name in ("models", "pipeline", "configs"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('not allfour')")
    place = run(command.with_name("python"), "-c", "import allfour; print(allfour.__file__)", folder=folder).strip()
    assert str(command.parent.parent) in place, f"allfour was imported from {place}"
    run(command, "audit", folder=folder)
    report = folder / "runs" / "sandbox" / "report.html"
    summary = json.loads((report.parent / "metrics.json").read_text(encoding="utf-8"))["summary"]
    assert report.stat().st_size > 10_000
    print(f"allfour audit: {summary['unanimous']} of {summary['prompts']} prompts, {report.name} written")
    run(command, "doctor", "--config", "sandbox", folder=folder)
    print("allfour doctor: all well")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the wheel")
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("allfour-*.whl"):
        old.unlink()
    wheel = build(out)
    check_contents(wheel)
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty")
        empty.mkdir()
        check_runs(install(wheel, Path(folder, "environment")), empty)


if __name__ == "__main__":
    main()
