"""Do a study's intervals, ranks and pairs keep their word? Simulated studies of three worlds x two prompt sets, against a known truth.

Writes docs/validation-studies.md; some minutes of a free core:

    python -m scripts.validate_studies [--studies 500] [--out docs/validation-studies.md]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import special

from allfour.pipeline.analyses.comparison.comparability import LoadedRun
from allfour.pipeline.analyses.comparison.compare import compare
from allfour.pipeline.analyses.study.boards import Placed, boards_of
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Accounting, Metrics, Prompt, Summary
from allfour.pipeline.run.study import Board

SET_SIZE = 4
_TRUTH_DRAWS = 2_000_000
Shares = np.ndarray
"""Share of the first label, one per subject."""


def base_logits(subjects: int, random: np.random.Generator) -> Shares:
    """Subjects of a population in which most prompts lean one way, as in published counts of occupations."""
    return special.logit(np.clip(random.beta(0.6, 0.6, subjects), 1e-6, 1 - 1e-6))


def planted(base: Shares, random: np.random.Generator) -> Shares:
    return special.expit(base)


def mitigated(base: Shares, random: np.random.Generator) -> Shares:
    return (special.expit(base) + 0.5) / 2


def even(base: Shares, random: np.random.Generator) -> Shares:
    return np.full(len(base), 0.5)


def alike(base: Shares, random: np.random.Generator) -> Shares:
    """Another model with as much bias on average, elsewhere: its logits differ from the base's, and spread as much."""
    return special.expit(0.8 * base + 0.6 * base_logits(len(base), random))


WORLDS: Mapping[str, Mapping[str, Callable[[Shares, np.random.Generator], Shares]]] = {
    "three worlds that differ": {"planted": planted, "mitigated": mitigated, "even": even},
    "three equal models": {"one": planted, "two": planted, "three": planted},
    "three models with one mean, other prompts": {"one": alike, "two": alike, "three": alike},
}


def unanimous(shares: Shares) -> Shares:
    return shares**SET_SIZE + (1 - shares) ** SET_SIZE


def run_of(name: str, women: np.ndarray, images: int) -> LoadedRun:
    prompts = [
        Prompt(id=f"p{k}", text="", images=images, counts={"woman": int(w), "man": int(images - w)})
        for k, w in enumerate(women)
    ]
    total = images * len(women)
    metrics = Metrics(
        format=1, labels={"gender": ["woman", "man"]}, prompts=prompts, summary=Summary(set_size=SET_SIZE, prompts=len(women)),
        accounting=Accounting(requested=total, generated=total, scored=total, labelled=total),
    )  # fmt: skip
    return LoadedRun(name, Path(name), Header(format=1, classifier={"backend": "simulated"}), metrics, None)


def simulate(
    worlds: Mapping[str, Callable[..., Shares]], subjects: int, images: int, random: np.random.Generator
) -> list[Board]:
    """The boards between models of one study: two prompt sets over the same subjects, the second a nudge away from the first."""
    base = base_logits(subjects, random)
    placed = []
    for prompt_set, nudge in (("photo", 0.0), ("art", 0.5)):
        wording = base + nudge * random.normal(size=subjects)
        for name, world in worlds.items():
            shares = world(wording, random)
            found = run_of(f"{name}-{prompt_set}", random.binomial(images, shares), images)
            placed.append(Placed(found.name, {"generator": name, "prompts": prompt_set, "classifier": ""}, found))
    boards, _, _ = boards_of(placed, pair_by="id", confidence=0.95)
    return boards


def truths(worlds: Mapping[str, Callable[..., Shares]]) -> dict[tuple[str, str], float]:
    """World and prompt set -> unanimity over the population of subjects."""
    random = np.random.default_rng(12345)
    base = base_logits(_TRUTH_DRAWS, random)
    found = {}
    for prompt_set, nudge in (("photo", 0.0), ("art", 0.5)):
        wording = base + nudge * random.normal(size=len(base))
        for name, world in worlds.items():
            found[name, prompt_set] = float(unanimous(world(wording, random)).mean())
    return found


