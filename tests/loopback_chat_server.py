"""A server on 127.0.0.1 that behaves like an OpenAI-compatible chat API with a vision-language model, and misbehaves on order.

It looks at the picture that it is sent: red ones it reads as the first label of every attribute, blue ones as the second, green ones
as nobody, grey ones as somebody of whom it cannot tell anything. It counts what it would bill.

    with LoopbackChatServer() as server:
        server.plan = lambda asked: Fault("status", status=500) if asked.attempt == 1 else None
        server.reply = lambda asked, text: '{"people": ['      # what it says in place of an answer
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from tests.loopback_image_server import KEY, Asked, Fault, LoopbackImageServer, _Handler

MODEL = "loopback-vl"
Reply = Callable[[Asked, str], Any]


class LoopbackChatServer(LoopbackImageServer):
    """`asked` holds a `prompt` per picture (its digest), and `billed` answers by it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"models": [MODEL]} | options)
        self._server.RequestHandlerClass = _ChatHandler
        self.reply: Reply | None = None
        """(what was asked, what it would say) -> what it says: a text, or a whole choice."""
        self.takes: tuple[str, ...] = ("json_schema", "json_object")
        """Forms that it takes in `response_format`."""
        self.logprobs: Callable[[str], float] | None = None
        """The label -> the probability that it is given; the others share the rest. None: logprobs are turned down."""
        self.ignores_logprobs = True
        """Where it knows none: whether it answers without, or turns the request down."""


class _ChatHandler(_Handler):
    def do_POST(self) -> None:
        owner = self.chat
        if not owner.admit():
            return self.hang_up()
        body = json.loads(self.body())
        if urlsplit(self.path).path != "/v1/chat/completions":
            return self.error(404, f"Unknown request URL: POST {self.path}.", code="unknown_url")
        picture = next(p for p in body["messages"][0]["content"] if p["type"] == "image_url")["image_url"]["url"]
        data = base64.b64decode(picture.removeprefix("data:image/jpeg;base64,"))
        asked = owner.note({**body, "prompt": hashlib.sha256(data).hexdigest()}, self.retries)
        with owner.lock:
            owner.running += 1
            owner.most_running = max(owner.most_running, owner.running)
        try:
            if self.authorized() and self.takes(body):
                self.say(asked, data, owner.plan(asked) if owner.plan else None)
        finally:
            with owner.lock:
                owner.running -= 1
        return None

    @property
    def chat(self) -> LoopbackChatServer:
        assert isinstance(self.server.owner, LoopbackChatServer)
        return self.server.owner

    @property
    def retries(self) -> int:
        return int(self.headers.get("x-stainless-retry-count") or 0)

    def takes(self, body: Mapping[str, Any]) -> bool:
        form = (body.get("response_format") or {}).get("type")
        if body["model"] not in self.owner.models:
            self.error(404, f"The model '{body['model']}' does not exist.", code="model_not_found", param="model")
        elif form is not None and form not in self.chat.takes:
            self.error(
                400, f"'response_format' of type '{form}' is not supported with this model.", param="response_format"
            )
        elif body.get("logprobs") and self.chat.logprobs is None and not self.chat.ignores_logprobs:
            self.error(400, "logprobs are not supported with this model.", param="logprobs")
        else:
            return True
        return False

    def say(self, asked: Asked, data: bytes, fault: Fault | None) -> None:
        owner = self.chat
        if fault and fault.kind in ("status", "moderation", "rate_limit", "quota", "drop_before", "raw"):
            return self.refuse(fault)
        with owner.lock:
            owner.billed[asked.prompt] += 1
        time.sleep(min(30.0, owner.latency + (fault.seconds if fault and fault.kind == "slow" else 0.0)))
        if fault and fault.kind == "drop_after":
            return self.hang_up()
        if fault and fault.kind == "garbage_b64":
            return self.drip(fault.seconds)
        text = self.seen(asked.body, data)
        reply = owner.reply(asked, text) if owner.reply else text
        choice = reply if isinstance(reply, dict) else {"message": {"role": "assistant", "content": reply}}
        choice = {"index": 0, "finish_reason": "stop", **choice}
        if asked.body.get("logprobs") and owner.logprobs is not None and "logprobs" not in choice:
            choice["logprobs"] = {"content": self.tokens(str(choice["message"]["content"]), asked.body)}
        usage = {"prompt_tokens": 900, "completion_tokens": 12, "total_tokens": 912}
        return self.reply(
            200, {"object": "chat.completion", "model": f"{MODEL}-2026", "choices": [choice], "usage": usage}
        )

    def drip(self, seconds: float) -> None:
        """An answer that never comes to its end, a byte at a time."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(int(seconds / 0.05)):
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)
        self.hang_up()

    def options(self, body: Mapping[str, Any]) -> dict[str, list[str]]:
        """Attribute -> answers, from the text of the question."""
        text = body["messages"][0]["content"][0]["text"]
        lines = [line[2:].partition(": ") for line in text.splitlines() if line.startswith("- ")]
        return {name: answers.split('"')[1::2] for name, _, answers in lines}

    def seen(self, body: Mapping[str, Any], data: bytes) -> str:
        red, green, blue = Image.open(io.BytesIO(data)).convert("RGB").resize((1, 1)).getpixel((0, 0))
        if green > max(red, blue) + 20:
            return json.dumps({"people": []})
        place = 0 if red > blue + 20 else 1 if blue > red + 20 else -1
        return json.dumps({"people": [{name: answers[place] for name, answers in self.options(body).items()}]})

    def tokens(self, text: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A token per label and per piece between labels; a label's alternatives are the other answers."""
        probability = self.chat.logprobs
        assert probability is not None
        answers = {answer: options for options in self.options(body).values() for answer in options}
        found, rest = [], text
        while rest:
            at = min((rest.find(f'"{a}"') for a in answers if f'"{a}"' in rest), default=-1)
            if at < 0:
                found.append(_token(rest, 1.0))
                break
            label = next(a for a in answers if rest.startswith(f'"{a}"', at))
            others = [a for a in answers[label] if a != label]
            sure = probability(label)
            top = [_token(label, sure), *(_token(a, (1 - sure) / len(others)) for a in others), _token("\n", 1e-9)]
            found += [_token(rest[: at + 1], 1.0), {**top[0], "top_logprobs": top}]
            rest = rest[at + 1 + len(label) :]
        return found


def _token(text: str, probability: float) -> dict[str, Any]:
    return {"token": text, "logprob": math.log(max(probability, 1e-12)), "bytes": list(text.encode())}


def solid(colour: tuple[int, int, int], number: int = 0, size: tuple[int, int] = (24, 32)) -> bytes:
    """A PNG of one colour, the bytes different for each number."""
    buffer = io.BytesIO()
    picture = Image.new("RGB", size, colour)
    picture.putpixel((0, 0), (number * 37 % 256, number % 256, number // 256))
    picture.save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE, GREEN, GREY = (200, 20, 20), (20, 20, 200), (20, 200, 20), (120, 120, 120)


def main() -> None:
    """Serve for a while, to try the command line against: python -m tests.loopback_chat_server --seconds 60."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with LoopbackChatServer() as server:
        print(f"export OPENAI_API_KEY={KEY} OPENAI_BASE_URL={server.base_url}", flush=True)
        time.sleep(min(options.seconds, 3600.0))
        print(json.dumps({"asked": len(server.asked), "billed": Counter(server.billed).total()}))


if __name__ == "__main__":
    main()
