"""One loopback server that speaks as each of many image services does, by its documentation.

    with ImageServices() as services:
        services.shape = "together"
        OpenAIImages(base_url=services.base_url(), ...)

`SHAPES` holds, by name, where a service is asked, how it wants the key, how it lists models, and how its answers look: one
image, a refusal, and whatever else it documents. Everything that was asked is in `asked`.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import Handler, Loopback
from tests.loopback_image_server import png

KEY = "key-of-a-service-0123456789"
REFUSED = "forbidden"
"""A prompt with this word is refused."""


def b64(tag: str) -> str:
    return base64.b64encode(png(tag, 16)).decode()


Reply = tuple[int, Any]


@dataclass(frozen=True)
class Shape:
    """A service, as documented."""

    image: Callable[[ImageServices, str], Reply]
    refusal: Callable[[ImageServices, str], Reply]
    path: str = "/v1/images/generations"
    model: str = "a-model"
    listed: Any = field(default_factory=lambda: {"object": "list", "data": [{"id": "a-model"}]})
    """Body of GET /models; None: 404."""
    key_header: str = "authorization"
    query: Mapping[str, str] = field(default_factory=dict)
    """What must stand in the address."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a config sets for it."""
    code: str = ""
    """Of the refusal."""
    blackened: bool = False
    """Whether a refusal is an image all the same, marked as withheld."""
    needs: frozenset[str] = frozenset()
    """Fields that the body must have."""
    refuses: frozenset[str] = frozenset()
    """Fields that the body must not have."""

    @property
    def base_path(self) -> str:
        return self.path.removesuffix("/images/generations").removesuffix("/chat/completions")


def _data(**more: Any) -> Callable[[ImageServices, str], Reply]:
    return lambda s, prompt: (200, {"created": 1, "data": [{"b64_json": b64(prompt), **more}]})


def _always(status: int, body: Any) -> Callable[[ImageServices, str], Reply]:
    return lambda s, prompt: (status, body)


def _file(s: ImageServices, prompt: str, address: str) -> Reply:
    s.files["/files/x.png"] = png(prompt, 16)
    return 200, {"data": [{"url": address, "index": 0}]}


def _chat(message: Mapping[str, Any], finish: str = "stop", **more: Any) -> Reply:
    return 200, {
        "id": "gen-1",
        "choices": [{"message": message, "finish_reason": finish, **more}],
        "usage": {"cost": 1},
    }


def _drawn(prompt: str) -> list[Any]:
    return [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(prompt)}}]


def _spoilt(answer: Any) -> Any:
    """An answer with other bytes where its image was."""
    if isinstance(answer, dict):
        return {k: _spoilt(v) for k, v in answer.items()}
    if isinstance(answer, list):
        return [_spoilt(v) for v in answer]
    if isinstance(answer, str) and len(answer) > 200:
        return answer[:30] + "AAAA" * 20
    return "http://127.0.0.1:9/gone.png" if isinstance(answer, str) and "/files/" in answer else answer


_FILTERED = {"sexual": {"filtered": True, "severity": "high"}, "hate": {"filtered": False, "severity": "safe"}}
_AZURE_REFUSAL = {
    "error": {
        "code": "content_policy_violation",
        "message": "Your request was rejected as a result of our safety system.",
        "inner_error": {"code": "ResponsibleAIPolicyViolation", "content_filter_results": _FILTERED},
    }
}

