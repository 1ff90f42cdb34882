"""Sentences of the comparison page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allfour.pipeline.analyses.comparison.verdict import BECAUSE, DIFFERS
from allfour.pipeline.words import (
    all_of,
    clean,
    grouped,
    join_words,
    label_text,
    level,
    p_value,
    percent,
    percent_exact,
    plural,
    points,
    points_interval,
    quantity,
    run_name,
    word,
)

METHOD = (
    "Prompts are paired: each is compared with itself, so how much prompts differ among themselves is no part of the uncertainty. "
    "The unit is the prompt, and images of one prompt are never counted as independent where prompts are averaged.",
    "The number of prompts whose first set is unanimous is tested by McNemar's exact test on the prompts that changed. Mean "
    "shares, and unanimity over all images, are tested by flipping the signs of the prompts' differences. Intervals are those of the "
    "mean of paired differences, with one unseen change either way counted in, so that two equal runs are not declared equal for "
    "certain. Where the runs hold different numbers of images, unanimity is how often a set drawn from all images of a prompt agrees, "
    "which is the same whatever their number, and is tested by dealing each prompt's images to the two runs anew.",
    "The mean change of a prompt is the average distance that shares moved, whichever way; what sampling alone would show stands "
    "beside it, and the test deals each prompt's images to the two runs anew. Single prompts are tested by Fisher's exact test, "
    "adjusted over prompts so that of those said to differ at most 5% are expected not to (Benjamini and Hochberg).",
    "A classifier that errs equally in both runs makes every difference look smaller than it is. One that errs more on the pictures of one "
    "model than on those of the other makes a difference where there is none. With a calibration on both sides that passes its checks the "
    "errors are taken out, each run's own; the limits then carry what either calibration leaves open too. Without, the first lines say so, and "
    "how large an unequal error would explain the difference by itself.",
    "No difference shown is not the same as no difference: the interval says how large a one the runs leave open.",
)


FEW_IMAGES = 8
"""Sets so small change sides by sampling alone."""


def finding(comparison: Mapping[str, Any]) -> tuple[str, str]:
    """Whether a difference is shown, and what must be known with it: `No difference shown.`, `9 of 20 prompts changed sides all the same …`"""
    pairs, references = comparison["comparisons"], comparison["references"]
    size, attribute = comparison["set_size"], label_text(comparison["headline"])
    if not pairs:
        entry = references[0]
        gap = entry["summary"]["mean_absolute_difference"]
        name = clean(entry["reference"]["name"], 80)
        counted, without = entry["summary"]["prompts"], entry["summary"].get("prompts_without") or 0
        over = (
            f"{grouped(counted)} of {quantity(counted + without, 'prompt')}" if without else quantity(counted, "prompt")
        )
        if gap["value"] is None:
            return f"No image has a label that could be set beside {name}.", ""
        low, high, floor = (points(gap[key], sign=False) for key in ("low", "high", "floor"))
        return (
            f"{points(gap['value'], sign=False)} points away from {name}, on average over {over}.",
            f"{low} to {high} ({level(comparison['confidence'])} interval), where images so few would seem {floor} away from what they are drawn from.",
        )
    if len(pairs) > 1:
        counted = [f"{run['summary']['unanimous']} in {run_name(run['name'], 40)}" for run in comparison["runs"]]
        return f"Prompts with {all_of(size)} images of one perceived {attribute}: {join_words(counted)}.", ""
    summary = pairs[0]["summary"]
    lead = summary.get("headline")
    if lead is not None and lead["figure"] != "unanimity_difference" and lead["value"] is not None:
        return _of_sets(summary, lead, kind=f"one perceived {attribute}", size=size)
    return _of_prompts(summary, lead, kind=f"{all_of(size)} images of one perceived {attribute}", size=size)


def _of_prompts(summary: Mapping[str, Any], lead: Mapping[str, Any] | None, *, kind: str, size: int) -> tuple[str, str]:
    """The finding where it is one of the first sets as they were read."""
    moves = summary["unanimous"]
    one, two, total = moves["first"], moves["second"], moves["prompts"]
    if not total:
        return f"No prompt has a whole set of {word(size)} images in both runs.", ""
    p = summary["unanimity_difference"]["p_value"]
    verdict = lead["verdict"] if lead is not None else None
    if verdict != "equivalent" and p is not None and p <= DIFFERS:
        more = "More" if two > one else "Fewer"
        return f"{more} prompts with {kind}: {grouped(two)} of {quantity(total, 'prompt')}, {grouped(one)} before.", ""
    text = f"{_no_difference(summary['unanimity_difference'], verdict)}."
    if changed := moves["gained"] + moves["lost"] + moves["turned"]:
        few = f", as is common with only {word(size)} images" if size <= FEW_IMAGES else ""
        return text, f"Still, {grouped(changed)} of {quantity(total, 'prompt')} changed sides{few}."
    return text, f"No prompt of {grouped(total)} changed sides."


def counts(comparison: Mapping[str, Any]) -> str:
    """`All four images show one perceived gender for 11 of 20 prompts in sandbox, for 13 in seed1.`; nothing where the finding says it."""
    pair = comparison["comparisons"][0]
    moves, lead = pair["summary"]["unanimous"], pair["summary"].get("headline")
    p = pair["summary"]["unanimity_difference"]["p_value"]
    by_sets = lead is not None and lead["figure"] != "unanimity_difference" and lead["value"] is not None
    if by_sets or not moves["prompts"] or (p is not None and p <= DIFFERS):
        return ""
    whole, attribute = all_of(comparison["set_size"]), label_text(comparison["headline"])
    first, second = run_name(pair["first"]), run_name(pair["second"])
    one, two = grouped(moves["first"]), grouped(moves["second"])
    beside = f"in {first}, for {two} in {second}" if one != two else "in either run"
    text = (
        f"{whole} images show one perceived {attribute} for {one} of {quantity(moves['prompts'], 'prompt')} {beside}."
    )
    return text[:1].upper() + text[1:]


def found(pair: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """`all 4 images show one perceived gender for 13 of 20 prompts in B and for 11 in A`; shares of sets where the difference is one of these."""
    summary, size = pair["summary"], comparison["set_size"]
    lead, moves = summary.get("headline"), summary["unanimous"]
    kind = f"one perceived {comparison['headline']}"
    if lead is None or lead["figure"] == "unanimity_difference" or lead["value"] is None:
        return (
            f"{all_of(size, digits=True)} images show {kind} for {moves['second']} of {quantity(moves['prompts'], 'prompt')} in "
            f"{run_name(pair['second'])} and for {moves['first']} in {run_name(pair['first'])}"
        )
    entry, about = summary[lead["figure"]], "about " if lead["evidence"] == "corrected" else ""
    one, two = percent(_within(entry["first"])), percent(_within(entry["second"]))
    return (
        f"{about}{two} of sets of {size} images show {kind} in {run_name(pair['second'])} and {about}{one} in {run_name(pair['first'])}, over "
        f"{quantity(entry['prompts'], 'prompt')}"
    )


def _of_sets(summary: Mapping[str, Any], lead: Mapping[str, Any], *, kind: str, size: int) -> tuple[str, str]:
    """The finding where it is one of all sets that could be drawn, as read or corrected."""
    entry = summary[lead["figure"]]
    one, two = percent(_within(entry["first"])), percent(_within(entry["second"]))
    what = f"sets of {word(size)} images show {kind}"
    about = "about " if lead["evidence"] == "corrected" else ""
    if lead["verdict"] in ("more", "fewer"):
        more = "More" if lead["verdict"] == "more" else "Fewer"
        return f"{more} {what}: {about}{two}, {one} before.", ""
    beside = f"{about}{one} and {two} of {what}." if one != two else f"{about}{one} of {what} in both runs."
    beside = beside[:1].upper() + beside[1:]
    if lead["verdict"] == "too_few_prompts":
        return "Too few prompts for a verdict.", beside
    return f"{_no_difference(entry, lead['verdict'])}.", beside


def _within(share: float) -> float:
    """A corrected estimate may lie a little beyond what a share can be."""
    return min(max(share, 0.0), 1.0)


def _no_difference(entry: Mapping[str, Any], verdict: str | None) -> str:
    if verdict != "equivalent":
        return "No difference shown"
    return f"No difference larger than {points(entry['equivalence']['margin'], sign=False)} points"


def standfirst(pair: Mapping[str, Any], confidence: float) -> str:
    """The leading difference with its uncertainty, what it is made of, and what stands beside it."""
    summary = pair["summary"]
    lead = summary.get("headline") or {"figure": "unanimity_difference", "evidence": "measured", "p_adjusted": None}
    difference, moves = summary[lead["figure"]], summary["unanimous"]
    if difference["value"] is None:
        return "Unanimity cannot be compared."
    first, second = run_name(pair["first"]), run_name(pair["second"])
    corrected = lead["evidence"] == "corrected"
    which = ", with the classifiers' measured errors taken out" if corrected else ""
    text = (
        f"A difference of {points(difference['value'])} points, {second} minus {first}{which} ({level(confidence)} interval "
        f"{points_interval(difference['low'], difference['high'])}; {_tested(difference, lead)})."
    )
    if corrected:
        read = summary["unanimity_all_images_difference"]
        text += (
            f" As the images were read it is {points(read['value'])} ({points_interval(read['low'], read['high'])})."
        )
    elif lead["figure"] == "unanimity_difference":
        text += _changes(moves)
    p = lead["p_adjusted"] if lead["p_adjusted"] is not None else difference["p_value"]
    equal = difference.get("equivalence")
    if p > DIFFERS and not (equal and equal["shown"]):
        none = points(difference["value"]) == "0"
        text += (
            " So none is shown." if none else " A difference this large is common by chance alone, so none is shown."
        )
    if equal:
        shown = "It is shown to be" if equal["shown"] else "It is not shown to be"
        p_equal = equal.get("p_adjusted") if equal.get("p_adjusted") is not None else equal["p_value"]
        text += f" {shown} smaller than {points(equal['margin'], sign=False)} points either way ({p_value(p_equal)})."
    return text


def _tested(difference: Mapping[str, Any], lead: Mapping[str, Any]) -> str:
    own, adjusted = difference["p_value"], lead["p_adjusted"]
    if adjusted is None or abs(adjusted - own) < 1e-12:
        return p_value(own)
    return f"{p_value(own)}, adjusted for several pairs {p_value(adjusted)}"


def _changes(moves: Mapping[str, Any]) -> str:
    """` Two became unanimous, none ceased to be.`"""
    text = ""
    if moves["gained"] or moves["lost"]:
        text += (
            f" {_count(moves['gained'])} became unanimous, {_count(moves['lost']).lower()} ceased to be."
            if moves["gained"]
            else f" {_count(moves['lost'])} ceased to be unanimous, none became so."
        )
    if moves["turned"]:
        text += f" {_count(moves['turned'])} turned from unanimous to all of the other."
    return text


def because(pair: Mapping[str, Any]) -> str | None:
    """What may make such a difference by itself; None where nothing is known to."""
    lead = pair["summary"].get("headline")
    codes = lead["because"] if lead is not None else []
    if not codes:
        return None
    reasons = "; ".join(BECAUSE.get(code, code) for code in codes)
    text = f"{reasons[:1].upper()}{reasons[1:]}."
    error = lead.get("explained_by_error")
    if lead["evidence"] == "measured":
        text = f"Not corrected: {reasons}."
        if error is not None and lead["value"] and lead["verdict"] in ("more", "fewer"):
            read_worse, other = (
                (pair["first"], pair["second"]) if lead["value"] > 0 else (pair["second"], pair["first"])
            )
            text += (
                f" If {percent_exact(error)} more of the images of {run_name(read_worse)} were read wrongly than of those of "
                f"{run_name(other)}, that alone would make this difference."
            )
    return text


def _count(number: int) -> str:
    text = word(number) if number else "none"
    return f"{text[:1].upper()}{text[1:]}"


def change(pair: Mapping[str, Any]) -> str | None:
    """How far single prompts moved, and how far they seem to move by sampling alone."""
    found = pair["summary"]["mean_absolute_change"]
    if found["value"] is None:
        return None
    changed = pair["summary"]["changed_prompts"]
    text = (
        f"The shares of a prompt moved by {points(found['value'], sign=False)} points on average, up or down; sampling alone would move them by "
        f"{points(found['floor'], sign=False)} ({p_value(found['p_value'])})."
    )
    many = quantity(changed, "prompt") if changed else "No single prompt"
    verb = "differs" if changed <= 1 else "differ"
    return f"{text} {many} {verb} by more than chance (adjusted for the number of prompts)."


def verdict(side: Mapping[str, Any], size: int) -> str:
    """`all four women`, `not unanimous`."""
    if not side["evaluated"]:
        return f"fewer than {word(size)} images"
    return f"{all_of(size)} {plural(side['unanimous'])}" if side["unanimous"] else "not unanimous"


def verdict_change(row: Mapping[str, Any], size: int) -> str:
    """`All four women, then not unanimous`."""
    one, two = verdict(row["first"], size), verdict(row["second"], size)
    text = f"{one} in both" if one == two else f"{one}, then {two}"
    return text[:1].upper() + text[1:]


def reference_sentence(entry: Mapping[str, Any]) -> str:
    """A run against a reference in words."""
    summary = entry["summary"]
    gap = summary["mean_absolute_difference"]
    if gap["value"] is None:
        return "No image of these prompts has a label."
    label = plural(summary["label"])
    signed = summary["share_difference"][summary["label"]]
    text = (
        f"{run_name(entry['name'])}: {points(gap['value'], sign=False)} points away on average "
        f"({points(gap['low'], sign=False)} to {points(gap['high'], sign=False)}); a generator with just these shares would seem "
        f"{points(gap['floor'], sign=False)} away at so few images ({p_value(gap['p_value'])}; {points(gap['excess'])} beyond that, "
        f"{points_interval(gap['excess_low'], gap['excess_high'])}). Share of {label} {points(signed['value'])} points on average "
        f"({points_interval(signed['low'], signed['high'])}). "
    )
    differing = summary["differing_prompts"]
    text += f"{grouped(differing)} of {quantity(summary['prompts'], 'prompt')} differ{'s' if summary['prompts'] == 1 else ''} by more than chance."  # fmt: skip
    even = entry["reference"]["name"] == "an even split"
    if not even:
        text += f" {grouped(summary['further_from_even'])} {'lies' if summary['further_from_even'] == 1 else 'lie'} further from an even split than the reference does."
    if without := summary.get("prompts_without"):
        has, is_ = ("has", "is") if without == 1 else ("have", "are")
        lacks = "no image with a label" if even else "no reference, or no image with a label,"
        text += f" {quantity(without, 'prompt')} {has} {lacks} and {is_} left out."
    return text


def names(runs: Sequence[Mapping[str, Any]]) -> str:
    """`sdxl-turbo against sdxl`."""
    text = [run_name(run["name"]) for run in runs]
    return text[0] if len(text) == 1 else f"{join_words(text[1:])} against {text[0]}"
