"""The device of a config: found, or one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from allfour.errors import BackendError, ClassifierError
from allfour.models.classifiers._clip.encoder import pick_device
from allfour.models.devices import choose_device, granted_cores
from allfour.models.generators._diffusion import loading
from allfour.pipeline.commands.doctor import diagnose
from allfour.pipeline.config import load_config

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_auto_is_one_of_this_machine() -> None:
    assert choose_device(choose_device("auto")) == choose_device("auto")
    assert choose_device("cpu") == "cpu"
    assert pick_device("auto").type == choose_device("auto")


@NO_GPU
@pytest.mark.parametrize("name", ["cuda", "cuda:1", "nonsense", "", "cpu:3", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ClassifierError, match=r"classifier\.device: .* does not exist"):
        pick_device(name)
    with pytest.raises(BackendError, match=r"generator\.device: .* does not exist"):
        loading.pick_device(name)


@NO_GPU
def test_doctor_sees_it_before_a_run_does(tmp_path: Path) -> None:
    config = load_config(Path("configs/sandbox.yaml"), ["classifier.device=cuda"])
    check = next(check for check in diagnose(config) if check.name.startswith("classifier"))
    assert check.state == "missing"
    assert "Available: cpu" in check.found


def test_a_container_s_quota_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from joblib.externals.loky.backend import context

    monkeypatch.setattr(context, "_cpu_count_cgroup", lambda os_cpu_count: 1)
    granted_cores.cache_clear()
    try:
        assert granted_cores() == 1
    finally:
        granted_cores.cache_clear()
