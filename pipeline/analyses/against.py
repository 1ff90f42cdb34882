"""Another run's shares, marked beside every prompt of this one. To test whether the two differ, use `allfour compare`.

RUN/against.json keeps the marks, so that the other run is not needed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.base import KeptAnalysis
from allfour.pipeline.analyses.comparison.comparability import LoadedRun, check_comparable, load_runs
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Against, Prompt


def write_against(run: RunFolder, other: RunFolder) -> None:
    """Keep what another run found for the same prompts in RUN/against.json. Both runs must be measured.

    Raises
    ------
    RunFolderError
        The runs are not comparable, for every reason that `allfour compare` would give save that the other may lack
        prompts or hold more.
    """
    own, others = load_runs([run.path, other.path])
    check_comparable(own, others, shared_only=True)
    AGAINST.write(run, _marks(own, others))


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


def _record(document: dict[str, Any]) -> Against:
    return Against.model_validate({key: value for key, value in document.items() if key not in ("format", "basis")})


AGAINST = KeptAnalysis(
    name="against",
    file="against.json",
    format=1,
    record=_record,
    what="the marks of another run",
    again="allfour report RUN --against OTHER",
)
