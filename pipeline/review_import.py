"""What people said of a sample (pipeline/review.py): their files read strictly, agreement, and estimates that need no trust in
the classifier. docs/review.md says what each number is about.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from pipeline.config import ConfigError
from pipeline.records import AMBIGUOUS, MIXED, NO_PERSON
from pipeline.report import text
from pipeline.review import (
    FORMAT,
    NO_GROUP,
    Population,
    Strata,
    Units,
    make_units,
    read_plan,
    read_population,
    read_run,
    scores_fingerprint,
    stratify,
)
from pipeline.run_folder import RunFolder, utc_now, write_json
from pipeline.statistics import Interval, PoweredEstimate, agreement, powered_mean, wilson

COLUMNS = ("review", "rater", "image", "label")
MAX_FILE_BYTES = 50_000_000
_DRAWS = 2000

Answers = dict[str, dict[str, str]]
"""Rater -> image's name in the sample -> label."""
Floats = NDArray[np.float64]


# --- files -----------------------------------------------------------------------------------------------------------


def read_answers(run: RunFolder, files: Sequence[Path]) -> tuple[dict[str, Any], Answers]:
    """The sample that the files are about, and what they say.

    Raises
    ------
    ConfigError
        Anything in any file is not as the page exports it; the message names file and line. Nothing is skipped.
    """
    plan: dict[str, Any] | None = None
    names: set[str] = set()
    known: list[str] = []
    answers: Answers = {}
    seen: dict[tuple[str, str], str] = {}
    for path in files:
        for number, row in _rows(path):
            where = f"{path} line {number}"
            identity, rater, image, label = row
            if plan is None:
                plan = _plan_of(run, identity, where)
                names = {entry["image"] for entry in plan["images"]}
                known = [*plan["labels"], AMBIGUOUS, NO_PERSON, MIXED]
            if identity != plan["id"]:
                raise ConfigError(
                    f"{where}: belongs to review {identity[:40]!r}, the lines before to {plan['id']!r}. Import one review at a time"
                )
            _check_rater(rater, where)
            if image not in names:
                raise ConfigError(f"{where}: image {image[:40]!r} is not in this sample. Export the file again")
            if label not in known:
                raise ConfigError(f"{where}: unknown label {label[:60]!r}. Known: {', '.join(known)}")
            if (rater, image) in seen:
                raise ConfigError(
                    f"{where}: {rater!r} has labelled this image already, at {seen[rater, image]}. Keep one of the two lines"
                )
            seen[rater, image] = where
            answers.setdefault(rater, {})[image] = label
    if plan is None:
        raise ConfigError(f"{', '.join(map(str, files))}: no answers. Label at least one image, then export again")
    return plan, answers


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and values of every line after the header."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES // 1_000_000} MB, which no export is")
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no UTF-8 text (byte {error.start}). Export it again, or save it as UTF-8") from None
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ConfigError(f"{path} line 1: the header must be {','.join(COLUMNS)}. Export the file again")
        for row in reader:
            if len(row) != len(COLUMNS):
                raise ConfigError(f"{path} line {reader.line_num}: {len(row)} values in place of {len(COLUMNS)}")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise ConfigError(f"{path} line {reader.line_num}: not CSV: {error}") from None
    return rows


def _plan_of(run: RunFolder, identity: str, where: str) -> dict[str, Any]:
    safe = len(identity) == 16 and set(identity) <= set("0123456789abcdef")  # it becomes a file name
    plan = read_plan(run, identity) if safe else None
    if plan is None:
        raise ConfigError(
            f"{where}: review {identity[:40]!r} was not drawn from {run.path}. Name the run that it is of"
        )
    if plan["scores"] != scores_fingerprint(run):
        raise ConfigError(
            f"{run.path}: its images were scored again after review {identity} was drawn, so the sample no longer stands for"
            " them. Draw a new one, or import into a copy of the run as it was"
        )
    return plan


def _check_rater(rater: str, where: str) -> None:
    if not rater.strip() or len(rater) > 80 or any(unicodedata.category(c)[0] == "C" for c in rater):
        raise ConfigError(f"{where}: {rater[:40]!r} is no rater's name: 1 to 80 visible characters")


# --- estimates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sample:
    """A run's units with what people said of the drawn ones."""

    population: Population
    units: Units
    strata: Strata
    said: Floats
    """[units, categories] share of the unit's images that people read so, mean over the raters; nan where not labelled."""
    unanimous: Floats
    """[units, labels] 1 where people read every image of the unit as that label, mean over the raters; nan likewise."""
    confidence: float


