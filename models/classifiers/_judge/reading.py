"""What a judge said -> how probable each answer is, for every person. What cannot be understood is no answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from allfour.border import valid_text
from allfour.models.classifiers._judge.logprobs import Token, answer_probabilities
from allfour.models.classifiers._judge.question import CANNOT_TELL, PEOPLE, Question
from allfour.models.classifiers.base import PersonScores

Person = Mapping[str, Mapping[str, float]]
"""Attribute -> answer (a label, or `cannot tell`) -> probability."""

_THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
_THINKS = "<think>"
_PAIR = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:\s*"((?:[^"\\]|\\.)*)"')
_STARTS_TRIED = 50
_SHOWN = 80


class MalformedError(Exception):
    """An answer that cannot be understood; the message says in what."""


def read_people(text: str, question: Question, *, max_people: int, tokens: Sequence[Token] = ()) -> tuple[Person, ...]:
    """The persons of one answer, from left to right.

    Parameters
    ----------
    text
        What the judge said: JSON, or JSON somewhere in it.
    tokens
        Of `text`, with their probabilities, where the server tells them. Without, an answer has probability 1.

    Raises
    ------
    MalformedError
        There is no such JSON, or it says something that was not among the answers.
    """
    people = _people_in(text)
    if len(people) > max_people:
        raise MalformedError(f"it describes {len(people)} people, and at most {max_people} were asked for")
    answered = [_answers_of(number, person, question) for number, person in enumerate(people)]
    places = _places(text, question) if tokens else {}
    graded = []
    for number, person in enumerate(answered):
        answers: dict[str, Mapping[str, float]] = {}
        for name, answer in person.items():
            options = question.options[name]
            found = places.get(name, ())
            known = None
            if len(found) == len(answered):  # else a name stands there twice, and which is which is not known
                known = answer_probabilities(tokens, text, found[number], options)
            answers[name] = known or {option: float(option == answer) for option in options}
        graded.append(answers)
    return tuple(graded)


def _people_in(text: str) -> list[Any]:
    """The list of people in an answer, which may have thoughts before it, words around it or a fence."""
    last = _THOUGHT.sub("", text).strip()
    if last.startswith(_THINKS):  # what it considers on the way is no answer
        raise MalformedError("its reasoning block is never closed")
    found = _parsed(last)
    if not isinstance(found, Mapping):
        found = _only_object(last)
    if found is None:
        raise MalformedError(f"it holds no JSON: {_cut(last)!r}" if last else "it is empty")
    people = found.get(PEOPLE)
    if not isinstance(people, list):
        raise MalformedError(f"its JSON has no list {PEOPLE!r}: {_cut(last)!r}")
    return people


def _only_object(text: str) -> Mapping[str, Any] | None:
    """The answer among other words. Raises MalformedError where there are several that are not the same."""
    answers: list[Mapping[str, Any]] = []
    end = 0
    for start in [m.start() for m in re.finditer(r"\{", text)][:_STARTS_TRIED]:
        if start < end:  # inside of one that was read
            continue
        try:
            found, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, Mapping) and PEOPLE in found:
            answers.append(found)
    if any(answer[PEOPLE] != answers[0][PEOPLE] for answer in answers):
        raise MalformedError(f"it gives {len(answers)} answers that contradict each other: {_cut(text)!r}")
    return answers[0] if answers else None


def _parsed(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of an answer. JSON readers take the last of two values under one name: here it is a contradiction."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise MalformedError(f"it gives {_cut(name)!r} twice, with different values")
        found[name] = value
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_said_once)
"""Of text that is valid Unicode already."""


def _answers_of(number: int, person: Any, question: Question) -> dict[str, str]:
    """Attribute -> the answer given of it."""
    if not isinstance(person, Mapping):
        raise MalformedError(f"person {number} is not an object")
    answers = {}
    for name, spoken in question.spoken.items():
        value = person.get(name)
        answer = spoken.get(value.strip().lower()) if isinstance(value, str) else None
        if answer is None:
            what = "does not say" if value is None else f"says {_cut(str(value))!r} of"
            raise MalformedError(
                f"for person {number} it {what} {name}, which is not one of {', '.join(question.options[name])}"
            )
        answers[name] = answer
    return answers


def _places(text: str, question: Question) -> dict[str, list[int]]:
    """Attribute -> where in the text each of its values begins, person after person."""
    begin = match.end() if (match := _THOUGHT.match(text)) else 0
    places: dict[str, list[int]] = {}
    for pair in _PAIR.finditer(text, begin):
        if pair[1] in question.options:
            places.setdefault(pair[1], []).append(pair.start(2))
    return places


def _cut(text: str) -> str:
    text = valid_text(text)  # JSON in a text may spell what no text can hold
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def combined(replies: Sequence[Sequence[Person]]) -> list[PersonScores]:
    """The persons of an image from one or more answers about it.

    Answers that differ in how many people there are cannot be laid side by side: those with the number that most have count (of
    two numbers that are as frequent, the smaller), and probabilities are the mean over them. Where `cannot tell` is at least as
    probable as the best label, nothing is said of that attribute; elsewhere labels are scaled to sum to 1.
    """
    times = Counter(len(reply) for reply in replies)
    number = min(times, key=lambda count: (-times[count], count))
    counting = [reply for reply in replies if len(reply) == number]
    return [PersonScores(_mean([reply[place] for reply in counting])) for place in range(number)]


def _mean(same: Sequence[Person]) -> dict[str, dict[str, float]]:
    result = {}
    for name in same[0]:
        mean = {option: sum(person[name][option] for person in same) / len(same) for option in same[0][name]}
        unsure = mean.pop(CANNOT_TELL)
        if max(mean.values()) > unsure:
            total = sum(mean.values())
            result[name] = {label: value / total for label, value in mean.items()}
    return result
