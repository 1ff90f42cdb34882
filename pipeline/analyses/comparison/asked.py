"""Prompts that ask for a label of the headline's attribute are in no figure of a comparison, as they are in none of a run; they are listed.

What a prompt asks for in so many words, "a woman who is a plumber", is no leaning of the model that shows it. Where one run says that a
prompt asks, the same prompt of another that does not say so, such as an archive without its prompt set, is left out too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from allfour.pipeline.analyses.comparison.comparability import LoadedRun
from allfour.pipeline.run.asked import AskedInRuns, AskedSide
from allfour.pipeline.words import clean, grouped, join_words, quantity


def without_asking(runs: Sequence[LoadedRun]) -> tuple[list[LoadedRun], list[AskedInRuns]]:
    """The runs without those prompts, and the prompts with how often each run shows what they ask for."""
    asked: dict[tuple[str, str], str] = {}
    for run in runs:
        for prompt in run.metrics.prompts:
            if (label := prompt.expect.get(run.metrics.headline)) is not None:
                asked.setdefault((prompt.id, prompt.text), label)
    if not asked:
        return list(runs), []
    sides: dict[tuple[str, str], list[AskedSide]] = {key: [] for key in asked}
    own = []
    for run in runs:
        kept = []
        for prompt in run.metrics.prompts:
            key = prompt.id, prompt.text
            if key in asked:
                shown = prompt.counts.get(asked[key], 0)
                sides[key].append(AskedSide(run=run.name, shown=shown, images=prompt.images))
            else:
                kept.append(prompt)
        own.append(replace(run, metrics=run.metrics.model_copy(update={"prompts": kept})))
    listed = [AskedInRuns(id=key[0], text=key[1], label=label, sides=sides[key]) for key, label in asked.items()]
    return own, listed


def asked_note(listed: Sequence[AskedInRuns], headline: str) -> str:
    """That such prompts are in no figure."""
    asks, they = ("asks", "It is") if len(listed) == 1 else ("ask", "They are")
    return (
        f"{quantity(len(listed), 'prompt')} {asks} explicitly for a perceived {clean(headline, 40)}. {they} left out of every figure here and listed with how "
        "often the images show it."
    )


def all_ask(runs: Sequence[LoadedRun], listed: Sequence[AskedInRuns], headline: str) -> str:
    """Why runs of which every prompt asks are not compared, with how often they show what is asked for."""
    rates = []
    for run in runs:
        by_label: dict[str, list[int]] = {}
        for prompt in listed:
            for side in prompt.sides:
                if side.run == run.name:
                    total = by_label.setdefault(prompt.label, [0, 0])
                    total[0], total[1] = total[0] + side.shown, total[1] + side.images
        found = join_words(
            f"{clean(label, 40)} {grouped(a)} of {quantity(b, 'image')}" for label, (a, b) in by_label.items()
        )
        rates.append(f"{run.name}: {found}")
    return (
        f"every prompt of {join_words(run.name for run in runs)} asks explicitly for a perceived {clean(headline, 40)}, so what the "
        f"images show is no sign of bias. How often they show what was asked for: {'; '.join(rates)}. Each run's report has this with intervals"
    )
