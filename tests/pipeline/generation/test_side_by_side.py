"""A run whose batches are drawn side by side, interrupted and gone on with: the table is that of a run that was left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from allfour.models import devices
from allfour.models.generators._diffusion import lanes
from allfour.models.generators.stable_diffusion import StableDiffusion
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.generate import generate_images
from allfour.pipeline.generation.plan import Plan, make_plan
from allfour.pipeline.run.folder import RunFolder

MODEL = "models/sandbox/diffusion"


def plan(tmp_path: Path) -> Plan:
    path = tmp_path / "prompts.yaml"
    path.write_text("name: p\nprompts:\n" + "".join(f"  - a photo of person {k}\n" for k in range(4)))
    prompts = {"file": str(path), "images_per_prompt": 4}
    return make_plan(RunConfig.model_validate({"classifier": {"backend": "face"}, "prompts": prompts}))


def test_an_interrupted_run_goes_on_to_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(devices, "granted_cores", lambda: 2)
    torch.set_num_threads(2)
    try:
        generator = StableDiffusion(model=MODEL, device="cpu", steps=2, guidance_scale=1.0, batch_size=4)
        if not generator._products_agree():
            pytest.skip(
                "this processor sums matrix products in another order on one core: nothing is drawn side by side"
            )
        whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
        advanced: list[int] = []
        assert generate_images(whole, plan(tmp_path), generator, advance=advanced.append).made == sum(advanced) == 16
        assert generator.facts()["side_by_side"] == 2
        wait, waits = lanes.wait, []

        def second_stops(*arguments: Any, **options: Any) -> Any:
            waits.append(1)
            if len(waits) == 2:
                raise KeyboardInterrupt
            return wait(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(lanes, "wait", second_stops)
            with pytest.raises(KeyboardInterrupt):
                generate_images(stopped, plan(tmp_path), generator)
        result = generate_images(stopped, plan(tmp_path), generator)
        assert result.kept >= 4 and result.kept + result.made == 16
        assert pq.read_table(stopped.images_path).equals(pq.read_table(whole.images_path))
    finally:
        torch.set_num_threads(before)
