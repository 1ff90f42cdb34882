"""docs/validation.md and docs/validation.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scripts.validation.settings import HIGH, LOW, SET_SIZE, Result, truths


def reason(result: Result) -> str:
    """Return why a setting misses the wanted coverage."""
    setting = result.setting
    mean = truths(setting.population)["share"]
    rare = min(mean, 1 - mean) * setting.images * setting.prompts
    conservative = result.coverage > HIGH
    if conservative and "difference" in result.estimate and "first set" not in result.estimate:
        return "limits allow for prompts of a kind that was not drawn"
    if setting.prompts < 10:
        if conservative:
            return "5 prompts: their spread is hardly known, and limits allow for it"
        if result.estimate == "unanimity" and setting.images == SET_SIZE:
            return "5 prompts, each unanimous or not: counts are too coarse to hit 95%"
        return "5 prompts: prompts of a rare kind are missed"
    if "unanimity" in result.estimate and setting.population == "near 0.5":
        least = "unanimity near its least possible value"
        if conservative:
            return f"{least}: prompts agree more than chance allows to count on"
        if setting.calibration is not None and result.too_high > result.too_low:
            return f"{least}, which calibration error can only raise"
        return f"{least}, so its estimate is skewed"
    if conservative and result.estimate == "corrected unanimity":
        return "the effective number of prompts is capped where most of them agree"
    if rare < 30:
        return "fewer than 30 images of the rare label: counts are too coarse to hit 95%"
    return "not explained"


def _warned(results: list[Result]) -> str:
    """Return in what share of audits the tool warned, lowest to highest over settings."""
    known = [r.warned for r in results if r.warned is not None]
    if not known:
        return "-"
    low, high = min(known), max(known)
    return f"{low:.2f}" if len(results) == 1 else f"{low:.2f} to {high:.2f}"


def report(results: list[Result], extra: dict[str, Any], *, audits: int, draws: int) -> str:
    """Return docs/validation.md."""
    checked = [r for r in results if not r.estimate.startswith("uncorrected")]
    missed = [r for r in checked if not r.reached]
    lines = [
        "# Validation: do the intervals cover?",
        "",
        "Written by `python -m scripts.validate_statistics`; the numbers are in `validation.json`. Formulas are in",
        "[method.md](method.md). Other pages have the limits of runs that stop early or give some prompts more",
        "images ([validation-stopping.md](validation-stopping.md)), those of shares over few prompts, most of which",
        "are alike ([validation-shares.md](validation-shares.md)), those where a kind of prompt was not drawn",
        "([validation-unseen.md](validation-unseen.md)), and those of refusals and rewriting",
        "([validation-withheld.md](validation-withheld.md)).",
        "",
        f"{audits:,} simulated audits per setting, {draws} draws of the error rates each. Prompts' shares come from",
        "a Beta distribution: near 0 is Beta(1, 32), near 0.5 Beta(15, 15), near 1 Beta(32, 1), mixed Beta(0.3, 0.3),",
        "whose prompts are mostly close to all of one label. The truth is that population's mean. A 95% interval",
        f"should cover it in 93% to 98% of audits; with {audits:,} audits chance alone moves a figure by one point.",
        "",
        "## Summary",
        "",
        "| estimate | settings | within 93-98% | below 93% | above 98% | lowest | median | highest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r.estimate for r in results):
        group = [r for r in results if r.estimate == name]
        values = np.array([r.coverage for r in group])
        below, above = int((values < LOW).sum()), int((values > HIGH).sum())
        lines.append(
            f"| {name} | {len(group)} | {len(group) - below - above} | {below} | {above} | {values.min():.3f} "
            f"| {np.median(values):.3f} | {values.max():.3f} |"
        )
    with_20 = [r for r in checked if r.setting.prompts >= 20]
    lines += [
        "",
        f"With 20 prompts or more, {sum(r.reached for r in with_20)} of {len(with_20)} are within (uncorrected ones left "
        f"out), {sum(r.coverage < LOW for r in with_20)} below, and the",
        f"lowest is {min((r.coverage for r in with_20), default=1):.3f}. Uncorrected estimates speak of what the "
        "classifier reads; beside the",
        "truth of a generator they are listed only to show what is lost without a correction.",
        "",
        "## Settings that miss",
        "",
        "Below 93% an interval is not valid. `warned` is the share of audits in which the tool prints a warning",
        "(`coverage_warnings`).",
        "",
        "| estimate | population | images | prompts | sens. / spec. | calibration | further | coverage | above / below truth "
        "| warned | reason |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted((r for r in missed if r.coverage < LOW), key=lambda r: r.coverage):
        s = r.setting
        rates = "-" if s.sensitivity is None else f"{s.sensitivity:.2f} / {s.specificity:.2f}"
        lines.append(
            f"| {r.estimate} | {s.population} | {s.images} | {s.prompts} | {rates} | {s.calibration or '-'} "
            f"| {s.describe()} | {r.coverage:.3f} | {r.too_high:.3f} / {r.too_low:.3f} | {_warned([r])} | {reason(r)} |"
        )
    lines += [
        "",
        "On 25 November 2026, after this run, further warnings were added: fewer than 30 images with another label",
        "than the commonest (for one run, and in `allfour compare`); unanimity near its least possible value in",
        "`allfour compare`; Youden's J below 0.65 instead of 0.5 (which includes the setting that is not explained,",
        "0.80 / 0.80). `warned` above is from before.",
        "",
        "Above 98% an interval is valid, but wider than it needs to be. There are many such settings, so they are",
        "listed by reason; each is in `validation.json` (`reached` is false).",
        "",
        "| estimate | reason | settings | coverage | warned |",
        "|---|---|---|---|---|",
    ]
    wide: dict[tuple[str, str], list[Result]] = {}
    for r in missed:
        if r.coverage > HIGH:
            wide.setdefault((r.estimate, reason(r)), []).append(r)
    for (estimate, why), group in sorted(wide.items(), key=lambda item: -len(item[1])):
        reached = [r.coverage for r in group]
        lines.append(
            f"| {estimate} | {why} | {len(group)} | {min(reached):.3f} to {max(reached):.3f} | {_warned(group)} |"
        )
    lines += [
        "",
        "## Which way to correct unanimity",
        "",
        "20 prompts, sensitivity and specificity 0.90, 200 calibration images. `none` is the uncorrected figure;",
        "`plug-in` takes each prompt's most likely share to the fourth power; `mixture` is empirical Bayes with the",
        "non-parametric maximum-likelihood distribution of shares; both with a percentile bootstrap over prompts and",
        "calibration. `moments` is what the tool does.",
        "",
        "| population | images | estimator | truth | bias | root mean square error | coverage | mean width |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['population']} | {r['images']} | {r['estimator']} | {r['truth']:.3f} | {r['bias']:+.3f} "
            f"| {r['rmse']:.3f} | {r['coverage']:.3f} | {r['width']:.2f} |"
            for r in extra["estimators"]
        ),
        "",
        "## Bootstraps beside the default",
        "",
        "Coverage of unanimity of nine images. One stage resamples prompts; two stages resample their images too.",
        "",
        "| population | prompts | one stage | two stages | default |",
        "|---|---|---|---|---|",
        *(
            f"| {r['population']} | {r['prompts']} | {r['one stage']:.3f} | {r['two stages']:.3f} "
            f"| {r['default']:.3f} |"
            for r in extra["bootstraps"]
        ),
        "",
        "## The given prompts alone",
        "",
        "Coverage of unanimity of one fixed list of prompts whose images are made anew, by the interval for that and",
        "by the default one, which also covers other prompts like these and is therefore wider here.",
        "",
        "| population | images | prompts | `fixed` | its width | default | its width |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['population']} | {r['images']} | {r['prompts']} | {r['fixed']:.3f} | {r['fixed_width']:.2f} "
            f"| {r['default']:.3f} | {r['default_width']:.2f} |"
            for r in extra["fixed"]
        ),
        "",
        "## Seven labels with abstention",
        "",
        f"40 prompts, 9 images, 66% right, 10% abstentions, 200 calibration images per label: unanimity covered in "
        f"{extra['seven_labels']['unanimity']:.3f} and",
        f"the first label's share in {extra['seven_labels']['share']:.3f} of {extra['seven_labels']['audits']} audits.",
        "",
    ]
    others = {key: extra.get(key, []) for key in ("cleam", "images", "faults", "labelled")}
    text = with_evidence("\n".join(lines), extra["evidence"], **others)
    return with_differences(text, extra["differences"])


_EVIDENCE = "## What the first line says where plain figures mislead"


def with_evidence(
    text: str,
    evidence: list[dict[str, Any]],
    *,
    cleam: list[dict[str, Any]],
    images: list[dict[str, Any]],
    faults: list[dict[str, Any]],
    labelled: list[dict[str, Any]],
) -> str:
    """Return the page with its last section, on the choice of evidence, on readings of images and on CLEAM, made anew."""
    before = text.split(_EVIDENCE, maxsplit=1)[0].rstrip()
    rows = evidence
    after = text[text.index(_DIFFERENCES) :] if _DIFFERENCES in text else ""
    lines = [
        _EVIDENCE,
        "",
        "Audits of 40 prompts (100 for the cue, unless the row says otherwise) with Beta(0.3, 0.3) shares, each",
        "through `compute_metrics`; the simulation is `scripts/validation/evidence.py`, rerun alone by",
        "`python -m scripts.validate_statistics --evidence`. *Before* is the interval of the count, or the",
        "corrected one, by itself. *Cause named* is how often the first screen names the cause",
        "(`summary.headline.because`, or the parts that its limits include). Where a calibration does not fit, what",
        "leads is what the classifier read, which need not cover the truth: the corrected figure is not offered,",
        "and the verdict is that it cannot be told (`errors_unknown`). Where people labelled a random part of the",
        "images, these measure how much errors differ by prompt (`labelled_error.py`); in the other rows that is",
        "not known, and the page says so.",
        "",
        "| setting | images | audits | covered before | covered by the first line | cause named | led by |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['name']} | {r['images']} | {r['audits']:,} | {r['covered_before']:.3f} | {r['covered']:.3f} | {r['caused']:.2f} | {r['led_by']} |"
            for r in rows
        ),
        "",
        *_of_labelled(labelled),
        *_of_faults(faults),
        *_of_images(images),
        "### CLEAM beside the corrected share",
        "",
        "CLEAM (Teo, Abdollahzadeh and Cheung, NeurIPS 2023) corrects a share for the classifier's two accuracies, as `corrected_share` does, and",
        "takes normal limits over batches, with the accuracies as known; it has no figure for unanimity and no third decision. 20 prompts of 9",
        f"images, 90% right, {cleam[0]['audits'] if cleam else 0:,} audits; prompts are its batches (`scripts/validation/cleam.py`).",
        "",
        "| population | calibration images | CLEAM | its width | `corrected_share` | its width |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['population']} | {r['calibration']} | {r['cleam']:.3f} | {r['cleam_width']:.2f} "
            f"| {r['corrected']:.3f} | {r['corrected_width']:.2f} |"
            for r in cleam
        ),
        "",
    ]
    return "\n".join([before, "", *lines, after] if before else lines)


_DIFFERENCES = "## Two runs where plain differences mislead"


def with_differences(text: str, rows: list[dict[str, Any]]) -> str:
    """Return the page with its section on pairs of runs made anew, the last one."""

    def rate(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    before = text.split(_DIFFERENCES, maxsplit=1)[0].rstrip()
    lines = [
        _DIFFERENCES,
        "",
        "Simulated pairs through the functions behind `allfour compare`; the simulation is",
        "`scripts/validation/differences.py`, rerun alone by `python -m scripts.validate_statistics --differences`.",
        "Shares are Beta(0.3, 0.3) unless the row says otherwise; calibrations have 200 images of each label on",
        "either side. *Before* takes every set as it was read, with sign flips, Student limits and every pair of",
        "runs by itself. `rejected` is how often p <= 5%. For equal runs it should be 5% or less; where the runs",
        "differ, and in the rows on equivalence, it is power (equivalence of runs that are exactly 5 points apart",
        "should be shown in 5% or less). By chance, 5% comes out between 3.7% and 6.4% among 1,000 pairs, and",
        "between 4.3% and 5.7% among 4,000. An uncorrected difference always names its cause on the first lines:",
        "without calibrations on both sides there is no other evidence.",
        "",
        "| setting | prompts | pairs | covered before | rejected before | covered | rejected |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['name']} | {r['prompts']} | {r['pairs']:,} | {rate(r['covered_before'])} | {rate(r['rejected_before'])} | {rate(r['covered'])} "
            f"| {rate(r['rejected'])} |"
            for r in rows
        ),
        "",
    ]
    return "\n".join([before, "", *lines]) if before else "\n".join(lines)


def _of_labelled(rows: list[dict[str, Any]]) -> list[str]:
    """The part on labels of some of a run's images; nothing where it was not run."""
    if not rows:
        return []
    return [
        "### People's labels of a part of the images",
        "",
        "Audits of Beta(0.3, 0.3) shares under a calibration of 200 images of each label",
        "(`scripts/validation/labelled.py`; rerun alone by `python -m scripts.validate_statistics --labelled`),",
        "counting those in which a corrected figure leads (`leads`). The columns give coverage / mean width of",
        "three limits: `without labels`; `all left open`, which include all that labels leave open about errors",
        "that differ by prompt, and led in version 9 of the metrics; and those of the first line, which are no",
        "wider than without labels unless labels show that errors differ (`shown`). `wider` is how often they are",
        "wider although nothing is shown. `named`: the first line names errors that differ by prompt. With fewer",
        "than 30 labelled images (20 prompts of 4) labels change nothing.",
        "",
        "| errors | prompts x images | labelled | audits | leads | without labels | all left open | first line | shown | wider | named |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['error']} | {r['prompts']} x {r['images']} | {r['labelled']:.0%} | {r['audits']:,} | {r['led']:.2f} "
            f"| {r['covered_plain']:.3f} / {r['width_plain']:.2f} | {r['covered_whole']:.3f} / {r['width_whole']:.2f} "
            f"| {r['covered']:.3f} / {r['width']:.2f} | {r['shown']:.2f} | {r['wider']:.2f} | {r['named']:.2f} |"
            for r in rows
        ),
        "",
    ]


