"""What people said of a sample (`allfour review`), put into the run: RUN/review.json, and `review` of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allfour.border import read_json
from allfour.errors import InputError, RunFolderError
from allfour.files import read_regular
from allfour.pipeline import words
from allfour.pipeline.analyses.review.agreement import agreements
from allfour.pipeline.analyses.review.answers import Answers, read_answers
from allfour.pipeline.analyses.review.estimates import Sample, by_unit, estimates, of_labelled_sets
from allfour.pipeline.analyses.review.sample import (
    FORMAT,
    Population,
    Strata,
    Units,
    make_units,
    plan_path,
    read_plan,
    read_population,
    read_run,
    scores_fingerprint,
    stratify,
)
from allfour.pipeline.run.folder import RunFolder, utc_now
from allfour.pipeline.run.metrics import Review
from allfour.pipeline.run.seal import sealed, unsealed
from allfour.pipeline.run.writing import write_json


def import_answers(run: RunFolder, files: Sequence[Path]) -> dict[str, Any]:
    """Read raters' files, add them to those imported before, and write RUN/review.json. The caller holds the lock.

    metrics.json is left to the caller.

    Returns
    -------
    The results of the sample that the files are about.

    Raises
    ------
    RunFolderError
        A file is not as exported, or holds less than the same rater's earlier file.
    """
    plan, fresh = read_answers(run, files)
    document = _read_document(run)
    earlier = next((s for s in document["samples"] if s["id"] == plan["id"]), None)
    result = _evaluated(run, plan, _merged(earlier["answers"] if earlier else {}, fresh))
    _write(run, [s for s in document["samples"] if s["id"] != plan["id"]] + [result])
    return result


def forget_raters(run: RunFolder, raters: Sequence[str]) -> dict[str, int]:
    """Take everything that raters said out of RUN/review.json, and evaluate what the others said. The caller holds the lock.

    A sample that nobody else labelled goes with them. metrics.json is left to the caller.

    Returns
    -------
    Answers that are gone, by rater.

    Raises
    ------
    RunFolderError
        A name is not among those imported, or the sample that another rater labelled is gone. Nothing is written then.
    """
    document = _read_document(run)
    known = sorted({rater for sample in document["samples"] for rater in sample["answers"]})
    if unknown := [rater for rater in raters if rater not in known]:
        raise RunFolderError(
            f"{run.path / 'review.json'}: nobody named {unknown[0][:60]!r} has labelled. Raters: {', '.join(map(repr, known)) or 'none'}"
        )
    gone = dict.fromkeys(raters, 0)
    samples = []
    for sample in document["samples"]:
        rest = {rater: given for rater, given in sample["answers"].items() if rater not in gone}
        for rater in gone:
            gone[rater] += len(sample["answers"].get(rater, {}))
        if len(rest) == len(sample["answers"]):
            samples.append(sample)
        elif rest and sample["scores"] != scores_fingerprint(
            run
        ):  # no figure of it can be made again, and none is shown
            samples.append({key: sample[key] for key in _OF_THE_DRAW if key in sample} | {"answers": rest})
        elif rest:
            plan = read_plan(run, sample["id"])
            if plan is None:
                raise RunFolderError(
                    f"{plan_path(run, sample['id'])} is gone, so what the others said cannot be evaluated. Put it back, or remove "
                    f"{run.path / 'review.json'} to forget everybody"
                )
            samples.append(_evaluated(run, plan, rest))
    _write(run, samples)
    return gone


_OF_THE_DRAW = ("id", "imported", "scores", "unit", "attribute", "labels", "confidence", "seed", "sampled")


def _evaluated(run: RunFolder, plan: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    config, attributes = read_run(run)
    population = read_population(run, attributes, {(prompt, index) for prompt, index in plan.get("disputed", ())})
    units = make_units(population, plan["unit"], plan["set_size"])
    strata = stratify(units, population, plan["scheme"])
    if dict(zip(strata.names, np.bincount(strata.code).tolist(), strict=True)) != {
        stratum["name"]: stratum["units"] for stratum in plan["strata"]
    }:
        raise RunFolderError(
            f"{run.path}: the run's tables are not those that review {plan['id']} was drawn from. Draw a new one"
        )
    return evaluate(plan, answers, population, units, strata, confidence=config.statistics.confidence)


def _write(run: RunFolder, samples: Sequence[Mapping[str, Any]]) -> None:
    write_json(run.path / REVIEW.file, sealed({"format": FORMAT, "samples": list(samples)}))


@dataclass(frozen=True, slots=True)
class _Review:
    """Samples are of the scores that they were drawn from, each by itself."""

    name: str = "review"
    file: str = "review.json"

    def summary(self, run: RunFolder) -> tuple[Review | None, None]:
        """All of RUN/review.json but the answers; None where there is no review.

        Samples of scores that the run no longer has are counted in `outdated`, and nothing more is said of them.
        """
        samples = _read_document(run)["samples"]
        if not samples:
            return None, None
        current = current_samples(run)
        shown = [{key: value for key, value in sample.items() if key != "answers"} for sample in current]
        return Review.model_validate(
            {"format": FORMAT, "samples": shown, "outdated": len(samples) - len(current)}
        ), None


REVIEW = _Review()


def current_samples(run: RunFolder) -> list[dict[str, Any]]:
    """Samples of the scores that the run has, with every answer. Raises RunFolderError where review.json is damaged."""
    samples = _read_document(run)["samples"]
    now = scores_fingerprint(run) if samples else None
    return [sample for sample in samples if sample["scores"] == now]


def _read_document(run: RunFolder) -> dict[str, Any]:
    path = run.path / REVIEW.file
    try:
        document = unsealed(read_json(read_regular(path)))
        if document["format"] == FORMAT and all({"id", "scores", "answers"} <= set(s) for s in document["samples"]):
            return dict(document)
        raise ValueError("not of this version's format")
    except FileNotFoundError:
        return {"format": FORMAT, "samples": []}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise RunFolderError(f"{path}: not a review, or damaged. Move it aside and import the files again") from None


def _merged(earlier: Answers, fresh: Answers) -> Answers:
    """A rater's later file takes the place of the earlier one, which it must contain: nothing that was labelled gets lost."""
    for rater, given in fresh.items():
        lost = set(earlier.get(rater, {})) - set(given)
        if lost:
            raise InputError(
                f"{rater!r} labelled {len(lost)} images in a file imported before that are not in this one. A later export holds"
                " them all; another person needs another name"
            )
    return {**earlier, **fresh}