def row(title: str, subjects: int, images: int, studies: int, seed: int) -> str:
    """One setting: coverage of intervals and ranks, shares of a rank, and pairs told apart with their sign."""
    worlds = WORLDS[title]
    truth = truths(worlds)
    random = np.random.default_rng(seed)
    covered = ranks = shared = false = found = wrong_sign = pairs = differing = 0
    for _ in range(studies):
        boards = simulate(worlds, subjects, images, random)
        all_ranks, any_false, any_split = True, False, False
        for board in boards:
            if board.axis != "generator":
                continue
            prompt_set = board.fixed["prompts"]
            own = {run.level: truth[run.level, prompt_set] for run in board.runs}
            for run in board.runs:
                low, high = run.unanimity.low, run.unanimity.high
                covered += low is not None and high is not None and low <= own[run.level] <= high
                below = sum(value < own[run.level] - 0.002 for value in own.values())
                above = sum(value > own[run.level] + 0.002 for value in own.values())
                all_ranks &= run.rank_low <= len(own) - above and run.rank_high >= 1 + below
                any_split |= (run.rank_low, run.rank_high) != (1, len(own))
            for pair in board.pairs:
                difference = own[pair.second] - own[pair.first]
                if abs(difference) < 0.002:
                    any_false |= pair.apart
                    continue
                differing += 1
                found += pair.apart
                wrong_sign += pair.apart and (pair.unanimity.value or 0) * difference < 0
            pairs += 1
        ranks += all_ranks
        shared += not any_split
        false += any_false
    runs = studies * 2 * len(worlds)
    equal = len(set(np.round(list(truth.values()), 2))) <= 2 and title != "three worlds that differ"
    power = f"{found / differing:.3f}" if differing else "-"
    sign = f"{wrong_sign / differing:.4f}" if differing else "-"
    return (
        f"| {title} | {subjects} | {images} | {covered / runs:.3f} | {ranks / studies:.3f} | {shared / studies:.3f} | "
        f"{f'{false / studies:.3f}' if equal else '-'} | {power} | {sign} |"
    )


def variant(found: LoadedRun, name: str) -> LoadedRun:
    """The same images under other words: ids and texts differ, subjects are those of the run."""
    prompts = [
        prompt.model_copy(update={"id": f"{prompt.id}-{name}", "text": f"{name} {prompt.id}", "subject": prompt.id})
        for prompt in found.metrics.prompts
    ]
    return replace(found, metrics=found.metrics.model_copy(update={"prompts": prompts}))


def pair_row(second: str, subjects: int, images: int, pairs: int, seed: int) -> str:
    """Two runs of other words over the same subjects, by `compare --pair-by subject`: how often the first line calls them different."""
    random = np.random.default_rng(seed)
    worlds = {"equal": planted, "mitigated": mitigated}
    apart = wrong = 0
    for _ in range(pairs):
        base = base_logits(subjects, random)
        one, two = (
            variant(run_of(name, random.binomial(images, world(base, random)), images), name)
            for name, world in (("baseline", planted), ("other", worlds[second]))
        )
        found = compare([one, two], pair_by="subject").comparisons[0].summary.headline
        assert found is not None
        apart += found.verdict in ("more", "fewer")
        wrong += found.verdict == "more"
    sign = f"{wrong / pairs:.3f}" if second == "mitigated" else "-"
    return f"| {second} | {subjects} | {images} | {apart / pairs:.3f} | {sign} |"


def pair_section(pairs: int, seed: int = 1) -> list[str]:
    rows = [
        pair_row(
            second,
            subjects,
            images,
            pairs * (4 if second == "equal" else 1),
            seed + 10 * subjects + images + (second == "mitigated"),
        )
        for second in ("equal", "mitigated")
        for subjects, images in ((20, 8), (40, 8))
    ]
    return [
        "## Two runs of other words: `compare --pair-by subject`",
        "",
        f"Simulated pairs of a baseline and a variant of the same subjects, {4 * pairs:,} per row where they are equal and {pairs:,} where",
        "not: the share whose verdict is that they differ (at most 0.05 where they are equal), and of those that are mitigated the share",
        "called more often of one kind. Equal runs are dealt alike to either side, so that the sign flips behind the verdict are exact at 5%; the",
        f"shares below have a standard error of {100 * (0.05 * 0.95 / (4 * pairs)) ** 0.5:.1f} points.",
        "",
        "| second run | subjects | images | called different | wrong sign |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def page(studies: int, seed: int = 0) -> str:
    rows = [
        row(title, subjects, images, studies, seed + 100 * k + 10 * subjects + images)
        for k, title in enumerate(WORLDS)
        for subjects, images in ((20, 4), (20, 16), (40, 8))
    ]
    return "\n".join(
        [
            "# Validation: do a study's intervals and ranks keep their word?",
            "",
            f"Written by `python -m scripts.validate_studies`. {studies:,} simulated studies per row: three models x two prompt sets over the same",
            "subjects, who are a sample of a population (shares Beta(0.6, 0.6); the second prompt set is 0.5 away on the logit). Sets of four;",
            "labels without error. `planted` shows the population's shares, `mitigated` is halfway to a half, `even` is a half everywhere.",
            "",
            "- **intervals**: share of all runs whose 95% interval of unanimity holds the population's.",
            "- **ranks**: studies in which every rank interval of every board holds the true rank (equal models may have any of theirs).",
            "- **share a rank**: studies in which no model is distinguished from another on any board.",
            "- **told apart wrongly**: studies with any pair of equal models told apart; at most 0.05 is promised.",
            "- **power**, **wrong sign**: of pairs that differ, the share told apart, and the share with the wrong",
            "sign.",
            "",
            "| models | subjects | images | intervals | ranks | share a rank | told apart wrongly | power | wrong sign |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            *pair_section(studies),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("docs/validation-studies.md"))
    arguments = parser.parse_args()
    arguments.out.write_text(page(arguments.studies), encoding="utf-8")
    print(arguments.out)


if __name__ == "__main__":
    main()
