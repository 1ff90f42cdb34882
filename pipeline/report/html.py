"""What makes a page of ours one file that loads nothing: templates that escape, inlined style and script, the policy over them."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from allfour.pipeline import words

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def environment() -> jinja2.Environment:
    """Templates that escape everything and stop at names they do not know. One for all pages: a template is compiled once per process."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        clean=words.clean, percent=words.percent, grouped=words.grouped, label=words.label_text, plural=words.plural,
        words=words.group_text, duration=words.seconds_text,
    )  # fmt: skip
    return env


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