SHAPES: dict[str, Shape] = {
    "azure-v1": Shape(
        path="/openai/v1/images/generations",
        model="gpt-image-2",
        image=_data(
            revised_prompt="rewritten", content_filter_results={"hate": {"filtered": False, "severity": "safe"}}
        ),
        refusal=_always(400, _AZURE_REFUSAL),
        code="content_policy_violation",
        settings={"preflight": "warn"},
    ),
    "azure-deployment": Shape(
        path="/openai/deployments/my-deployment/images/generations",
        model="my-deployment",
        listed=None,
        key_header="api-key",
        query={"api-version": "2025-04-01-preview"},
        image=_data(),
        refusal=_always(
            400, {"error": {"code": "contentFilter", "message": "Your task failed as a result of our safety system."}}
        ),
        code="contentfilter",
        settings={"query": {"api-version": "2025-04-01-preview"}, "api_key_header": "api-key"},
    ),
    "azure-item": Shape(
        path="/openai/v1/images/generations",
        image=_data(),
        refusal=_always(
            200, {"created": 1, "data": [{"content_filter_results": _FILTERED, "b64_json": None, "url": None}]}
        ),
        code="content_filter",
    ),
    "gemini": Shape(
        path="/v1beta/openai/images/generations",
        model="gemini-2.5-flash-image",
        listed={"object": "list", "data": [{"id": "models/gemini-2.5-flash-image"}, {"id": "models/imagen-x"}]},
        image=_data(),
        refusal=_always(200, {"data": None, "finish_reason": "IMAGE_SAFETY"}),
        code="image_safety",
        settings={"response_format": "b64_json"},
        needs=frozenset({"response_format"}),
    ),
    "together": Shape(
        listed=[{"id": "a-model", "type": "image"}],  # a bare list
        image=_data(index=0),
        refusal=_always(
            422, {"error": {"message": "NSFW content detected in the prompt", "type": "invalid_request_error"}}
        ),
        code="content_policy_violation",
        settings={"response_format": "base64", "extra_body": {"steps": 4, "seed": "{seed}"}},
        needs=frozenset({"steps", "seed"}),
    ),
    "openrouter": Shape(
        path="/api/v1/chat/completions",
        listed={"data": [{"id": "a-chat-model"}]},
        image=lambda s, p: _chat({"role": "assistant", "content": "Here it is.", "images": _drawn(p)}),
        refusal=_always(
            403,
            {
                "error": {
                    "code": 403,
                    "message": "Input was flagged",
                    "metadata": {"reasons": ["sexual"], "flagged_input": "f"},
                }
            },
        ),
        code="content_moderation",
        settings={"endpoint": "chat", "preflight": "warn", "extra_headers": {"X-Title": "audit"}},
        needs=frozenset({"modalities", "messages"}),
        refuses=frozenset({"n", "prompt", "size"}),
    ),
    "chat-finish": Shape(
        path="/v1/chat/completions",
        image=lambda s, p: _chat({"content": _drawn(p)}),  # as parts of the content
        refusal=lambda s, p: _chat({"content": None}, "content_filter", native_finish_reason="IMAGE_SAFETY"),
        code="content_filter",
        settings={"endpoint": "chat"},
    ),
    "chat-words": Shape(
        path="/v1/chat/completions",
        image=lambda s, p: _chat({"content": "", "images": _drawn(p)}),
        refusal=lambda s, p: _chat({"content": "I cannot draw that."}),
        code="answered_in_words",
        settings={"endpoint": "chat"},
    ),
    "xai": Shape(
        image=lambda s, p: (
            200,
            {"data": [{"url": "data:image/jpeg;base64," + b64(p), "revised_prompt": "rewritten"}]},
        ),
        refusal=_always(400, {"code": "invalid-argument", "error": "Generated image rejected by content moderation."}),
        code="content_policy_violation",
        listed={"data": [{"id": "grok-x"}]},
        settings={"preflight": "warn"},
        refuses=frozenset({"size", "quality"}),
    ),
    "vllm-omni": Shape(
        model="Qwen/Qwen-Image",
        listed={"object": "list", "data": [{"id": "Qwen/Qwen-Image", "object": "model"}]},
        image=_data(url=None, revised_prompt=None),
        refusal=_always(
            422, {"detail": [{"loc": ["body", "prompt"], "msg": "blocked", "type": "content_policy_violation"}]}
        ),
        code="content_policy_violation",
        settings={"extra_body": {"num_inference_steps": 50, "true_cfg_scale": 4.0, "seed": "{seed}"}},
        needs=frozenset({"num_inference_steps", "seed"}),
    ),
    "sglang": Shape(
        image=lambda s, p: _file(s, p, "/files/x.png"),  # a path on the server itself
        refusal=_always(200, {"created": 1, "data": [{"b64_json": "", "nsfw_content_detected": True}]}),
        code="nsfw_content_detected",
    ),
    "localai": Shape(
        image=lambda s, p: _file(s, p, f"{s.origin}/files/x.png"),
        refusal=lambda s, p: (200, {"data": [{"b64_json": b64(p)}], "nsfw_content_detected": [True]}),
        code="nsfw_content_detected",
        blackened=True,
        settings={"size": "512x512"},
        needs=frozenset({"size"}),
    ),
    "litellm": Shape(
        model="my-image-model",
        listed={"data": [{"id": "my-image-model"}], "object": "list"},
        image=_data(),
        refusal=_always(
            400,
            {
                "error": {
                    "message": "litellm.ContentPolicyViolationError: the prompt was flagged",
                    "type": None,
                    "param": None,
                    "code": "content_policy_violation",
                }
            },
        ),
        code="content_policy_violation",
    ),
    "fal-behind-a-proxy": Shape(
        image=_data(has_nsfw_concepts=False),
        refusal=lambda s, p: (200, {"data": [{"b64_json": b64(p)}], "has_nsfw_concepts": [True]}),
        code="has_nsfw_concepts",
        blackened=True,
    ),
    "stability": Shape(
        image=_data(),
        refusal=_always(403, {"id": "1", "name": "content_moderation", "errors": ["Your request was flagged."]}),
        code="content_moderation",
    ),
}


