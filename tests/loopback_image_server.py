"""A server on 127.0.0.1 that behaves like the documented OpenAI image API, and misbehaves on order.

Real HTTP over real sockets: the official client talks to it as it would to the provider. It checks keys and parameters
as documented (400 with `param` and `code`, 401, 404 `model_not_found`), answers base64 or addresses, and counts what it
would bill. A `Fault` takes the place of an answer.

    with LoopbackImageServer(models=["dall-e-2"]) as server:
        server.plan = lambda asked: Fault("status", status=500) if asked.attempt == 1 else None
        OpenAIImages(model="dall-e-2", base_url=server.base_url, ...)

Bounded: it ends with its `with` block, serves no more than `max_requests`, and no reply waits longer than 30 s.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import json
import os
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from tests.loopback import Handler, Loopback

KEY = "sk-loopback-0123456789abcdef"
"""The key the server takes unless told otherwise."""

DALL_E_SIZES = {"dall-e-2": {"256x256", "512x512", "1024x1024"}, "dall-e-3": {"1024x1024", "1792x1024", "1024x1792"}}

FaultKind = Literal[
    "status",  # an error status with an error body
    "moderation",  # 400 moderation_blocked
    "rate_limit",  # 429 with Retry-After
    "quota",  # 429 insufficient_quota
    "drop_before",  # the connection ends before any work: nothing billed
    "drop_after",  # the work is done and billed, the connection ends without an answer
    "slow",  # the answer comes `seconds` late
    "short",  # `count` images fewer than asked for
    "garbage_image",  # base64 of bytes that are no image
    "garbage_b64",  # text that is not base64
    "truncated_image",  # a PNG cut in half
    "null_data",  # {"data": null}
    "null_item",  # one entry of data is null
    "withheld_item",  # one entry is empty and marked respect_moderation: false
    "raw",  # `body` with `content_type`, as it is
]


@dataclass(frozen=True)
class Fault:
    """Something to do instead of answering."""

    kind: FaultKind
    status: int = 500
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    seconds: float = 0.0
    count: int = 1


@dataclass(frozen=True)
class Asked:
    """One POST to /images/generations that the server has seen."""

    number: int
    """Over all POSTs, from 1."""
    attempt: int
    """Over POSTs with this prompt, from 1."""
    retry: int
    """What the client says: x-stainless-retry-count."""
    prompt: str
    n: int
    body: Mapping[str, Any]
    at: float


class LoopbackImageServer(Loopback):
    """See the module's docstring. Everything it saw is in `asked`, `billed` and `fetched` (guarded by `lock`)."""

    def __init__(
        self,
        *,
        models: Sequence[str] = ("gpt-image-2.5-flare", "dall-e-2", "dall-e-3"),
        shutdown_dates: Mapping[str, str] | None = None,
        key: str | None = KEY,
        lists_models: bool = True,
        pixels: int = 16,
        latency: float = 0.0,
        plan: Callable[[Asked], Fault | None] | None = None,
        same_bytes: bool = False,
        max_requests: int = 5000,
    ) -> None:
        super().__init__(_Handler)
        self.models = list(models)
        self.shutdown_dates = dict(shutdown_dates or {})
        self.key = key
        self.lists_models = lists_models
        self.pixels = pixels
        self.latency = latency
        self.plan = plan
        self.same_bytes = same_bytes
        self.max_requests = max_requests
        self.files: dict[str, Callable[[_Handler], None] | bytes] = {}
        """What GET answers under /files/: bytes, or a function that writes the reply itself."""
        self.writes: Callable[[_Handler, Asked], None] | None = None
        """Writes the whole answer to a request for images by itself."""
        self.models_reply: tuple[int, str, bytes] | None = None
        """(status, content type, body) for GET /models in place of the list."""

        self.asked: list[Asked] = []
        self.authorizations: list[str | None] = []
        self.billed: Counter[str] = Counter()
        """Images made, by prompt."""
        self.fetched: list[str] = []
        self.fetch_headers: list[dict[str, str]] = []
        self.running = 0
        self.most_running = 0
        self._requests = 0

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def total_billed(self) -> int:
        with self.lock:
            return sum(self.billed.values())

    # -- what the handler asks -----------------------------------------------------------------------------------

    def admit(self) -> bool:
        with self.lock:
            self._requests += 1
            return self._requests <= self.max_requests

    def note(self, body: Mapping[str, Any], retry: int) -> Asked:
        prompt = str(body.get("prompt"))
        with self.lock:
            asked = Asked(
                number=len(self.asked) + 1,
                attempt=1 + sum(a.prompt == prompt for a in self.asked),
                retry=retry,
                prompt=prompt,
                n=int(body.get("n") or 1),
                body=dict(body),
                at=time.monotonic(),
            )
            self.asked.append(asked)
            return asked

    def make(self, prompt: str, count: int) -> list[bytes]:
        """`count` images, billed. Different each time, unless `same_bytes`."""
        with self.lock:
            first = self.billed[prompt]
            self.billed[prompt] += count
        tags = ["same"] * count if self.same_bytes else [f"{prompt}\0{first + i}" for i in range(count)]
        return [png(tag, self.pixels) for tag in tags]


