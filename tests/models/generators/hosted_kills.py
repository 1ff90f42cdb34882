"""A caller in a process of its own that commits every outcome to a journal, to be killed at any moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.forking import context
from tests.models.generators import hosted_journal


def _work(
    folder: Path, backend: str, settings: Mapping[str, Any], environment: Mapping[str, str], size: tuple[Any, int]
) -> None:
    import openai._base_client

    openai._base_client.INITIAL_RETRY_DELAY = 0.01  # a server that hangs up says no time to wait
    os.environ.update(environment)
    from allfour.models.generators._local import http
    from allfour.models.generators.comfyui import ComfyUIConfig
    from allfour.models.generators.images_batch import ImagesBatchConfig
    from allfour.models.generators.openai_images import OpenAIImagesConfig
    from allfour.models.generators.web_ui import WebUIConfig
    from tests.models.generators.hosted_helpers import requests

    http.wait = lambda seconds: time.sleep(0.001)  # nor does one on this machine
    kinds: dict[str, Any] = {
        "openai-images": OpenAIImagesConfig, "images-batch": ImagesBatchConfig, "web-ui": WebUIConfig, "comfyui": ComfyUIConfig,
    }  # fmt: skip
    generator = kinds[backend](backend=backend, **settings).build(ledger=folder / "ledger.sqlite")
    hosted_journal.commit_all(folder, generator, requests(*size))


class Caller:
    """Starts callers on one folder, and kills them."""

    def __init__(
        self,
        folder: Path,
        backend: str,
        settings: Mapping[str, Any],
        environment: Mapping[str, str],
        size: tuple[Any, int],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._arguments = (folder, backend, settings, environment, size)
        self._process: BaseProcess | None = None

    def kill(self) -> None:
        """From any thread, such as that of a server that was asked."""
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)

    def run(self, seconds: float = 120.0) -> int | None:
        """Start a caller, and wait for its end. Its exit code: -9 where it was killed."""
        self._process = context().Process(target=_work, args=self._arguments, daemon=True)
        self._process.start()
        self._process.join(seconds)
        return self._process.exitcode

    def journal(self) -> dict[tuple[str, int], dict[str, str]]:
        return hosted_journal.read(self.folder)


def at(count: int, act: Callable[[], None]) -> Callable[[], None]:
    """A function that acts when it is called for the `count`-th time."""
    called = 0

    def step() -> None:
        nonlocal called
        called += 1
        if called == count:
            act()

    return step