@dataclass(frozen=True)
class Asked:
    shape: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class ImageServices(Loopback):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.shape = "azure-v1"
        self.files: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.redirect: str | None = None
        """Where images are asked for instead."""
        self.faults: Mapping[int, str] = {}
        """What goes wrong with the n-th request, from 1: "limit" (429), "down" (503), "drop" (before any work), "lose" (the answer, after
        the work), "garbage" (bytes that are no image)."""
        self.made: Counter[str] = Counter()
        """Answers with an image that were made, and so are billed, by prompt."""
        self.refused: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        """Those of the answers that were made and never arrived."""
        self.dropped = 0
        """Connections that ended before any work. Nobody but the server knows that nothing was made."""
        self.on_made: Callable[[int], bool] = lambda number: False
        """Called with the number of images made so far; true: the answer is lost."""
        self.wrong: list[str] = []
        """What was asked in a way that the service does not document."""

    def base_url(self) -> str:
        return self.origin + SHAPES[self.shape].base_path


class _Handler(Handler[ImageServices]):
    def do_GET(self) -> None:
        owner, shape = self.owner, SHAPES[self.owner.shape]
        path = urlsplit(self.path).path
        if path in owner.files:
            return self.reply(200, owner.files[path], kind="image/png")
        if KEY not in (self.headers.get(shape.key_header) or ""):
            return self.reply(401, {"error": {"message": "Access denied due to invalid key"}})
        if path == shape.base_path + "/models" and shape.listed is not None:
            return self.reply(200, shape.listed)
        return self.reply(404, {"error": {"message": "Resource not found"}})

    def do_POST(self) -> None:
        owner, shape = self.owner, SHAPES[self.owner.shape]
        body = json.loads(self.body())
        headers = {k.lower(): v for k, v in self.headers.items()}
        address = urlsplit(self.path)
        owner.asked.append(Asked(owner.shape, address.path, headers, body))
        if owner.redirect:
            self.send_response(307)
            self.send_header("Location", owner.redirect)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        given = headers.get(shape.key_header, "").removeprefix("Bearer ")
        query = {k: v[0] for k, v in parse_qs(address.query).items()}
        if given != KEY or (shape.key_header != "authorization" and "authorization" in headers):
            return self.reply(401, {"error": {"message": "Access denied due to invalid key"}})
        if address.path != shape.path or query != dict(shape.query):
            return self.reply(404, {"error": {"code": "404", "message": "Resource not found"}})
        if body.get("model") != shape.model or shape.needs - set(body) or shape.refuses & set(body):
            owner.wrong.append(f"{owner.shape}: {sorted(body)}")
        prompt = body["messages"][0]["content"] if "messages" in body else body["prompt"]
        return self.work(prompt, owner.faults.get(len(owner.asked)))

    def work(self, prompt: str, fault: str | None) -> None:
        owner, shape = self.owner, SHAPES[self.owner.shape]
        if fault == "drop":
            owner.dropped += 1
            return self.hang_up()
        if fault in ("limit", "down"):
            error = {"error": {"message": "busy", "type": "server_error", "code": None}}
            return self.reply(429 if fault == "limit" else 503, error, headers={"Retry-After-Ms": "2"})
        refused = REFUSED in prompt
        status, answer = (shape.refusal if refused else shape.image)(owner, prompt)
        with owner.lock:
            (owner.refused if refused else owner.made)[prompt] += 1
            made = owner.made.total()
        killed = not refused and owner.on_made(made)
        if killed or fault == "lose":
            owner.lost[prompt] += 1
            return self.hang_up()
        if fault == "garbage" and not refused:
            answer = _spoilt(answer)
        return self.reply(status, answer)
