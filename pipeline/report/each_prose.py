"""What is settled of a prompt's own question, in words."""

from __future__ import annotations

from allfour.pipeline.metrics.each_prompt import parse_question
from allfour.pipeline.metrics.stopping import SHARE, StopRule, Term
from allfour.pipeline.run.each import Each, EachPrompt
from allfour.pipeline.words import interval_text, join_words, percent, plural, quantity


def settled_text(prompt: EachPrompt, rule: StopRule) -> str | None:
    """What is settled, in words: `more than 50% women`; None where nothing is."""
    way = next(
        (way for way in rule.ways if prompt.settled and all(term.holds(prompt.figures[term.figure]) for term in way)),
        None,
    )
    return None if way is None else join_words(_in_words(term) for term in way)


def _in_words(term: Term) -> str:
    who, line = plural(term.figure.removeprefix(SHARE)), percent(term.threshold)
    if term.part == "width":
        return f"share of {who} known to {round(100 * term.threshold)} points"
    return f"{'more' if term.part == 'low' else 'fewer'} than {line} {who}"


def each_note(each: Each | None, prompt_id: str) -> str | None:
    """What the row of a prompt says of it, where it has images beyond the run's; None where it has none."""
    found = next((p for p in each.prompts if p.id == prompt_id), None) if each is not None else None
    if each is None or found is None or not found.more:
        return None
    figures = ", ".join(
        f"{percent(at.value)} {plural(name.removeprefix(SHARE))} ({interval_text(at.low, at.high)} at every look)"
        for name, at in list(found.figures.items())[:1]
    )
    return f"with {quantity(found.more, 'extra image')} (counted in no other figure): {figures}, {settled_text(found, parse_question(each.expression)) or 'not settled'}"
