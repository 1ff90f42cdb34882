"""A server on 127.0.0.1 with the documented batch endpoint of the OpenAI API: files, batches, and images made in them.

    with LoopbackBatchServer() as server:
        server.answer = lambda prompt, n: (400, {"error": {...}}) if "forbidden" in prompt else None
        ImagesBatch(base_url=server.base_url, ...)

A batch moves on by one state with every look at it. `hook(event)` is called at each event: "uploaded", "created" (both before the
answer is sent), "looked", "line" (of a file that is sent); what it raises, `Hangup`, ends the connection there.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import Handler, Loopback
from tests.loopback_image_server import KEY, png

Reply = tuple[int | None, Any]
"""Status and body of a line; status None: no response, and the body is the line's error."""


class Hangup(Exception):
    """The connection ends here."""


class LoopbackBatchServer(Loopback):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.models = ["gpt-image-2.5-flare"]
        self.has_batches = True
        self.lists_batches = True
        self.answer: Callable[[str, int], Reply | None] = lambda prompt, n: None
        """What a line becomes; None: images. `n` counts the lines of this prompt in this batch, from 0."""
        self.ending = "completed"
        self.worked_share = 1.0
        """Of the lines, where the batch ends before its end."""
        self.names_the_rest = True
        """Whether lines that were not worked on stand in the error file."""
        self.errors: list[dict[str, Any]] = []
        """Why a batch that ends as `failed` was not taken."""
        self.looks_until_end = 2
        self.create_status: list[int] = []
        """Error statuses for the next creations, each after nothing was created."""
        self.look_status: list[int] = []
        """Error statuses for the next looks."""
        self.hook: Callable[[str], None] = lambda event: None
        self.files: dict[str, list[dict[str, Any]]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.billed: Counter[str] = Counter()
        """Images made, by prompt."""
        self.ran: Counter[str] = Counter()
        """Lines worked on, by prompt."""
        self.events: Counter[str] = Counter()
        self.downloads: list[str] = []

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def total_billed(self) -> int:
        return sum(self.billed.values())

    def event(self, name: str) -> None:
        with self.lock:
            self.events[name] += 1
        self.hook(name)

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        with self.lock:
            batch = f"batch_{len(self.batches):04d}"
            lines = self.files[body["input_file_id"]]
            self.batches[batch] = {
                "id": batch, "object": "batch", "endpoint": body["endpoint"], "input_file_id": body["input_file_id"],
                "completion_window": body["completion_window"], "status": "validating", "created_at": int(time.time()),
                "expires_at": int(time.time()) + 86400, "metadata": body.get("metadata"),
                "request_counts": {"total": len(lines), "completed": 0, "failed": 0}, "output_file_id": None,
                "error_file_id": None, "errors": None, "looks": 0,
            }  # fmt: skip
            return self.batches[batch]

    def look(self, batch: str) -> dict[str, Any]:
        with self.lock:
            state = self.batches[batch]
            if state["status"] in ("validating", "in_progress"):
                state["looks"] += 1
                state["status"] = "in_progress"
                state["in_progress_at"] = state["created_at"]
                if state["looks"] >= self.looks_until_end:
                    self._end(state)
            return state

    def _end(self, state: dict[str, Any]) -> None:
        state["status"] = self.ending
        if self.ending == "failed":
            state["errors"] = {"object": "list", "data": self.errors}
            return
        lines = self.files[state["input_file_id"]]
        worked = lines if self.ending == "completed" else lines[: round(len(lines) * self.worked_share)]
        good, bad = [], []
        seen: Counter[str] = Counter()
        for line in reversed(worked):  # order is not promised
            prompt = line["body"]["prompt"]
            found = self.answer(prompt, seen[prompt])
            seen[prompt] += 1
            self.ran[prompt] += 1
            entry = self._line(line, found or (200, self._images(prompt, line["body"].get("n", 1))))
            (good if entry["response"] and entry["response"]["status_code"] == 200 else bad).append(entry)
        code = f"batch_{self.ending}"
        rest = lines[len(worked) :] if self.names_the_rest else []
        bad += [
            self._line(line, (None, {"code": code, "message": "This request could not be executed."})) for line in rest
        ]
        state["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        for kind, entries in (("output", good), ("error", bad)):
            if entries:
                name = f"file-{kind}-{state['id']}"
                self.files[name] = entries
                state[f"{kind}_file_id"] = name

    @staticmethod
    def _line(line: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
        status, body = reply
        found = {"id": "batch_req_1", "custom_id": line["custom_id"]}
        if status is None:
            return found | {"response": None, "error": body}
        return found | {"response": {"status_code": status, "request_id": "req_1", "body": body}, "error": None}

    def _images(self, prompt: str, count: int) -> dict[str, Any]:
        self.billed[prompt] += count
        data = [
            {"b64_json": base64.b64encode(png(f"{prompt} {self.billed[prompt]} {k}", 12)).decode()}
            for k in range(count)
        ]
        return {"created": 1, "data": data, "usage": {"total_tokens": 400}}


class _Handler(Handler[LoopbackBatchServer]):
    def refuse(self, status: int) -> None:
        self.reply(status, {"error": {"message": f"status {status}", "type": "error", "code": None}})

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except Hangup:
            self.close_connection = True

    def admitted(self) -> bool:
        if self.headers.get("authorization") == f"Bearer {KEY}":
            return True
        self.refuse(401)
        return False

    def do_GET(self) -> None:
        owner, address = self.owner, urlsplit(self.path)
        parts = address.path.split("/")
        if not self.admitted():
            return None
        if address.path == "/v1/models":
            return self.reply(200, {"object": "list", "data": [{"id": m, "object": "model"} for m in owner.models]})
        if parts[2] == "batches" and not owner.has_batches:
            return self.refuse(404)
        if address.path == "/v1/batches":
            return self.listed(parse_qs(address.query)) if owner.lists_batches else self.refuse(403)
        if parts[2] == "batches":
            owner.event("looked")
            if owner.look_status:
                return self.refuse(owner.look_status.pop(0))
            return self.reply(200, owner.look(parts[3])) if parts[3] in owner.batches else self.refuse(404)
        if parts[2] == "files" and parts[-1] == "content" and parts[3] in owner.files:
            return self.file(parts[3])
        return self.refuse(404)

    def listed(self, query: Mapping[str, list[str]]) -> None:
        newest = list(reversed(self.owner.batches.values()))
        after, limit = query.get("after", [None])[0], int(query.get("limit", ["20"])[0])
        start = next((n + 1 for n, b in enumerate(newest) if b["id"] == after), 0)
        page = newest[start : start + limit]
        self.reply(200, {"object": "list", "data": page, "has_more": start + limit < len(newest)})

    def file(self, name: str) -> None:
        owner = self.owner
        owner.downloads.append(name)
        lines = [json.dumps(entry).encode() + b"\n" for entry in owner.files[name]]
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(sum(map(len, lines))))
        self.end_headers()
        for line in lines:
            self.wfile.write(line)
            owner.event("line")

    def do_POST(self) -> None:
        owner = self.owner
        raw = self.body()
        if not self.admitted():
            return None
        if self.path == "/v1/files":
            return self.upload(raw)
        if self.path == "/v1/batches" and owner.has_batches:
            if owner.create_status:
                return self.refuse(owner.create_status.pop(0))
            state = owner.create(json.loads(raw))
            owner.event("created")
            return self.reply(200, state)
        return self.refuse(404)

    def upload(self, raw: bytes) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.default).parsebytes(head + raw)
        fields = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
        assert fields["purpose"].get_content().strip() == "batch"
        content = fields["file"].get_payload(decode=True)
        owner = self.owner
        with owner.lock:
            name = f"file-{len(owner.files):04d}"
            owner.files[name] = [json.loads(line) for line in content.splitlines()]
        owner.event("uploaded")
        self.reply(200, {"id": name, "object": "file", "purpose": "batch", "bytes": len(content)})
