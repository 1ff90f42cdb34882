"""The doctor says what a run would need, and fetches none of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allfour.errors import ClassifierError, with_choices
from allfour.models.classifiers import clip_weights
from allfour.models.classifiers.clip import ClipEncoder
from allfour.models.classifiers.linear_probe import Probe
from allfour.models.settings import Readiness
from allfour.pipeline.commands import output
from allfour.pipeline.commands.doctor import Check, _backend, diagnose, verdict
from allfour.pipeline.config import RunConfig

TAG = {"backend": "clip", "model": "ViT-L-14", "pretrained": "openai"}


class _Hub(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 (one server per test)

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """A model hub that answers, an empty cache, and a download that fails the test; gives the paths that were asked for."""
    import huggingface_hub
    from diffusers import DiffusionPipeline  # noqa: F401 (keeps the real function, which looks into the cache as well)
    from huggingface_hub import constants

    server = HTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: pytest.fail(f"downloaded {a}"))
    monkeypatch.setattr(_Hub, "asked", [])
    yield _Hub.asked
    server.shutdown()
    server.server_close()


def classifier_check(**classifier: Any) -> Check:
    attributes = classifier.pop("attributes", "configs/attributes/perceived.yaml")
    config = RunConfig.model_validate({"classifier": classifier, "attributes": {"file": attributes}})
    return next(check for check in diagnose(config) if check.name.startswith("classifier"))


def test_weights_that_a_hub_has_are_named_and_left_there(hub: list[str], tmp_path: Path) -> None:
    check = classifier_check(**TAG)
    assert check.state == "warning"
    assert "the first run will download them" in check.found
    assert "create_model('ViT-L-14', pretrained='openai')" in check.mend
    assert hub == ["/"]
    assert not (tmp_path / "cache").exists()


def test_a_diffusion_model_that_a_hub_has_is_a_note_too(hub: list[str]) -> None:
    generator = {"backend": "stable-diffusion", "model": "somebody/some-model"}
    config = RunConfig.model_validate({"classifier": {"backend": "face"}, "generator": generator})
    check = next(check for check in diagnose(config) if check.name.startswith("generator"))
    assert check.state == "warning"
    assert "downloaded when the run starts" in check.found
    assert hub == []  # a connection was made, and nothing asked for


def test_a_run_is_what_downloads(hub: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    wanted: list[tuple[str, str]] = []

    def fetch(repository: str, file: str) -> str:
        wanted.append((repository, file))
        (tmp_path / file).touch()
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    found = clip_weights.resolve(model="ViT-L-14", pretrained="openai")
    assert found.weights == tmp_path / "open_clip_model.safetensors"
    assert wanted == [("timm/vit_large_patch14_clip_224.openai", "open_clip_model.safetensors")]


def test_a_probe_on_weights_that_are_not_here_downloads_nothing_either(hub: list[str], tmp_path: Path) -> None:
    probe = Probe(
        labels={"gender": ("woman", "man")},
        weights={"gender": np.zeros((2, 768), np.float32)},
        biases={"gender": np.zeros(2, np.float32)},
        encoder={"architecture": "ViT-L-14", "weights_sha256": "0"},
    )
    probe.save(tmp_path / "probe.safetensors")
    check = classifier_check(**{**TAG, "backend": "linear-probe"}, probe=str(tmp_path / "probe.safetensors"))
    assert (check.state, "the first run will download them" in check.found) == ("warning", True)
    check = classifier_check(**{**TAG, "backend": "linear-probe"}, probe=str(tmp_path / "none.safetensors"))
    assert check.state == "missing"
    assert "--fit-probe" in check.found


def test_without_a_hub_the_weights_are_missing() -> None:
    check = classifier_check(**TAG)
    assert check.state == "missing"
    for part in (
        "HF_HUB_OFFLINE is set",
        "\n  - on a machine that reaches the hub",
        "\n  - use the folder",
        "classifier.backend=face",
    ):
        assert part in check.found
    with pytest.raises(ClassifierError) as caught:
        clip_weights.resolve(model="ViT-L-14", pretrained="openai", download=False)
    assert not isinstance(caught.value, clip_weights.ToBeDownloadedError)


def test_a_local_folder_and_its_probe(tiny_clip: Path, tmp_path: Path) -> None:
    assert classifier_check(backend="clip", pretrained=str(tiny_clip)).state == "ok"
    weights = clip_weights.resolve(model=None, pretrained=str(tiny_clip))
    probe = Probe(
        labels={"gender": ("woman", "man")},
        weights={"gender": np.zeros((2, 32), np.float32)},
        biases={"gender": np.zeros(2, np.float32)},
        encoder=dict(ClipEncoder(weights=weights).identity),
    )
    probe.save(tmp_path / "probe.safetensors")
    options = {"backend": "linear-probe", "probe": str(tmp_path / "probe.safetensors"), "pretrained": str(tiny_clip)}
    check = classifier_check(**options)
    assert check.state == "ok"
    assert "probe of gender" in check.found
    check = classifier_check(**{**options, "pretrained": "models/sandbox/clip"})
    assert check.state == "missing"
    assert "other weights" in check.found


def test_what_is_piped_is_neither_cut_nor_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    mend = "allfour weights get " + "a-very-long-name-" * 20
    output.print_checks([Check("weights", "missing", "not there", mend), Check("torch", "ok", "2.14.1")], False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(f"-> {mend}")
    assert [line.split()[0] for line in (lines[0], lines[2])] == ["missing", "ok"]
    assert len(lines) == 3


def test_the_last_line_says_whether_a_run_can_start() -> None:
    fine, lost = Check("torch", "ok", "2.14.1"), Check("weights", "missing", "not there")
    assert verdict([fine], of_config=True) == "a run can start"
    assert "--config" in verdict([fine], of_config=False)
    assert verdict([fine, lost], of_config=True).endswith("fix what is marked missing (1 check)")


def test_the_further_lines_of_a_check_stand_below_its_first(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_checks([Check("weights", "missing", with_choices("lost", "find them", "do without"))], False)
    first, *rest = capsys.readouterr().out.splitlines()
    assert [line.index(text) for line, text in zip(rest, ("- find", "- do"), strict=True)] == [
        first.index("lost") + 2
    ] * 2


def test_a_sentence_that_a_warning_follows_does_not_end_twice() -> None:
    settings = RunConfig.model_validate({"classifier": TAG}).classifier
    found = _backend("classifier", settings, "clip", lambda: Readiness(False, "It is away.", "Call it.", ("no price",)))
    assert (found.found, found.mend) == ("It is away; no price", "Call it.")
