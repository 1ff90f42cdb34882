"""Batches of a small model side by side on a CPU: the same bytes as one by one, and nothing lost or left running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from allfour.errors import BackendError
from allfour.models import devices
from allfour.models.generators._diffusion import lanes
from allfour.models.generators.base import Failed, Generated, GenerationRequest, Outcome
from allfour.models.generators.stable_diffusion import StableDiffusion
from tests.tiny_diffusion import save_sdxl, save_stable_diffusion

SANDBOX = "models/sandbox/diffusion"
REQUESTS = [GenerationRequest(f"p{k // 4}", k % 4, f"a photo of a person, {k // 4}", seed=k) for k in range(14)]
BATCH = 4


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets how many cores a generator finds that is built next."""
    before = torch.get_num_threads()

    def grant(count: int) -> None:
        monkeypatch.setattr(devices, "granted_cores", lambda: count)
        torch.set_num_threads(count)

    yield grant
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _products_agree() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        if not make(SANDBOX)._products_agree():
            pytest.skip(
                "this processor sums matrix products in another order on one core: nothing is drawn side by side"
            )
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_stable_diffusion(tmp_path_factory.mktemp("lanes") / "tiny"))


def make(model: str, **changes: Any) -> StableDiffusion:
    return StableDiffusion(
        **{"model": model, "device": "cpu", "steps": 2, "guidance_scale": 1.0, "batch_size": BATCH, **changes}
    )


def by_key(outcomes: Any) -> dict[tuple[str, int], Outcome]:
    listed = list(outcomes)
    assert sorted(o.request.key for o in listed) == sorted({o.request.key for o in listed})
    return {o.request.key: o for o in listed}


def drawing() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("draw")]


def one_by_one(
    monkeypatch: pytest.MonkeyPatch, model: str, requests: list[GenerationRequest] = REQUESTS, **changes: Any
) -> dict[tuple[str, int], Outcome]:
    """As several cores draw a batch together, without anything of ours in the networks."""
    with monkeypatch.context() as patch:
        patch.setattr(lanes, "STATELESS", frozenset())
        generator = make(model, **changes)
        outcomes = by_key(generator.generate(requests))
    assert "side_by_side" not in generator.facts()
    return outcomes


@pytest.mark.parametrize(("guidance", "counts", "requests"), [(1.0, (1, 2, 3), REQUESTS), (4.0, (2,), REQUESTS[:10])])
def test_side_by_side_gives_the_bytes_of_one_by_one(
    cores: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    guidance: float,
    counts: tuple[int, ...],
    requests: list[GenerationRequest],
) -> None:
    cores(2)
    together = one_by_one(monkeypatch, SANDBOX, requests, guidance_scale=guidance)
    for count in counts:
        cores(count)
        generator = make(SANDBOX, guidance_scale=guidance)
        found = by_key(generator.generate(requests))
        assert found.keys() == together.keys()
        # what fills no batch is drawn by all cores, as it always was
        same = [r.key for r in requests[: None if count == 2 else -(len(requests) % BATCH)]]
        assert [key for key in same if found[key] != together[key]] == []
        assert generator.facts().get("side_by_side", 1) == count
        assert not drawing()


def test_a_model_of_two_text_encoders(
    cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cores(2)
    model = str(save_sdxl(tmp_path / "xl"))
    together = one_by_one(monkeypatch, model)
    generator = make(model)
    assert by_key(generator.generate(REQUESTS)) == together
    assert generator.facts()["side_by_side"] == 2


def test_only_plain_small_models_are_drawn_side_by_side(cores: Callable[[int], None], tiny: str) -> None:
    cores(2)
    for changes in (
        {"dtype": "bfloat16"},
        {"pipeline_args": {"eta": 0.5}},
        {"batch_size": 3},
        {"height": 512, "width": 512},
    ):
        assert make(tiny, **changes)._cores == 0, changes
    assert make(tiny)._cores == 2


def test_where_products_differ_all_cores_draw_together(
    cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tiny: str
) -> None:
    cores(2)
    alone: list[bool] = []

    def forward(layer: torch.nn.Linear, values: torch.Tensor) -> torch.Tensor:
        alone.append(torch.get_num_threads() == 1)
        return torch.nn.functional.linear(values, layer.weight, layer.bias) + 1e-6 * alone[-1]

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Linear, "forward", forward)
        generator = make(tiny)
    assert generator._cores == 0 and alone[-2:] == [True, False]  # the first that differs settles it
    assert torch.get_num_threads() == 2
    assert len(by_key(generator.generate(REQUESTS))) == len(REQUESTS)
    assert "side_by_side" not in generator.facts()


@pytest.mark.parametrize("place", ["lanes.products_agree", "prompts.PromptEncoder.arguments"])
def test_a_model_that_cannot_draw_says_so_by_its_images(
    cores: Callable[[int], None], tiny: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    cores(2)

    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("a hole in the paper")

    with monkeypatch.context() as patch:
        patch.setattr(f"allfour.models.generators._diffusion.{place}", broken)
        generator = make(tiny)
    assert generator._cores == 0 and not generator._prompts._stored
    monkeypatch.setattr(generator, "_run", broken)
    outcomes = by_key(generator.generate(REQUESTS[:2])).values()
    assert [o.error for o in outcomes if isinstance(o, Failed)] == ["ValueError: a hole in the paper"] * 2


def test_a_failure_in_one_lane_is_that_image_alone(
    cores: Callable[[int], None], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    generator = make(tiny)
    run = generator._run

    def broken(batch: Any, pipe: Any) -> Any:
        if any(request.key == ("p1", 2) for request in batch):
            raise ValueError("a hole in the paper")
        return run(batch, pipe)

    monkeypatch.setattr(generator, "_run", broken)
    outcomes = by_key(generator.generate(REQUESTS))
    assert len(outcomes) == len(REQUESTS)
    failed = [key for key, outcome in outcomes.items() if isinstance(outcome, Failed)]
    assert failed == [("p1", 2)] and "hole" in str(outcomes["p1", 2])


def test_a_lost_device_in_one_lane_ends_them_all(
    cores: Callable[[int], None], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    generator = make(tiny)
    run = generator._run

    def lost(batch: Any, pipe: Any) -> Any:
        if batch[0].key == REQUESTS[BATCH].key:
            raise RuntimeError("CUDA error: the card fell out")
        return run(batch, pipe)

    monkeypatch.setattr(generator, "_run", lost)
    seen: list[Outcome] = []
    with pytest.raises(BackendError, match="the device failed"):
        for outcome in generator.generate(REQUESTS):
            seen.append(outcome)
    assert all(isinstance(outcome, Generated) for outcome in seen)
    assert not drawing()


def test_an_interrupt_gives_up_what_is_under_way(
    cores: Callable[[int], None], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    generator = make(tiny, steps=900)
    begun = threading.Semaphore(0)
    steps = 0

    def step(*_: Any) -> None:
        nonlocal steps
        steps += 1
        begun.release()

    def interrupted(*_: Any, **__: Any) -> Any:
        for _each in range(10):
            assert begun.acquire(timeout=30)
        raise KeyboardInterrupt

    generator._pipe.unet.register_forward_pre_hook(step)
    monkeypatch.setattr(lanes, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(generator.generate(REQUESTS))
    assert steps < 900
    assert not drawing()