def _of_faults(rows: list[dict[str, Any]]) -> list[str]:
    """The part on faults that are no interval of one setting; nothing where it was not run."""
    if not rows:
        return []
    return [
        "### People's labels, few prompts left, and chance",
        "",
        "Faults that no row above shows (`scripts/validation/faults.py`): how often the earlier statement, and the",
        "present one, is right. 40 prompts of four images; the last row has the prompts of",
        "`configs/references/us-labour-2019.yaml`, drawn with exactly its shares.",
        "",
        "| setting | audits | before | right | now | right |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['name']} | {r['audits']:,} | {r['before']} | {r['right_before']:.3f} | {r['now']} | {r['right']:.3f} |"
            for r in rows
        ),
        "",
    ]


def _of_images(rows: list[dict[str, Any]]) -> list[str]:
    """The part on calibrations of some people and runs of others; nothing where it was not run."""
    if not rows:
        return []
    return [
        "### A calibration of some people, a run of others",
        "",
        f"Audits of 40 x 16 images, calibrations of 200, true unanimity {rows[0]['truth']:.3f}; the readings are a classifier's",
        "own (`scripts/validation/images.py`; `python -m scripts.validate_statistics --images [UTKFACE CLIP]`).",
        "Drawn: portraits through the sandbox's CLIP, the young blurred, so that error goes with age. White, Asian,",
        "Indian: utkface-1000 through photo-clip. `said not to fit` is the test's size if both are the same kind,",
        "else its power. Before there was a test, the corrected figure was always shown; `leads and is wrong` is",
        "what is left of that.",
        "",
        "| calibrated on | run on | audits | said not to fit | corrected, mean | covered before | leads and is wrong |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['calibrated_on']} | {r['run_on']} | {r['audits']:,} | {r['refused']:.3f} | {r['corrected']:.3f} | {r['covered_before']:.3f} | {r['wrong_now']:.3f} |"
            for r in rows
        ),
        "",
    ]


def write_json(path: Path, results: list[Result], extra: dict[str, Any]) -> None:
    """Write everything, one setting a line."""
    rows = []
    for r in results:
        row = {**asdict(r.setting), **{k: v for k, v in asdict(r).items() if k != "setting"}, "reached": r.reached}
        rows.append(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}))
    rest = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in extra.items())
    lines = ",\n".join(rows)
    path.write_text(f'{{{rest},\n"results": [\n{lines}\n]}}\n', encoding="utf-8")
