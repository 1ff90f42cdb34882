"""The page on which people label a sample: one self-contained HTML file, worked by keyboard.

It holds pictures and opaque names alone. Neither the classifier's decision nor the prompt is in it, not even in its source:
either would sway how an image reads.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from allfour.pipeline import words
from allfour.pipeline.report.html import environment, inlined, script_json, security_policy
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to label."""

    image: str
    """Its name in the sample; says nothing of prompt or decision."""
    jpeg: bytes


def render_review(
    *,
    name: str,
    identity: str,
    attribute: str,
    labels: Sequence[str],
    pictures: Sequence[Picture],
    notice: str | None = None,
) -> str:
    """The page as text.

    Parameters
    ----------
    name
        Of the run.
    identity
        Of the sample; goes into every line of the CSV, so that it cannot be taken for another's.
    attribute, labels
        What is asked, and the answers, which get the digit keys from 1.
    pictures
        In the order in which they are shown.
    notice
        What the run's header says must be said.
    """
    css, css_hash = inlined("report.css", "review.css")
    script, script_hash = inlined("common.js", "review.js")
    answers = [
        {"value": label, "key": str(digit), "text": _sentence(words.label_text(label)), "kind": "label"}
        for digit, label in enumerate(labels, 1)
    ]
    answers += [
        {"value": AMBIGUOUS, "key": "0", "text": "Cannot tell", "kind": "other"},
        {"value": NO_PERSON, "key": "N", "text": "No person", "kind": "other"},
        {"value": MIXED, "key": "M", "text": "Several people who differ", "kind": "other"},
    ]
    data = {
        "review": identity,
        "answers": answers,
        "images": [
            {"image": p.image, "src": f"data:image/jpeg;base64,{base64.b64encode(p.jpeg).decode()}"} for p in pictures
        ],
    }
    return (
        environment()
        .get_template("review.html.j2")
        .render(
            css=css,
            script=script,
            policy=security_policy(css_hash, script_hash),
            name=words.clean(name, 80),
            attribute=words.label_text(attribute),
            answers=answers,
            total=len(pictures),
            notice=words.clean(notice) if notice else None,
            data=script_json(data),
        )
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
