"""The two image servers of one's own, with every fault and three kills: it completes, and what had arrived is not drawn again."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.image_services import REFUSED
from tests.local_servers import LocalServers
from tests.models.generators.hosted_kills import Caller
from tests.places import REPOSITORY

PROMPTS = [f"a {REFUSED} thing {n}" if n in (2, 7) else f"prompt {n}" for n in range(20)]
KILLS = (5, 25, 45)
"""Images drawn when the caller is killed, before it has the last of them."""
LOST = (12, 33)
"""Those whose answer is lost on the way."""
SETTINGS: dict[str, dict[str, Any]] = {
    "web-ui": {"sampler": "Euler a"},
    "comfyui": {
        "workflow": str(REPOSITORY / "configs/workflows/comfyui-checkpoint.json"),
        "inputs": {"prompt": "Prompt.text", "seed": "Sampler.seed"},
        "values": {"Checkpoint.ckpt_name": "model.safetensors"},
        "poll_seconds": 0.01,
    },
}
PASSING = [(503, {"detail": "busy"}), (502, b"<html>bad gateway</html>"), (429, {"detail": "busy"})]
LASTING = [(500, {"detail": "CUDA out of memory"}), (200, {"images": ["%%%"], "prompt_id": 3}), (200, {})]
"""Of these the image is a failed row."""


def asked_for(body: Any) -> str:
    """The prompt of a request to draw."""
    return str(body["prompt"]["positive"]["inputs"]["text"] if isinstance(body["prompt"], dict) else body["prompt"])


def seed_of(body: Any) -> int:
    return int(body["prompt"]["sampler"]["inputs"]["seed"] if isinstance(body["prompt"], dict) else body["seed"])


@pytest.mark.parametrize("backend", SETTINGS)
def test_twenty_prompts_with_every_fault_and_three_kills(tmp_path: Path, backend: str) -> None:
    turned_down: Counter[str] = Counter()
    requests = 0
    places = random.Random(backend).sample(range(1, 60), len(PASSING) + len(LASTING))
    faults = dict(zip(places, PASSING + LASTING, strict=True))

    def fault(path: str, body: Any) -> tuple[int, Any] | None:
        nonlocal requests
        if path not in ("/sdapi/v1/txt2img", "/prompt"):
            return None
        requests += 1
        if requests in faults:
            return faults.pop(requests)
        if REFUSED in asked_for(body):
            turned_down[asked_for(body)] += 1
            return 403, {"detail": "the request was rejected by content moderation"}
        return None

    with LocalServers() as server:
        settings = {"base_url": server.base_url, "timeout": 10.0, "max_retries": 3, **SETTINGS[backend]}
        caller = Caller(tmp_path / "run", backend, settings, {"NO_PROXY": "*"}, (PROMPTS, 4))

        def lost(number: int) -> bool:
            if number in KILLS:
                caller.kill()
            return number in (*KILLS, *LOST)

        server.fault, server.lost = fault, lost
        assert [caller.run() for _ in KILLS] == [-9, -9, -9]
        assert caller.run() == 0
        drawn = Counter(
            (asked_for(b), seed_of(b)) for b in ({"prompt": d} if "positive" in d else d for d in server.drawn)
        )

    journal = caller.journal()
    kinds = Counter(entry["kind"] for entry in journal.values())
    failed = len(LASTING)
    assert not faults
    assert kinds == {"Generated": 72 - failed, "Refused": 8, "Failed": failed}
    assert turned_down == Counter({prompt: 4 for prompt in PROMPTS if REFUSED in prompt}), "each refusal once"
    assert len(drawn) == 72 - failed
    again = drawn.total() - len(drawn)
    assert again == len(KILLS) + len(LOST), "what had arrived was drawn again"
    assert max(drawn.values()) == 2