def evaluate(
    plan: Mapping[str, Any],
    answers: Answers,
    population: Population,
    units: Units,
    strata: Strata,
    *,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Agreement and estimates of one sample.

    Parameters
    ----------
    plan
        The sample, as it was drawn.
    answers
        What every rater said.
    population, units, strata
        Of the run, as they were when it was drawn.
    confidence
        Of every interval.
    """
    drawn = {(entry["prompt_id"], entry["index"]): entry["image"] for entry in plan["images"]}
    rows = {}
    for row, (prompt, index) in enumerate(zip(population.prompt.tolist(), population.index.tolist(), strict=True)):
        if (image := drawn.get((population.prompt_ids[prompt], index))) is not None:
            rows[image] = row
    place = {name: position for position, name in enumerate(population.categories)}
    coded = {
        rater: {rows[image]: place[label] for image, label in given.items()} for rater, given in answers.items()
    }  # fmt: skip
    text, unanimous = by_unit(coded, population, units)
    sample = Sample(population, units, strata, text, unanimous, confidence)
    found = estimates(sample)
    if plan["unit"] == "image" and found["shares"] is not None:
        every = of_labelled_sets(coded, population, set_size=plan["set_size"], confidence=confidence)
        found |= {"unanimity": every, "note": None} if every is not None else {}
    done = {row for given in coded.values() for row in given}
    return {
        "id": plan["id"], "imported": utc_now(), "scores": plan["scores"], "unit": plan["unit"],
        "attribute": plan["attribute"], "labels": list(plan["labels"]), "confidence": confidence, "seed": plan["seed"],
        "sampled": len(plan["images"]), "labelled": len(done),
        "units": len(units.prompt), "units_labelled": int((~np.isnan(text[:, 0]) & (units.visible > 0)).sum()),
        "raters": {rater: len(given) for rater, given in answers.items()},
        **agreements(coded, sample),
        **found,
        "answers": answers,
    }  # fmt: skip


# --- words -----------------------------------------------------------------------------------------------------------


def describe_result(result: Mapping[str, Any]) -> str:
    """A sample's results in a few lines, for a terminal."""
    who = ", ".join(f"{words.clean(name, 60)} ({count})" for name, count in result["raters"].items())
    lines = [f"{result['labelled']} of {result['sampled']} sampled images labelled, by {who}"]
    lines.append(f"classifier and people: {_agreeing(result['agreement'])}")
    lines += [
        f"  {words.group_text(name)}: {_agreeing(found)}"
        for name, found in result["by_group"].items()
        if found["images"]
    ]
    for pair in result["between_raters"]:
        if pair["images"]:
            names = " and ".join(words.clean(name, 60) for name in pair["raters"])
            lines.append(f"{names}: {_agreeing(pair)}")
    percent = words.level(result["confidence"])
    for label, share in (result["shares"] or {}).items():
        lines.append(
            f"read as {words.label_text(label)}, of images with a label: {_powered_text(share)} as people see it ({percent} intervals);"
            f" {words.percent(share['classifier'], 1)} as the classifier does"
        )
    if (found := result["unanimity"]) is not None:
        lines.append(
            f"unanimous sets: {_powered_text(found)} as people see it; {words.percent(found['classifier'], 1)} as the classifier does"
        )
    if result["note"]:
        lines.append(f"note: {result['note']}")
    return "\n".join(lines)


def _powered_text(entry: Mapping[str, Any]) -> str:
    if entry["this_run"]["value"] is None:
        return "not known"
    here, like = entry["this_run"], entry["prompts_like_these"]
    settled = here["high"] - here["low"] < 1e-9
    these = (
        "all of this run is labelled" if settled else f"{words.interval_text(here['low'], here['high'])} for this run"
    )
    return f"{words.percent(here['value'], 1)} ({these}; {words.interval_text(like['low'], like['high'])} for prompts like these)"


def _agreeing(found: Mapping[str, Any]) -> str:
    same, kappa = found["agreement"], found["kappa"]
    text = f"agree on {words.percent(same['value'], 1)} ({words.interval_text(same['low'], same['high'])})"
    if kappa["value"] is None:
        return f"{text}, kappa {(found.get('kappa_note') or 'not defined').removesuffix('.')}; {found['images']} images"
    return f"{text}, kappa {kappa['value']:.2f} ({kappa['low']:.2f} to {kappa['high']:.2f}); {found['images']} images"
