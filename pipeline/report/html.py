"""What makes a page of ours one file that loads nothing: templates that escape, inlined style and script, the policy over them."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import marshal
import os
import re
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from allfour.pipeline import words

TEMPLATES = Path(__file__).parent / "templates"
_BACKTICKS = re.compile(r"`([^`]{1,300})`")
_OPTIONS: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}


class CompiledTemplates(jinja2.BytecodeCache):
    """Templates as Python's bytecode, kept where Python keeps that of modules: to compile them takes a fifth of a report's time.

    As there, a folder that cannot be written to is left alone, and PYTHONDONTWRITEBYTECODE writes nothing. What is damaged, or made of
    another text or by another version, is compiled again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_source_checksum(self, source: str) -> str:
        """Of all that the bytecode depends on besides Python."""
        return super().get_source_checksum(f"{jinja2.__version__} {_OPTIONS} {source}")

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        with contextlib.suppress(OSError):
            kept = self._file(bucket).read_bytes()
            head = len(_head(bucket, b""))
            if kept[:head] == _head(bucket, kept[head:]):
                bucket.code = marshal.loads(kept[head:])  # noqa: S302  our own, whole, where modules lie too

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        if sys.dont_write_bytecode:
            return
        code = marshal.dumps(bucket.code)
        with contextlib.suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            part = self._file(bucket).with_suffix(f".{os.getpid()}")
            part.write_bytes(_head(bucket, code) + code)
            part.replace(self._file(bucket))

    def _file(self, bucket: jinja2.bccache.Bucket) -> Path:
        return self._folder / f"{bucket.key}.template"


def _head(bucket: jinja2.bccache.Bucket, code: bytes) -> bytes:
    return MAGIC_NUMBER + bucket.checksum.encode() + hashlib.sha256(code).digest()


@functools.cache
def environment() -> jinja2.Environment:
    """Templates that escape everything and stop at names they do not know. One for all pages."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        bytecode_cache=CompiledTemplates(TEMPLATES / "__pycache__"),
        autoescape=True,
        **_OPTIONS,
    )
    env.filters.update(
        clean=words.clean, percent=words.percent, grouped=words.grouped, label=words.label_text, plural=words.plural,
        words=words.group_text, code=with_code, duration=words.seconds_text, quantity=words.quantity, all_of=words.all_of,
    )  # fmt: skip
    return env


def compile_all() -> None:
    """Compile every template, so that the first report finds them compiled."""
    env = environment()
    for name in env.list_templates(extensions=["j2"]):
        env.get_template(name)


def with_code(text: object) -> Markup:
    """A text as HTML, with what stands between backticks as code. Everything in it is escaped first."""
    return Markup(_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped here


def script_json(value: Any) -> Markup:
    """JSON that is safe inside a script element: no `<`, `>`, `&`, line or paragraph separators."""
    raw = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(raw.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704  escaped here


def inlined(*names: str) -> tuple[Markup, str]:
    """Style sheets or scripts of ours as one, and its hash for the content security policy."""
    content = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return Markup(content), f"'sha256-{digest}'"  # noqa: S704  our own files


def security_policy(style_hash: str, script_hash: str) -> str:
    """Nothing is loaded from anywhere; only our own style and script run."""
    return (
        f"default-src 'none'; img-src data:; style-src {style_hash}; script-src {script_hash}; "
        "base-uri 'none'; form-action 'none'"
    )
