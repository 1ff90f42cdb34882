"""The table of scripts/gpu_check.py: on a CPU it runs what a CPU can, and tells failing from nothing to check."""

from __future__ import annotations

import pytest

from scripts import gpu_check


def test_on_a_cpu_what_can_be_checked_passes_and_the_rest_is_named() -> None:
    few = (
        "device",
        "black and broken pixels",
        "safety checker",
        "memory layout",
        "memory meter",
        "compiling",
        "offloading",
        "several GPUs",
    )
    lines = gpu_check.run({name: gpu_check.CHECKS[name] for name in few}, "cpu")
    assert [line.result for line in lines] == ["pass", "pass", "pass", "-", "-", "-", "-", "-"]
    assert "| compiling | - |" in gpu_check.table(lines)


def test_a_failing_check_is_a_line_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(device: str) -> str:
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(gpu_check, "CHECKS", {"broken": broken, "device": lambda device: "fine"})
    assert gpu_check.main(["--device", "cpu"]) == 1
    output = capsys.readouterr().out
    assert "| broken | FAILED |" in output
    assert "| device | pass |" in output
    assert "FAILED: broken on cpu" in output