class _Handler(Handler[LoopbackImageServer]):
    def reply(
        self, status: int, body: Any, *, headers: Mapping[str, str] | None = None, kind: str = "application/json"
    ) -> None:
        named = {"x-request-id": f"req_{len(self.owner.asked):06d}", **(headers or {})}
        super().reply(status, body, headers=named, kind=kind)

    def error(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        kind: str = "invalid_request_error",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.reply(status, body, headers=headers)

    def authorized(self) -> bool:
        given = self.headers.get("Authorization")
        with self.owner.lock:
            self.owner.authorizations.append(given)
        if self.owner.key is None or given == f"Bearer {self.owner.key}":
            return True
        shown = (given or "").removeprefix("Bearer ")
        self.error(401, f"Incorrect API key provided: {shown}. Find your key in the settings.", code="invalid_api_key")
        return False

    # -- GET -----------------------------------------------------------------------------------------------------

    def do_GET(self) -> None:
        if not self.owner.admit():
            return self.hang_up()
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/files/"):
            return self.file(path)
        if not self.authorized():
            return None
        if path == "/v1/models" and self.owner.models_reply:
            status, kind, body = self.owner.models_reply
            return self.reply(status, body, kind=kind)
        if path.startswith("/v1/models") and self.owner.lists_models:
            entries = [
                {"id": m, "object": "model", "created": 0, "owned_by": "loopback"}
                | ({"shutdown_date": self.owner.shutdown_dates[m]} if m in self.owner.shutdown_dates else {})
                for m in self.owner.models
            ]
            if path == "/v1/models":
                return self.reply(200, {"object": "list", "data": entries})
            for entry in entries:
                if path == f"/v1/models/{entry['id']}":
                    return self.reply(200, entry)
        return self.error(404, f"Unknown request URL: GET {path}.", code="unknown_url")

    def file(self, path: str) -> None:
        with self.owner.lock:
            self.owner.fetched.append(path)
            self.owner.fetch_headers.append({k.lower(): v for k, v in self.headers.items()})
        content = self.owner.files.get(path)
        if content is None:
            return self.reply(404, b"gone", kind="text/plain")
        if callable(content):
            return content(self)
        return self.reply(200, content, kind="image/png")

    # -- POST ----------------------------------------------------------------------------------------------------

    def do_POST(self) -> None:
        owner = self.owner
        if not owner.admit():
            return self.hang_up()
        raw = self.body()
        if self.path != "/v1/images/generations":
            return self.error(404, f"Unknown request URL: POST {self.path}.", code="unknown_url")
        body = json.loads(raw)
        asked = owner.note(body, int(self.headers.get("x-stainless-retry-count") or 0))
        with owner.lock:
            owner.running += 1
            owner.most_running = max(owner.most_running, owner.running)
        try:
            if self.authorized() and self.valid(body):
                self.answer(asked, owner.plan(asked) if owner.plan else None)
        finally:
            with owner.lock:
                owner.running -= 1
        return None

    def valid(self, body: Mapping[str, Any]) -> bool:
        """The documented checks of parameters; replies with the documented error where one fails."""
        model, n, size = body.get("model"), body.get("n", 1), body.get("size")
        old = model in DALL_E_SIZES
        if model not in self.owner.models:
            message = f"The model '{model}' does not exist."
            self.error(404, message, code="model_not_found", param="model")
        elif not isinstance(body.get("prompt"), str) or not body["prompt"]:
            self.error(400, "Missing required parameter: 'prompt'.", code="missing_required_parameter", param="prompt")
        elif not isinstance(n, int) or not 1 <= n <= (1 if model == "dall-e-3" else 10):
            self.error(400, f"Invalid 'n': {n}.", code="invalid_value", param="n")
        elif old and size is not None and size not in DALL_E_SIZES[model]:
            self.error(400, f"Invalid size: {size}.", code="invalid_value", param="size")
        elif not old and "response_format" in body:
            message = "Unknown parameter: 'response_format'."
            self.error(400, message, code="unknown_parameter", param="response_format")
        else:
            return True
        return False

    def answer(self, asked: Asked, fault: Fault | None) -> None:
        owner = self.owner
        if owner.writes is not None:
            return owner.writes(self, asked)
        kind = fault.kind if fault else None
        if fault and kind in ("status", "moderation", "rate_limit", "quota", "drop_before", "raw"):
            return self.refuse(fault)
        images = owner.make(asked.prompt, max(0, asked.n - (fault.count if fault and kind == "short" else 0)))
        time.sleep(min(30.0, owner.latency + (fault.seconds if fault and kind == "slow" else 0.0)))
        if kind == "drop_after":
            return self.hang_up()
        if kind == "null_data":
            with owner.lock:
                owner.billed[asked.prompt] -= asked.n
            return self.reply(200, {"created": 1, "data": None})
        return self.reply(200, self.envelope(asked, images, kind), headers=fault.headers if fault else None)

    def envelope(self, asked: Asked, images: list[bytes], kind: str | None) -> dict[str, Any]:
        model = asked.body["model"]
        if kind == "garbage_image":
            images = [b"<svg>not a raster image</svg>" for _ in images]
        if kind == "truncated_image":
            images = [i[: len(i) // 2] for i in images]
        data: list[Any] = []
        for image in images:
            if model in DALL_E_SIZES and asked.body.get("response_format", "url") == "url":
                name = f"/files/{hashlib.sha256(image).hexdigest()}.png"
                self.owner.files[name] = image
                entry: dict[str, Any] = {"url": self.owner.origin + name}
            else:
                entry = {"b64_json": "%%%" if kind == "garbage_b64" else base64.b64encode(image).decode()}
            if model == "dall-e-3":
                entry["revised_prompt"] = f"A detailed photograph: {asked.prompt}"
            data.append(entry)
        if kind == "null_item":
            data[0] = None
        if kind == "withheld_item":
            data[0] = {"b64_json": "", "respect_moderation": False}
        reply: dict[str, Any] = {"created": 1_790_000_000, "data": data}
        if model not in DALL_E_SIZES:
            tokens = 439 * len(images)
            reply |= {"size": asked.body.get("size") or "1024x1024", "quality": "medium", "output_format": "png"}
            reply["usage"] = {"input_tokens": 12, "output_tokens": tokens, "total_tokens": tokens + 12}
        return reply

    def refuse(self, fault: Fault) -> None:
        if fault.kind == "drop_before":
            return self.hang_up()
        if fault.kind == "moderation":
            message = "Your request was rejected by the safety system. safety_violations=[sexual]."
            code, kind = "moderation_blocked", "image_generation_user_error"
            return self.error(400, message, code=code, kind=kind, headers=fault.headers)
        if fault.kind == "rate_limit":
            headers = {"retry-after-ms": "5", **fault.headers}
            return self.error(429, "Rate limit reached.", code="rate_limit_exceeded", kind="requests", headers=headers)
        if fault.kind == "quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            return self.error(429, message, code="insufficient_quota", kind="insufficient_quota", headers=fault.headers)
        if fault.body is None:
            headers = {"retry-after-ms": "5", **fault.headers}
            return self.error(fault.status, "The server had an error.", kind="server_error", headers=headers)
        return self.reply(fault.status, fault.body, headers=fault.headers, kind=fault.content_type)


def png(tag: str, pixels: int) -> bytes:
    """A valid PNG of `pixels` x `pixels` noise, decided by `tag` alone."""
    noise = random.Random(tag).randbytes(pixels * pixels * 3)
    rows = b"".join(b"\0" + noise[y * pixels * 3 : (y + 1) * pixels * 3] for y in range(pixels))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", pixels, pixels, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def faults_by_prompt(share: float, kinds: Sequence[Fault], *, seed: int = 0) -> Callable[[Asked], Fault | None]:
    """A plan under which each of `kinds` meets `share` of all attempts, decided by prompt and attempt alone.

    Refusals are decided by the prompt alone: a policy does not change its mind.
    """

    def plan(asked: Asked) -> Fault | None:
        by_prompt = random.Random(f"{seed}\0{asked.prompt}").random()
        by_attempt = random.Random(f"{seed}\0{asked.prompt}\0{asked.attempt}").random()
        for place, fault in enumerate(kinds):
            drawn = by_prompt if fault.kind == "moderation" else by_attempt
            if place * share <= drawn < (place + 1) * share:
                return dataclasses.replace(fault, count=min(fault.count, asked.n))
        return None

    return plan


def main() -> None:
    """Serve for a while, to try the command line against: python -m tests.loopback_image_server --seconds 60."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--models", nargs="+", default=["dall-e-2", "dall-e-3", "gpt-image-2.5-flare"])
    parser.add_argument("--pixels", type=int, default=64)
    options = parser.parse_args()
    with LoopbackImageServer(models=options.models, pixels=options.pixels) as server:
        print(f"export OPENAI_API_KEY={KEY} OPENAI_BASE_URL={server.base_url}", flush=True)
        time.sleep(min(options.seconds, 3600.0))
        print(json.dumps({"asked": len(server.asked), "billed": server.total_billed, "process": os.getpid()}))


if __name__ == "__main__":
    main()
