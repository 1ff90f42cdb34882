"""Another run's shares, to be marked beside every prompt of this one. Whether the two differ, `allfour compare` tests.

RUN/against.json keeps the marks, so that the other run is not needed again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from allfour.errors import ConfigError
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import LoadedRun, check_comparable, load_runs
from allfour.pipeline.analyses.sensitivity import basis
from allfour.pipeline.run.documents import Prompt
from allfour.pipeline.run.folder import RunFolder, write_json

FORMAT = 1
OUTDATED = "against.json is of earlier scores and is left out: repeat `allfour report RUN --against OTHER`."


def write_against(run: RunFolder, other: RunFolder) -> None:
    """Keep what another run found for the same prompts in RUN/against.json. Both runs must be measured.

    Raises
    ------
    ConfigError
        The runs are not comparable, for every reason that `allfour compare` would give save that the other may lack
        prompts or hold more.
    """
    own, others = load_runs([run.path, other.path])
    check_comparable(own, others, shared_only=True)
    write_json(run.path / "against.json", {"format": FORMAT, "basis": basis(run), **_marks(own, others)})


def _marks(own: LoadedRun, others: LoadedRun) -> dict[str, Any]:
    """Shares and unanimity over the prompts that both runs have, all intervals at the confidence of the own run."""
    labels, confidence = own.metrics.headline_labels, own.metrics.summary.confidence
    theirs = others.prompts
    shared = {prompt.id: theirs[prompt.id] for prompt in own.metrics.prompts if prompt.id in theirs}
    whole = [prompt for prompt in shared.values() if prompt.evaluated]
    unanimous = sum(prompt.unanimous is not None for prompt in whole)
    return {
        "name": others.name,
        "created": others.header.created,
        "attribute": own.metrics.headline,
        "labels": list(labels),
        "confidence": confidence,
        "shared": len(shared),
        "prompts_without": len(own.metrics.prompts) - len(shared),
        "summary": {
            "prompts": len(whole),
            "unanimous": unanimous,
            "unanimity": st.wilson(unanimous, len(whole), confidence=confidence).to_dict(),
        },
        "prompts": {id_: _mark(prompt, labels, confidence) for id_, prompt in shared.items()},
    }


def _mark(prompt: Prompt, labels: tuple[str, ...], confidence: float) -> dict[str, Any]:
    counts: Mapping[str, int] = {label: prompt.counts.get(label, 0) for label in labels}
    total = sum(counts.values())
    return {
        "images": prompt.images,
        "share": {label: st.wilson(counts[label], total, confidence=confidence).to_dict() for label in labels},
    }


def against_summary(run: RunFolder) -> tuple[dict[str, Any] | None, str | None]:
    """What metrics.json says of RUN/against.json, and a note where that belongs to scores that the run no longer has."""
    path = run.path / "against.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format") != FORMAT:
            raise ValueError("not of this version's format")
        return (None, OUTDATED) if found.pop("basis") != basis(run) else (found, None)
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{path}: not the marks of another run, or damaged. Remove it, or repeat `allfour report {run.path} --against OTHER`"
        ) from None
