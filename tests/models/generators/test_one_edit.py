"""A user of each service finds a config that runs after the one edit that its first lines name, and a page that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from allfour.models.generators.base import Generated
from allfour.pipeline.config import load_config
from tests.image_services import KEY, ImageServices
from tests.local_servers import LocalServers
from tests.models.generators.hosted_helpers import requests
from tests.places import REPOSITORY

EDITS: dict[str, tuple[str, str | None, str]] = {
    # config: (the edit, the shape of the stand-in, the page)
    "azure-openai": ("", "azure-v1", "hosted-apis.md"),
    "gemini": ("", "gemini", "hosted-apis.md"),
    "litellm": ("", "litellm", "hosted-apis.md"),
    "vllm-omni": ("", "vllm-omni", "hosted-apis.md"),
    "web-ui": ("generator.checkpoint=other", None, "local-servers.md"),
    "comfyui": ("generator.values={Checkpoint.ckpt_name: model.safetensors}", None, "local-servers.md"),
}
"""The address of the stand-in takes the place of the service's own. Of the first four it is all that is set: Azure's resource stands in
it, and the others need a key alone."""


@pytest.fixture(scope="module")
def services() -> Iterator[ImageServices]:
    with ImageServices() as running:
        yield running


@pytest.mark.parametrize("config", EDITS)
def test_the_config_runs_after_its_edit(services: ImageServices, monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    edit, shape, page = EDITS[config]
    with LocalServers() as local:
        if shape is not None:
            services.shape = shape
            services.wrong.clear()
        address = local.base_url if shape is None else services.base_url()
        overrides = [f"generator.base_url={address}", *filter(None, [edit])]
        settings: Any = load_config(REPOSITORY / "configs" / f"{config}.yaml", overrides).generator
        assert settings is not None
        if shape is not None:
            monkeypatch.setenv(settings.api_key_env, KEY)
        monkeypatch.setenv("NO_PROXY", "*")
        readiness = settings.check()
        assert readiness.ok, readiness
        paced = getattr(settings, "images_per_minute", None) is not None  # a second request would wait for its turn
        found = list(settings.build().generate(requests(["a nurse"], 1 if paced else 2)))
        assert all(isinstance(outcome, Generated) for outcome in found), found
        assert services.wrong == [] or shape is None
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    assert f"configs/{config}.yaml" in text
    assert "one edit" in (REPOSITORY / "configs" / f"{config}.yaml").read_text(encoding="utf-8")
