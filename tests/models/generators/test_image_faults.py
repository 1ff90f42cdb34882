"""Every service's shape, with every fault and three kills: it completes, nothing is asked twice, the ledger is the server's count."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from allfour.models._hosted.ledger import read_totals
from tests.image_services import KEY, REFUSED, SHAPES, ImageServices
from tests.models.generators.hosted_helpers import KEY_ENV
from tests.models.generators.hosted_kills import Caller

PROMPTS = [f"a {REFUSED} thing {n}" if n in (2, 7) else f"prompt {n}" for n in range(20)]
FAULTS = ("limit", "down", "drop", "lose", "garbage")
KILLS = (5, 25, 45)
"""Images made when the caller is killed, before it has the last of them."""


@pytest.fixture(scope="module")
def services() -> Iterator[ImageServices]:
    with ImageServices() as running:
        yield running


@pytest.mark.parametrize("shape", SHAPES)
def test_twenty_prompts_with_every_fault_and_three_kills(services: ImageServices, tmp_path: Path, shape: str) -> None:
    known = SHAPES[shape]
    services.shape = shape
    for counter in (services.made, services.refused, services.lost, services.asked, services.wrong):
        counter.clear()
    services.dropped = 0
    places = random.Random(shape).sample(range(1, 80), 2 * len(FAULTS))
    services.faults = {place: FAULTS[k % len(FAULTS)] for k, place in enumerate(places)}
    settings = {
        "base_url": services.base_url(), "api_key_env": KEY_ENV, "model": known.model, "concurrency": 1, "max_retries": 4,
        "timeout": 10.0, "price_per_image": 0.02, "max_cost": 100.0, "currency": "EUR", **known.settings,
    }  # fmt: skip
    caller = Caller(tmp_path / "run", "openai-images", settings, {KEY_ENV: KEY, "NO_PROXY": "*"}, (PROMPTS, 4))

    def kill(number: int) -> bool:
        if number not in KILLS:
            return False
        caller.kill()
        return True

    services.on_made = kill
    assert [caller.run() for _ in KILLS] == [-9, -9, -9]
    assert caller.run() == 0

    journal = caller.journal()
    kinds = Counter(entry["kind"] for entry in journal.values())
    assert len(journal) == 80
    assert kinds["Refused"] == 8, "each refusal is a row, once"
    garbage = sum(fault == "garbage" for fault in services.faults.values())
    assert kinds["Failed"] <= garbage
    assert services.wrong == []
    arrived = services.made + services.refused - services.lost
    assert arrived == Counter(dict.fromkeys(PROMPTS, 4)), "what had arrived was asked for again"
    totals = read_totals(tmp_path / "run" / "ledger.sqlite")
    # Every image that the server made, and what was lost on the way, of which the caller cannot know whether it was made.
    arrived_images = (services.made - services.lost).total() + 8 * known.blackened
    assert totals.answered_images == arrived_images
    assert totals.uncertain_images == services.lost.total() + services.dropped
    assert totals.in_flight == len(KILLS)
    assert totals.attempts == len(services.asked)
