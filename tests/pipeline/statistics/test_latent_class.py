"""Errors of readers without labels: planted ones are found, and what cannot be known is not claimed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allfour.pipeline.statistics.latent_class import latent_classes
from scripts.validation.readers import PLANTED, simulated_decisions, true_errors


def found(**settings: Any) -> Any:
    random = np.random.default_rng(3)
    patterns, counts, truth = simulated_decisions(PLANTED, random, **settings)
    return latent_classes(patterns, counts, labels=2, draws=60), true_errors(PLANTED, truth)


def test_planted_errors_and_shares_are_found() -> None:
    estimate, errors = found(prompts=400, images=4)
    for reader, rates in enumerate(PLANTED):
        assert estimate.errors[reader].value == pytest.approx(errors[reader], abs=0.02)
        assert estimate.errors[reader].low <= errors[reader] <= estimate.errors[reader].high
        for label in range(2):
            assert [rate.value for rate in estimate.rates[reader][label]] == pytest.approx(rates[label], abs=0.03)
    assert sum(share.value for share in estimate.shares) == pytest.approx(1)
    assert (estimate.settled, estimate.reached) == (True, estimate.starts)


def test_errors_that_readers_share_are_taken_for_what_images_show() -> None:
    alone, errors = found(prompts=400, images=4)
    together, _ = found(prompts=400, images=4, shared=0.5)
    assert together.errors[1].value < errors[1] / 1.6  # reader 1 repeats reader 0 on half of the images
    assert together.errors[2].value > alone.errors[2].value


def test_the_same_decisions_and_seed_give_the_same_limits_and_order_does_not_matter() -> None:
    random = np.random.default_rng(0)
    patterns, counts, _ = simulated_decisions(PLANTED, random, prompts=20, images=4)
    one = latent_classes(patterns, counts, labels=2, draws=20, seed=5)
    assert latent_classes(patterns, counts, labels=2, draws=20, seed=5).errors == one.errors
    swapped = latent_classes(patterns[:, ::-1], counts, labels=2, draws=20, seed=5)
    assert [e.value for e in swapped.errors[::-1]] == pytest.approx([e.value for e in one.errors], abs=1e-4)


def test_full_agreement_is_no_certainty() -> None:
    estimate = latent_classes([[0, 0, 0], [1, 1, 1]], [[4, 0], [0, 4]] * 5, labels=2, draws=20)
    assert all(error.value < 0.01 and error.high > 0.05 for error in estimate.errors)
    assert estimate.expected_agreement == pytest.approx(np.ones((3, 3)), abs=0.01)


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="three readers"):
        latent_classes([[0, 1]], [[4]], labels=2)
    with pytest.raises(ValueError, match="no image"):
        latent_classes([[0, 1, 1]], [[0]], labels=2)


def test_two_readers_leave_their_errors_open() -> None:
    """Why two are refused: two worlds with other errors and other shares give the same table of decisions."""

    def table(share: float, one: tuple[float, float], other: tuple[float, float]) -> Any:
        cells = [share, 1 - share]
        rates = [np.array([[r[0], 1 - r[0]], [1 - r[1], r[1]]]) for r in (one, other)]
        return sum(cells[k] * np.outer(rates[0][k], rates[1][k]) for k in (0, 1))

    # the second reader is never wrong in the first world, and the first never in the second
    assert table(0.5, (0.9, 0.9), (1.0, 1.0)) == pytest.approx(table(0.5, (1.0, 1.0), (0.9, 0.9)))
