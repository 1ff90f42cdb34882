"""Whether all who score one run read with one classifier: under `classifier.dtype: auto`, and with files of each machine's own, they may not.

A part of another classifier is not one of the run's, so ranks of two would each wait for the other's shards for ever.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allfour.border import read_json
from allfour.errors import ClassifierError
from allfour.files import read_regular
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import Classifier
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.identities import differing
from allfour.pipeline.run.seal import sealed, unsealed
from allfour.pipeline.run.writing import write_first


def why_not_same(of_run: Mapping[str, Any], own: Mapping[str, Any], *, whose: str) -> str | None:
    """What to do where a worker's classifier is not the run's; None where it is.

    Parameters
    ----------
    whose
        Who has the classifier of the run, such as `the rank that came first`.
    """
    leaves = differing(of_run, own)
    if not leaves:
        return None
    name, there, here = next((leaf for leaf in leaves if leaf[0].endswith("dtype")), leaves[0])
    what = f"{name} is {there!r} for {whose} and {here!r} for another"
    if not name.endswith("dtype"):
        return f"one run cannot be read with two classifiers: {what}. Give all machines the same files and packages"
    return (
        f"one run cannot be read in two precisions, and `classifier.dtype: auto` takes what suits each machine: {what}. Write the one that all "
        f"are to take: --set classifier.dtype={there}, or {here}"
    )


def agree_with_ranks(run: RunFolder, config: RunConfig, attributes: AttributeSet, classifier: Classifier) -> None:
    """Hold a rank's classifier beside that of the rank which came first under the same config.

    Raises
    ------
    ClassifierError
        It is another, which is told before anything is read.
    """
    asked = [config.classifier.model_dump(mode="json"), attributes.model_dump(mode="json")]
    path = run.ranks_folder / f"classifier-{fingerprint(asked)[:16]}.json"
    own = {"classifier": dict(classifier.identity())}
    write_first(path, json.dumps(sealed(own), indent=1).encode(), whole=lambda: _read(path) is not None)
    why = why_not_same(_read(path) or own["classifier"], own["classifier"], whose="the rank that came first")
    if why is not None:
        anew = "" if "--set classifier.dtype=" in why else f". Where all ranks begin anew, remove {path}"
        raise ClassifierError(f"--rank: {why}{anew}")


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found: Any = unsealed(read_json(read_regular(path)))
        if isinstance(found, dict) and isinstance(found.get("classifier"), dict):
            return dict(found["classifier"])
    return None
