"""A Stable Diffusion web UI and a ComfyUI on 127.0.0.1, as documented, that draw noise.

One server speaks both. `fault` takes the place of one answer: a function of (path, body) that gives (status, body) or None.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import Handler, Loopback
from tests.loopback_image_server import png

CHECKPOINTS = [
    {
        "title": "base.safetensors [aaaa000001]",
        "model_name": "base",
        "hash": "aaaa000001",
        "sha256": "aaaa000001" + "0" * 54,
    },
    {"title": "other.safetensors", "model_name": "other", "hash": None, "sha256": None},
]
NODES = ("CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode", "SaveImage")
Fault = Callable[[str, Any], tuple[int, Any] | None]


class LocalServers(Loopback):
    """See the module's docstring. What was asked to be drawn is in `drawn`."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.fault: Fault = lambda path, body: None
        self.auth: str | None = None
        self.drawn: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.lost: Callable[[int], bool] = lambda number: False
        """Called with the number of images that were asked to be drawn, this one too; true: the answer never arrives."""
        self.looks = 0
        """Looks at the history before a job is done: one."""

    @property
    def base_url(self) -> str:
        return self.origin


class _Handler(Handler[LocalServers]):
    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.body()))

    def answer(self, body: Any) -> None:
        owner, address = self.owner, urlsplit(self.path)
        if owner.auth is not None and self.headers.get("Authorization") != owner.auth:
            return self.reply(401, {"detail": "Not authenticated"})
        query = {k: v[0] for k, v in parse_qs(address.query).items()}
        drawn = len(owner.drawn)
        status, answer = owner.fault(address.path, body) or self.right(address.path, query, body)
        if len(owner.drawn) > drawn and owner.lost(len(owner.drawn)):
            return self.hang_up()
        return self.reply(status, answer, kind="image/png" if isinstance(answer, bytes) else "application/json")

    def right(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        owner = self.owner
        fixed: dict[str, Any] = {
            "/sdapi/v1/sd-models": CHECKPOINTS,
            "/sdapi/v1/options": {"sd_model_checkpoint": CHECKPOINTS[0]["title"]},
            "/sdapi/v1/samplers": [{"name": "Euler a"}, {"name": "DPM++ 2M"}],
            "/sdapi/v1/schedulers": [{"name": "karras", "label": "Karras"}],
            "/system_stats": {"system": {"comfyui_version": "0.9"}},
            "/queue": {"queue_running": [], "queue_pending": [[0, job] for job in owner.jobs]},
        }
        if path == "/sdapi/v1/txt2img":
            owner.drawn.append(body)
            image = base64.b64encode(png(f"{body['prompt']}\0{body['seed']}", 16)).decode()
            checkpoint = next(m for m in CHECKPOINTS if m["title"] == body["override_settings"]["sd_model_checkpoint"])
            info = {"seed": body["seed"], "sampler_name": "Euler a", "sd_model_hash": checkpoint["hash"]}
            return 200, {"images": [image], "parameters": body, "info": json.dumps(info)}
        if path == "/prompt":
            return self.queued(body["prompt"])
        if path.startswith("/history/"):
            return 200, self.history(path.rpartition("/")[2])
        if path == "/view":
            return 200, png(query["filename"], 16)
        if path.startswith("/object_info/"):
            kind = path.rpartition("/")[2]
            required = {"ckpt_name": [["model.safetensors"]]} if kind == "CheckpointLoaderSimple" else {}
            return 200, {kind: {"input": {"required": required}}} if kind in NODES else {}
        return (200, fixed[path]) if path in fixed else (404, {"detail": "Not Found"})

    def queued(self, workflow: dict[str, Any]) -> tuple[int, Any]:
        owner = self.owner
        owner.drawn.append(workflow)
        job = f"job-{len(owner.drawn)}"
        owner.jobs[job] = workflow
        return 200, {"prompt_id": job, "number": len(owner.drawn), "node_errors": {}}

    def history(self, job: str) -> dict[str, Any]:
        owner = self.owner
        owner.looks += 1
        if owner.looks % 2 or job not in owner.jobs:
            return {}
        tag = hashlib.sha256(json.dumps(owner.jobs[job], sort_keys=True).encode()).hexdigest()
        image = {"filename": f"{tag}.png", "subfolder": "", "type": "output"}
        return {
            job: {
                "outputs": {"save": {"images": [image]}},
                "status": {"status_str": "success", "completed": True, "messages": []},
            }
        }