def import_answers(run: RunFolder, files: Sequence[Path]) -> dict[str, Any]:
    """Read raters' files, add them to those imported before, and write RUN/review.json.

    Returns
    -------
    The results of the sample that the files are about.

    Raises
    ------
    ConfigError
        A file is not as exported, or holds less than the same rater's file of before.
    """
    config, attributes = read_run(run)
    plan, fresh = read_answers(run, files)
    with run.lock():
        document = _read_document(run)
        earlier = next((s for s in document["samples"] if s["id"] == plan["id"]), None)
        answers = _merged(earlier["answers"] if earlier else {}, fresh)
        population = read_population(run, attributes)
        units = make_units(population, plan["unit"], plan["set_size"])
        strata = stratify(units, population, plan["scheme"])
        if dict(zip(strata.names, np.bincount(strata.code).tolist(), strict=True)) != {
            stratum["name"]: stratum["units"] for stratum in plan["strata"]
        }:
            raise ConfigError(
                f"{run.path}: the run's tables are not those that review {plan['id']} was drawn from. Draw a new one"
            )
        result = evaluate(
            plan, answers, population, units, strata, confidence=config.statistics.confidence
        )  # fmt: skip
        samples = [s for s in document["samples"] if s["id"] != plan["id"]] + [result]
        write_json(run.path / "review.json", {"format": FORMAT, "samples": samples})
        if run.metrics_path.exists():
            metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
            write_json(run.metrics_path, {**metrics, "review": review_summary(run)})
    return result


def review_summary(run: RunFolder) -> dict[str, Any] | None:
    """What metrics.json says of RUN/review.json: all but the answers; None where there is no review.

    Samples of scores that the run no longer has are counted in `outdated`, and nothing more is said of them.
    """
    samples = _read_document(run)["samples"]
    if not samples:
        return None
    current = [s for s in samples if s["scores"] == scores_fingerprint(run)]
    return {
        "format": FORMAT,
        "samples": [{key: value for key, value in sample.items() if key != "answers"} for sample in current],
        "outdated": len(samples) - len(current),
    }


def _read_document(run: RunFolder) -> dict[str, Any]:
    path = run.path / "review.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] == FORMAT and all({"id", "scores", "answers"} <= set(s) for s in document["samples"]):
            return dict(document)
        raise ValueError("not of this version's format")
    except FileNotFoundError:
        return {"format": FORMAT, "samples": []}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a review ({error}). Move it aside and import the files again") from None


