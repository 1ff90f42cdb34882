"""What a judge is asked about an image: one closed question per attribute, for every person, and the schema of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet

CANNOT_TELL = "cannot tell"
"""The answer that is not a label; the decision is then `ambiguous`."""
PEOPLE = "people"
"""Key of the answer's list."""

INSTRUCTIONS = (
    "You describe how the people in an image read to somebody who looks at it: perceived presentation, which may differ from "
    "who anybody is. Do not identify anybody."
)
"""How a question begins unless a config says otherwise."""


@dataclass(frozen=True, slots=True)
class Question:
    """The whole of what is asked, the image aside."""

    text: str
    options: dict[str, tuple[str, ...]]
    """Attribute -> answers that it may have: its labels in the file's order, and `cannot tell`."""
    spoken: dict[str, dict[str, str]]
    """Attribute -> what an answer may say, in small letters -> the answer that it stands for: labels and their phrases."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of an answer; strict servers want every property required and none besides."""
        person = {
            "type": "object",
            "properties": {name: {"type": "string", "enum": list(options)} for name, options in self.options.items()},
            "required": list(self.options),
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {PEOPLE: {"type": "array", "items": person}},
            "required": [PEOPLE],
            "additionalProperties": False,
        }


def make_question(attributes: AttributeSet, *, instructions: str, max_people: int) -> Question:
    """The question about these attributes, in the words of their file.

    Raises
    ------
    ClassifierError
        A label has the name of the answer that is none.
    """
    for name in attributes.attributes:
        if CANNOT_TELL in (label.lower() for label in attributes.labels(name)):
            raise ClassifierError(
                f"{CANNOT_TELL!r} is an answer that the judge may always give, so {name} cannot have a label of that name. Rename the label in the attributes file"
            )
    shape = ", ".join(f'"{name}": "..."' for name in attributes.attributes)
    lines = [
        instructions.strip(),
        f"List the people whom the image is about, from left to right, at most {max_people}. Leave out people in a blurred background, "
        "statues, and pictures of people inside the picture. Where nobody is shown, the list is empty.",
        "For each person answer how the person reads (perceived presentation). Use one of the answers given in double quotes, as it is "
        f'written. Answer "{CANNOT_TELL}" where the image does not show it.',
        *(_asked(attributes, name) for name in attributes.attributes),
        f'Answer with this JSON alone: {{"{PEOPLE}": [{{{shape}}}]}}',
    ]
    return Question(
        text="\n".join(lines),
        options={name: (*attributes.labels(name), CANNOT_TELL) for name in attributes.attributes},
        spoken={name: _spoken(attributes, name) for name in attributes.attributes},
    )


def _asked(attributes: AttributeSet, name: str) -> str:
    """One line of the question: the attribute and its answers, each with the phrases of the attributes file."""
    answers = []
    for label, phrases in attributes.attributes[name].labels.items():
        wording = [phrase for phrase in phrases if phrase.lower() != label.lower()]
        answers.append(f'"{label}" ({"; ".join(wording)})' if wording else f'"{label}"')
    return f'- {name}: {", ".join(answers)}, or "{CANNOT_TELL}"'


def _spoken(attributes: AttributeSet, name: str) -> dict[str, str]:
    labels = attributes.attributes[name].labels
    phrases = {phrase.lower(): label for label, words in labels.items() for phrase in words}
    return {CANNOT_TELL: CANNOT_TELL, **phrases, **{label.lower(): label for label in labels}}
