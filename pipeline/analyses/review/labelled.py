"""Images of a run that people labelled, beside what the classifier decided of them: how its errors differ from prompt to prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from allfour.pipeline.analyses.review.results import current_samples
from allfour.pipeline.analyses.review.sample import read_plan, read_population, read_run
from allfour.pipeline.run.folder import RunFolder

LabelledImages = Mapping[str, Mapping[tuple[str, str], int]]
"""Prompt id -> (what people say, what the classifier decided) -> images."""


def labelled_images(run: RunFolder) -> LabelledImages:
    """Images of the headline attribute whose label most of the raters agree on; nothing where there is no review of these scores.

    Samples in which images that readers differ on were drawn more often are left out: among those errors are commoner than among other
    images with the same decision, so that they say nothing of how common errors are.
    """
    votes: dict[tuple[str, int], Counter[str]] = {}
    samples = current_samples(run)
    if not samples:
        return {}
    _, attributes = read_run(run)
    for sample in samples:
        plan = read_plan(run, sample["id"])
        if plan is None or sample["attribute"] != attributes.headline or "dispute" in plan["scheme"]:
            continue
        drawn = {entry["image"]: (entry["prompt_id"], entry["index"]) for entry in plan["images"]}
        for given in sample["answers"].values():
            for image, label in given.items():
                if image in drawn:
                    votes.setdefault(drawn[image], Counter())[label] += 1
    if not votes:
        return {}
    population = read_population(run, attributes)
    found: dict[str, dict[tuple[str, str], int]] = {}
    rows = zip(population.prompt.tolist(), population.index.tolist(), population.category.tolist(), strict=True)
    for prompt, index, category in rows:
        said = votes.get((population.prompt_ids[prompt], index))
        if said is None or category < 0:
            continue
        (label, most), *rest = said.most_common(2)
        if rest and rest[0][1] == most:
            continue
        cells = found.setdefault(population.prompt_ids[prompt], {})
        pair = label, population.categories[category]
        cells[pair] = cells.get(pair, 0) + 1
    return found
