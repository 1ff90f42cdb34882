"""scripts/bench_generation.py: what it reports, and that its models have the published sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.bench_generation import flops_of, main, parameters, parse


def test_the_tiny_model_gives_a_whole_report(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    main(
        ["--model", "tiny", "--device", "cpu", "--images", "2", "--batch", "2", "--steps", "2", "--rounds", "1",
         "--compile", "false", "--out", str(out)]
    )  # fmt: skip
    found = json.loads(out.read_text())
    assert {"date", "device", "dtype", "versions", "batch", "compile_s", "flops", "matrix_flops_per_s"} <= found.keys()
    assert {"torch", "diffusers"} <= found["versions"].keys()
    assert found["compiled"] is False
    speeds = found["speeds"]
    assert speeds.keys() == {"ours", "diffusers_one", "diffusers_batch", "ours_over"}
    assert all(
        speeds[name]["img_per_s"] > 0 and speeds[name]["warm_up_s"] > 0 for name in speeds if name != "ours_over"
    )
    assert speeds["ours_over"].keys() == {"diffusers_one", "diffusers_batch"}
    flops = found["flops"]
    assert flops["unet_forward"] > 0
    assert flops["per_image"] == 2 * 2 * flops["unet_forward"] + flops["vae_decode"]  # two steps, two passes each
    share = speeds["ours"]["img_per_s"] * flops["per_image"] / found["matrix_flops_per_s"]
    assert found["ours_share_of_rate"] == pytest.approx(share)
    # Same prompts, seeds and weights: the same pictures, so the files are about as large.
    assert speeds["ours"]["png_bytes"] == pytest.approx(speeds["diffusers_one"]["png_bytes"], rel=0.01)


def test_stable_diffusion_15_has_its_published_size() -> None:
    assert parameters("sd15")["unet"] == pytest.approx(859.5e6, rel=1e-4)
    # 0.68 TFLOP in convolutions and linear layers, as published counts have it, and 0.126 in attention's products.
    assert flops_of("sd15", size=512, steps=1)["unet_forward"] == pytest.approx(0.803e12, rel=0.01)


def test_stable_diffusion_xl_has_its_published_size() -> None:
    assert parameters("sdxl")["unet"] == pytest.approx(2567e6, rel=1e-3)


def test_images_are_whole_batches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--images", "10", "--batch", "4"])
    assert "must be a multiple of --batch 4" in capsys.readouterr().err
