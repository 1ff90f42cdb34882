"""Images that were not made, and prompts that were rewritten, as findings: how often, for whom, and with which words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.config import WordLists
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.columns import ImageStatus
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import (
    GroupRate,
    PromptRate,
    Rates,
    Rewriting,
    RewrittenCategory,
    RewrittenWord,
    Withheld,
)
from allfour.pipeline.run.record import Interval
from allfour.pipeline.run.tables import connect

MAX_PROMPTS = 50
"""Prompts named one by one, those with the highest rates."""
MAX_WORDS = 20
_TOKEN = re.compile(r"\w+(?:['’-]\w+)*")
_CHUNK = 10_000


def withheld_of_run(run: RunFolder, prompts: Sequence[PromptTally], words: WordLists, *, confidence: float) -> Withheld:
    """Refusals, failures and rewriting of a run.

    Parameters
    ----------
    words
        Which words of a rewritten prompt are counted, by category.
    confidence
        Of every interval.
    """
    known = [p for p in prompts if p.prompted]
    refused = rates(known, ImageStatus.REFUSED, confidence=confidence)
    failed = rates(known, ImageStatus.FAILED, confidence=confidence)
    rewriting = None
    if any(p.revised for p in known):
        with connect(run) as connection:
            found = connection.execute(
                "SELECT prompt_id, prompt, revised_prompt FROM images WHERE prompted AND revised_prompt IS NOT NULL"
            )
            rewriting = rewriting_of(_rows(found), words, confidence=confidence)
    return Withheld(refused=refused, failed=failed, rewriting=rewriting)


def _rows(found: Any) -> Iterable[tuple[str, str, str]]:
    while rows := found.fetchmany(_CHUNK):
        yield from rows


def rates(prompts: Sequence[PromptTally], status: ImageStatus, *, confidence: float) -> Rates:
    """How often images of one status came, overall, per group and per prompt.

    Overall and per group it is the mean of the prompts' rates, for a population of prompts like these; per prompt Wilson's interval.
    """
    events = np.array([p.statuses.get(status, 0) for p in prompts], dtype=np.int64)
    trials = np.array([p.requested for p in prompts], dtype=np.int64)
    names = list(dict.fromkeys(p.group for p in prompts if p.group))
    code = {name: number for number, name in enumerate(names)}
    member = np.array([code.get(p.group or "", -1) for p in prompts])
    grouped = member >= 0
    found = [p.statuses.get(status, 0) / p.requested if p.requested else 0.0 for p in prompts]
    order = sorted(range(len(prompts)), key=lambda k: (-found[k], k))
    return Rates(
        images=int(events.sum()),
        requested=int(trials.sum()),
        rate=_rate(events, trials, confidence),
        groups={
            name: GroupRate(
                prompts=int((member == number).sum()),
                images=int(events[member == number].sum()),
                requested=int(trials[member == number].sum()),
                rate=_rate(events[member == number], trials[member == number], confidence),
            )
            for name, number in code.items()
        },
        p_value=st.group_homogeneity(events[grouped], trials[grouped], member[grouped]),
        prompts=[
            PromptRate(
                id=prompts[k].id,
                images=int(events[k]),
                requested=int(trials[k]),
                rate=Interval.of(st.wilson(int(events[k]), int(trials[k]), confidence=confidence)),
            )
            for k in order[:MAX_PROMPTS]
            if events[k]
        ],
    )


def _rate(events: np.ndarray[Any, Any], trials: np.ndarray[Any, Any], confidence: float) -> Interval:
    return Interval.of(st.rate_over_prompts(events, trials=trials, confidence=confidence))


def rewriting_of(rows: Iterable[tuple[str, str, str]], words: WordLists, *, confidence: float) -> Rewriting | None:
    """Which words of the lists a service put into prompts, or took out of them.

    A word counts once per image: added where it stands in the rewritten prompt and not in the given one, taken the other way round.

    Parameters
    ----------
    rows
        (prompt id, prompt, rewritten prompt) of each image.
    """
    images: Counter[str] = Counter()
    changed = 0
    counts: dict[str, tuple[Counter[str], Counter[str]]] = {c: (Counter(), Counter()) for c in words.categories}
    single: dict[str, tuple[Counter[str], Counter[str]]] = {c: (Counter(), Counter()) for c in words.categories}
    before: dict[str, dict[str, set[str]]] = {}
    for prompt_id, prompt, revised in rows:
        images[prompt_id] += 1
        if prompt == revised:
            continue
        changed += 1
        if prompt not in before:
            before = before if len(before) < _CHUNK else {}
            before[prompt] = words_in(prompt, words)
        now = words_in(revised, words)
        for category in words.categories:
            for place, gone in enumerate(
                (now[category] - before[prompt][category], before[prompt][category] - now[category])
            ):
                if gone:
                    counts[category][place][prompt_id] += 1
                    single[category][place].update(gone)
    if not changed:
        return None

    def share(found: Mapping[str, int]) -> Interval:
        events = [found.get(prompt_id, 0) for prompt_id in images]
        return Interval.of(st.rate_over_prompts(events, trials=list(images.values()), confidence=confidence))

    return Rewriting(
        images=sum(images.values()),
        changed=changed,
        prompts=len(images),
        lists=words.name,
        categories={
            category: RewrittenCategory(
                added=share(added),
                taken=share(taken),
                images_added=sum(added.values()),
                images_taken=sum(taken.values()),
                words=_words(*single[category]),
            )
            for category, (added, taken) in counts.items()
        },
    )


def _words(added: Counter[str], taken: Counter[str]) -> list[RewrittenWord]:
    every = added + taken
    return [
        RewrittenWord(word=word, added=added[word], taken=taken[word])
        for word, _ in sorted(every.items(), key=lambda e: (-e[1], e[0]))[:MAX_WORDS]
    ]


def words_in(text: str, words: WordLists) -> dict[str, set[str]]:
    """Words of each category that stand in a text, as whole words, whatever their case.

    >>> lists = WordLists(name="x", categories={"gender": ["woman", "non-binary"], "age": ["middle aged"]})
    >>> found = words_in("A middle aged Woman, not womanly", lists)
    >>> found["gender"], found["age"]
    ({'woman'}, {'middle aged'})
    """
    flat = " " + " ".join(_TOKEN.findall(text.casefold())) + " "
    return {
        category: {w for w in listed if f" {w.casefold()} " in flat} for category, listed in words.categories.items()
    }