def _merged(earlier: Answers, fresh: Answers) -> Answers:
    """A rater's later file takes the place of the earlier one, which it must contain: nothing that was labelled gets lost."""
    for rater, given in fresh.items():
        lost = set(earlier.get(rater, {})) - set(given)
        if lost:
            raise ConfigError(
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
    said, unanimous = _by_unit(coded, population, units)
    sample = _Sample(population, units, strata, said, unanimous, confidence)
    done = {row for given in coded.values() for row in given}
    return {
        "id": plan["id"], "imported": utc_now(), "scores": plan["scores"], "unit": plan["unit"],
        "attribute": plan["attribute"], "labels": list(plan["labels"]), "confidence": confidence, "seed": plan["seed"],
        "sampled": len(plan["images"]), "labelled": len(done),
        "units": len(units.prompt), "units_labelled": int((~np.isnan(said[:, 0]) & (units.visible > 0)).sum()),
        "raters": {rater: len(given) for rater, given in answers.items()},
        **_agreements(coded, sample),
        **_estimates(sample),
        "answers": answers,
    }  # fmt: skip


def _by_unit(
    coded: Mapping[str, Mapping[int, int]], population: Population, units: Units
) -> tuple[Floats, Floats]:  # fmt: skip
    """A unit counts for a rater who labelled all of it that can be seen; raters weigh the same."""
    number, categories, labels = len(units.prompt), len(population.categories), population.labels
    total, ones, raters = np.zeros((number, categories)), np.zeros((number, labels)), np.zeros(number)
    for given in coded.values():
        counts = np.zeros((number, categories))
        for row, category in given.items():
            counts[units.owner[row], category] += 1
        whole = (counts.sum(axis=1) == units.visible) & (units.visible > 0)
        total[whole] += counts[whole] / units.size
        ones[whole] += counts[whole, :labels] == units.size
        raters[whole] += 1
    # nothing of it can be seen, so it is known without a label: no image of it shows any, and it cannot be unanimous
    raters[units.visible == 0] = 1
    with np.errstate(invalid="ignore"):
        return total / np.where(raters, raters, np.nan)[:, None], ones / np.where(raters, raters, np.nan)[:, None]


def _estimates(sample: _Sample) -> dict[str, Any]:
    units, population = sample.units, sample.population
    known = ~np.isnan(sample.said[:, 0])
    empty = [
        name for code, name in enumerate(sample.strata.names) if not known[sample.strata.code == code].any()
    ]  # fmt: skip
    if empty:
        unlabelled = (
            f"no estimate yet: nothing is labelled of {len(empty)} of {len(sample.strata.names)} strata, such as {empty[0]!r}."
            " Label on, and import again"
        )
        return {"shares": None, "outcomes": None, "unanimity": None, "note": unlabelled}
    labels = population.categories[: population.labels]
    shares = {label: _ratio(sample, column) for column, label in enumerate(labels)}
    outcomes: dict[str, Any] | None = None
    unanimity: dict[str, Any] | None = None
    note: str | None = None
    if units.kind == "image":
        outcomes = {
            name: _mean(sample, units.predicted[:, column], sample.said[:, column])
            for column, name in enumerate(population.categories)
        }
        note = "unanimity needs whole sets: draw them with --whole-sets"
    else:
        predicted = (units.predicted[:, : population.labels] == 1).astype(float)
        unanimity = _mean(sample, predicted.sum(axis=1), sample.unanimous.sum(axis=1))
        unanimity["by_label"] = {
            label: _mean(sample, predicted[:, column], sample.unanimous[:, column])
            for column, label in enumerate(labels)
        }
    return {"shares": shares, "outcomes": outcomes, "unanimity": unanimity, "note": note}


def _powered(sample: _Sample, guess: Floats, truth: Floats, *, prompts: bool) -> PoweredEstimate:
    return powered_mean(
        guess.clip(0, 1),
        truth.clip(0, 1),
        strata=sample.strata.code,
        prompts=sample.units.prompt if prompts else None,
        confidence=sample.confidence,
    )


def _mean(sample: _Sample, guess: Floats, truth: Floats) -> dict[str, Any]:
    these, like_these = (_powered(sample, guess, truth, prompts=prompts) for prompts in (False, True))
    yes_or_no = sample.units.kind == "set"  # a prompt's only set is unanimous or not
    return {
        "this_run": these.interval.to_dict(),
        "prompts_like_these": _at_least_binomial(sample, like_these.interval, always=yes_or_no).to_dict(),
        "labels_only": these.labels_only.to_dict(),
        "classifier": these.predictions_only,
        "power": these.power,
    }


def _ratio(sample: _Sample, column: int) -> dict[str, Any]:
    """Share of a label among the images that have one: a ratio of two unknown means.

    With z(r) = 1 for an image of the label, 0 for one of another, r for one without, the share is the r at which the mean of z
    is r. The interval is every r that the interval of that mean holds (a Fieller set): no approximation of the ratio is needed.
    """
    labels = sample.population.labels

    def z(shares: Floats, r: float) -> Floats:
        return np.asarray(shares[:, column] + r * (1 - shares[:, :labels].sum(axis=1)), dtype=np.float64)

    def at(r: float, prompts: bool) -> Interval:
        return _powered(sample, z(sample.units.predicted, r), z(sample.said, r), prompts=prompts).interval

    known = ~np.isnan(sample.said[:, 0])
    nothing = not sample.said[known, :labels].any()
    guessed = sample.units.predicted[:, :labels].sum()
    result: dict[str, Any] = {
        "classifier": float(sample.units.predicted[:, column].sum() / guessed) if guessed else None
    }
    for name, prompts in (("this_run", False), ("prompts_like_these", True)):
        if nothing:
            result[name] = Interval(None, 0.0, 1.0, "prediction-powered").to_dict()
            continue
        interval = partial(at, prompts=prompts)
        value = _fixed_point(interval, "value", 0.0, 1.0)
        low = _fixed_point(interval, "low", 0.0, value)
        high = _fixed_point(interval, "high", value, 1.0)
        found = Interval(value, low, high, "prediction-powered")
        result[name] = (_at_least_binomial(sample, found) if prompts else found).to_dict()
    return result


def _at_least_binomial(sample: _Sample, found: Interval, *, always: bool = False) -> Interval:
    """No surer of other prompts than so many of these prompts can make, even where all is labelled and all agree."""
    if found.value is None or not (always or found.low == found.high):
        return found
    prompts = len(np.unique(sample.units.prompt))
    floor = wilson(round(found.value * prompts), prompts, confidence=sample.confidence)
    return Interval(found.value, min(found.low, floor.low), max(found.high, floor.high), found.method)


def _fixed_point(f: Callable[[float], Interval], part: str, low: float, high: float) -> float:
    """The r whose f(r).part is r, where that falls short of r ever more; the nearer end where there is none."""

    def above(r: float) -> float:
        return float(getattr(f(r), part)) - r

    if above(low) <= 0:
        return low
    if above(high) >= 0:
        return high
    return float(brentq(above, low, high, xtol=1e-9))


# --- agreement -------------------------------------------------------------------------------------------------------


def _agreements(coded: Mapping[str, Mapping[int, int]], sample: _Sample) -> dict[str, Any]:
    population = sample.population
    people = _consensus(coded, population)
    rows = np.array(sorted(people), dtype=np.int64)
    human = np.array([people[row] for row in rows.tolist()], dtype=np.int64)
    machine = population.category[rows]
    groups = np.array(population.groups, dtype=object)[population.prompt[rows]]
    names = sorted(set(population.groups) - {NO_GROUP}) or []
    return {
        "categories": list(population.categories),
        "confusion": _table(human, machine, len(population.categories)).tolist(),
        "agreement": _weighted(rows, human, machine, sample),
        "by_group": {
            name: _weighted(rows[groups == name], human[groups == name], machine[groups == name], sample) for name in names
        },
        "by_decision": {
            name: _of_decision(human[machine == code], code, sample) for code, name in enumerate(population.categories)
            if (machine == code).any()
        },
        "by_rater": {rater: _pair(given, dict(zip(rows.tolist(), machine.tolist(), strict=True)), sample)
                     for rater, given in coded.items()},
        "between_raters": [
            {"raters": [one, other], **_pair(coded[one], coded[other], sample)} for one, other in combinations(coded, 2)
        ],
    }  # fmt: skip


def _consensus(coded: Mapping[str, Mapping[int, int]], population: Population) -> dict[int, int]:
    """What most raters said; where that is a tie, the image reads as ambiguous."""
    votes: dict[int, Counter[int]] = {}
    for given in coded.values():
        for row, category in given.items():
            votes.setdefault(row, Counter())[category] += 1
    tie = population.categories.index(AMBIGUOUS)
    result = {}
    for row, counter in votes.items():
        (best, most), *rest = counter.most_common(2)
        result[row] = tie if rest and rest[0][1] == most else best
    return result


def _table(human: NDArray[np.int64], machine: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    table = np.zeros((size, size), dtype=np.int64)
    np.add.at(table, (human, machine), 1)
    return table


def _pair(one: Mapping[int, int], other: Mapping[int, int], sample: _Sample) -> dict[str, Any]:
    """Agreement on the images that both have, each counting once."""
    both = sorted(set(one) & set(other))
    if not both:
        return {"images": 0, "agreement": None, "kappa": None}
    size = len(sample.population.categories)
    table = _table(np.array([one[r] for r in both]), np.array([other[r] for r in both]), size)
    found = agreement(table, confidence=sample.confidence)
    return {"images": len(both), "agreement": found.agreement.to_dict(), "kappa": found.kappa.to_dict()}


def _of_decision(human: NDArray[np.int64], code: int, sample: _Sample) -> dict[str, Any]:
    """What people say of the sampled images with one decision. Kappa is not defined where one side is constant."""
    counts = np.bincount(human, minlength=len(sample.population.categories))
    return {
        "images": len(human),
        "people": {name: int(n) for name, n in zip(sample.population.categories, counts, strict=True) if n},
        "agreement": wilson(int(counts[code]), len(human), confidence=sample.confidence).to_dict(),
    }


def _weighted(
    rows: NDArray[np.int64], human: NDArray[np.int64], machine: NDArray[np.int64], sample: _Sample
) -> dict[str, Any]:
    """Agreement and kappa for all images of the run, estimated: each sampled image stands for those of its stratum.

    Limits by a bootstrap of the units within strata, n - 1 of n drawn and weighted up (Rao and Wu 1988), since few were drawn in
    some; agreement has in addition the limits of a share in which every image was right or wrong could be an accident.
    """
    if not len(rows):
        return {"images": 0, "agreement": Interval(None, 0.0, 1.0, "bootstrap").to_dict(),
                "kappa": Interval(None, -1.0, 1.0, "bootstrap").to_dict()}  # fmt: skip
    size, units, strata = len(sample.population.categories), sample.units, sample.strata
    drawn, unit = np.unique(units.owner[rows], return_inverse=True)
    tables = np.zeros((len(drawn), size * size))
    np.add.at(tables, (unit, human * size + machine), 1.0)
    # the units that have an answer, in this group or not, are the sample of each stratum
    answered = np.bincount(strata.code[~np.isnan(sample.said[:, 0])], minlength=len(strata.names)).clip(1)
    weight = (np.bincount(strata.code) / answered)[strata.code[drawn]]
    random = np.random.default_rng(0)
    factor = np.ones((_DRAWS, len(drawn)))
    for stratum in np.unique(strata.code[drawn]):
        inside = np.flatnonzero(strata.code[drawn] == stratum)
        if len(inside) > 1:
            n = len(inside)
            factor[:, inside] = random.multinomial(n - 1, np.full(n, 1 / n), size=_DRAWS) * (n / (n - 1))
    tail = (1 - sample.confidence) / 2
    result: dict[str, Any] = {"images": len(rows)}
    point = _kappa((weight @ tables)[None], size)
    spread = _kappa((factor * weight) @ tables, size)
    exact = wilson(int((human == machine).sum()), len(rows), confidence=sample.confidence)
    for name, value, values in zip(("agreement", "kappa"), point, spread, strict=True):
        known = values[np.isfinite(values)]
        if not np.isfinite(value[0]) or not len(known):
            result[name] = Interval(None, -1.0, 1.0, "bootstrap").to_dict()
            continue
        low, high = np.quantile(known, [tail, 1 - tail]).tolist()
        middle = float(value[0])
        low, high = min(low, middle), max(high, middle)
        if name == "agreement":  # a bootstrap of nothing but agreement has no width
            low, high = min(low, exact.low), max(high, exact.high)
        result[name] = Interval(middle, low, high, "stratified bootstrap").to_dict()
    return result


def _kappa(flat: Floats, size: int) -> tuple[Floats, Floats]:
    """Agreement and Cohen's kappa of each table of weights; nan where chance alone would agree always."""
    tables = flat.reshape(-1, size, size)
    total = tables.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        tables = tables / total[:, None, None]
        same = np.trace(tables, axis1=1, axis2=2)
        chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
        return same, np.where(chance < 1 - 1e-12, (same - chance) / (1 - chance), np.nan)


# --- words -----------------------------------------------------------------------------------------------------------


def describe_result(result: Mapping[str, Any]) -> str:
    """A sample's results in a few lines, for a terminal."""
    who = ", ".join(f"{text.clean(name, 60)} ({count})" for name, count in result["raters"].items())
    lines = [f"{result['labelled']} of {result['sampled']} sampled images labelled, by {who}"]
    lines.append(f"classifier and people: {_agreeing(result['agreement'])}")
    lines += [
        f"  {text.group_text(name)}: {_agreeing(found)}"
        for name, found in result["by_group"].items()
        if found["images"]
    ]
    for pair in result["between_raters"]:
        if pair["images"]:
            names = " and ".join(text.clean(name, 60) for name in pair["raters"])
            lines.append(f"{names}: {_agreeing(pair)}")
    percent = f"{result['confidence']:.0%}"
    for label, share in (result["shares"] or {}).items():
        lines.append(
            f"read as {text.label_text(label)}, of images with a label: {_powered_text(share)} as people see it ({percent} intervals);"
            f" {text.percent(share['classifier'], 1)} as the classifier does"
        )
    if (found := result["unanimity"]) is not None:
        lines.append(
            f"unanimous sets: {_powered_text(found)} as people see it; {text.percent(found['classifier'], 1)} as the classifier does"
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
        "all of this run is labelled" if settled else f"{text.interval_text(here['low'], here['high'])} for this run"
    )
    return f"{text.percent(here['value'], 1)} ({these}; {text.interval_text(like['low'], like['high'])} for prompts like these)"


def _agreeing(found: Mapping[str, Any]) -> str:
    same, kappa = found["agreement"], found["kappa"]
    words = f"agree on {text.percent(same['value'], 1)} ({text.interval_text(same['low'], same['high'])})"
    if kappa["value"] is None:
        return f"{words}, kappa not defined; {found['images']} images"
    return f"{words}, kappa {kappa['value']:.2f} ({kappa['low']:.2f} to {kappa['high']:.2f}); {found['images']} images"
