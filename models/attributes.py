"""What a classifier is asked: attributes, their labels, and the wording of each label.

Labels describe how an image reads (perceived presentation), never who somebody is. They are names everywhere; no table or file
holds a label's position.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

PRESENCE = "presence"
PERSON = "person"
NO_PERSON = "no_person"
AMBIGUOUS = "ambiguous"
UNREADABLE = "unreadable"
MIXED = "mixed"
RESERVED_NAMES = frozenset(
    {AMBIGUOUS, NO_PERSON, UNREADABLE, MIXED, "requested", "generated", "refused", "failed", "scored", "labelled"}
)
"""Decisions that are no label, and what an image is counted under: labels stand beside them in tables."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _+\-]{0,63}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be used as a name. Use at most 64 letters, digits, spaces, '_', '-' and '+', and begin with a letter or digit"
        )
    return name


def _checked_template(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(f"template {template!r} must contain '{{}}' exactly once, where the label's phrase goes")
    return template


Name = Annotated[str, AfterValidator(_checked_name)]
Template = Annotated[str, AfterValidator(_checked_template)]
Phrases = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=300)], ...], Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


_LATER = {"margin_logit": None, "max_error": None, "temperature": None, "stability": False, "source": "wording"}
"""Keys that are written only where they are set to something else than this."""


class AttributeSpec(_Frozen):
    """One question to the classifier, such as perceived gender."""

    source: Literal["wording", "skin-tone"] = "wording"
    """What answers it: the classifier, which is given the wording; or the pixels of each face's skin, and then the phrases of a label are
    steps of the Monk scale (`monk 1` to `monk 10`) or classes of the typology angle (`ita light`)."""

    labels: dict[Name, Phrases]
    """Label name -> phrases that stand for it; every phrase goes through every template."""
    templates: tuple[Template, ...] | None = None
    """Overrides the set's templates for this attribute."""
    margin: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Abstention margin: where the two most probable labels are closer than this, the decision is `ambiguous`."""
    margin_logit: float | None = Field(default=None, gt=0.0, le=100.0)
    """The same on the logit scale, where the model's own scale does not blunt it: the least log(p1 / p2) of the two most probable labels."""
    max_error: float | None = Field(default=None, gt=0.0, lt=0.5)
    """In place of a margin: the smallest one at which a calibration shows the error among labelled images to be at most this."""
    stability: bool = False
    """An image whose likeliest label changes when it is mirrored, cropped a little or moved is `ambiguous`."""
    temperature: float | None = Field(default=None, gt=0.0, le=1000.0)
    """Probabilities become p^(1/temperature), summing to 1 again, before anything is decided: `allfour calibrate` finds the best one."""

    @model_validator(mode="after")
    def _one_margin(self) -> Self:
        given = [name for name in ("margin_logit", "max_error") if getattr(self, name) is not None]
        if len(given) > 1 or (given and self.margin and given != ["max_error"]):
            raise ValueError("margin, margin_logit and max_error say the same thing in three ways: give one of them")
        return self

    @model_serializer(mode="wrap")
    def _without_what_nobody_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs made before these keys existed keep their fingerprints."""
        return {key: value for key, value in handler(self).items() if key not in _LATER or value != _LATER[key]}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError("an attribute needs at least two labels")
        if taken := sorted(RESERVED_NAMES & set(self.labels)):
            raise ValueError(
                f"a label may not be named {taken[0]!r}, because images are counted under that name whatever they show. Choose another name; {', '.join(sorted(RESERVED_NAMES))} are reserved"
            )
        if self.source == "skin-tone":
            from allfour.models.skin_tone import check_labels

            check_labels(self.labels)
            if self.templates is not None:
                raise ValueError("an attribute with source skin-tone has no wording, so it takes no templates")
        return self


class PresenceSpec(_Frozen):
    """The gate before all attributes: is there a person to describe at all?"""

    labels: dict[Name, Phrases]
    templates: tuple[Template, ...] | None = None
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    """Below this probability of `person` an image is `no_person` for every attribute."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if set(self.labels) != {PERSON, NO_PERSON}:
            raise ValueError(f"presence must have exactly the labels {PERSON!r} and {NO_PERSON!r}")
        return self


class AttributeSet(_Frozen):
    """Everything one classifier is asked about an image."""

    templates: tuple[Template, ...] = ("{}",)
    presence: PresenceSpec | None = None
    attributes: dict[Name, AttributeSpec]
    headline: str = "gender"
    """The attribute whose unanimity is the headline metric."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if PRESENCE in self.attributes:
            raise ValueError(f"{PRESENCE!r} is the name of the presence check. Write it beside 'attributes', not in it")
        if self.headline not in self.attributes:
            raise ValueError(f"headline {self.headline!r} is not one of the attributes: {', '.join(self.attributes)}")
        return self

    def labels(self, attribute: str) -> tuple[str, ...]:
        """Label names of an attribute (or of the presence gate), in the file's order."""
        if attribute == PRESENCE:
            return tuple(self.presence.labels) if self.presence else (PERSON, NO_PERSON)
        return tuple(self.attributes[attribute].labels)

    def prompts(self, attribute: str) -> dict[str, tuple[str, ...]]:
        """Label name -> every full text that stands for it: its phrases through the templates."""
        spec: AttributeSpec | PresenceSpec | None = (
            self.presence if attribute == PRESENCE else self.attributes[attribute]
        )
        if spec is None:
            raise KeyError(attribute)
        templates = spec.templates or self.templates
        if attribute in self.measured:
            templates = ("{}",)
        return {
            label: tuple(template.replace("{}", phrase) for template in templates for phrase in phrases)
            for label, phrases in spec.labels.items()
        }

    @property
    def questions(self) -> tuple[str, ...]:
        """Names of everything asked: the presence gate first where there is one, then the attributes."""
        return ((PRESENCE,) if self.presence else ()) + tuple(self.attributes)

    @property
    def measured(self) -> tuple[str, ...]:
        """Attributes that pixels answer and no wording."""
        return tuple(name for name, spec in self.attributes.items() if spec.source != "wording")

    @property
    def worded(self) -> tuple[str, ...]:
        """The questions but for those that are measured."""
        return tuple(question for question in self.questions if question not in self.measured)

    @property
    def steady(self) -> tuple[str, ...]:
        """Attributes whose label has to hold in every view of an image."""
        return tuple(name for name, spec in self.attributes.items() if spec.stability)

    def decided_by(self) -> dict[str, Any]:
        """What decisions depend on beside the probabilities, by name: margins, temperatures and the presence threshold."""
        found: dict[str, Any] = {}
        for name, spec in self.attributes.items():
            found[f"margin of {name}"] = spec.margin
            if spec.margin_logit is not None:
                found[f"margin on the logit of {name}"] = spec.margin_logit
            if spec.stability:
                found[f"stability of {name}"] = True
            if spec.temperature is not None:
                found[f"temperature of {name}"] = spec.temperature
        if self.presence is not None:
            found["threshold of presence"] = self.presence.threshold
        return found

    def wording_sha256(self) -> str:
        """Hash of labels and wording alone: margins and thresholds change decisions, not probabilities."""
        wording = {question: self.prompts(question) for question in self.questions}
        return hashlib.sha256(json.dumps(wording, ensure_ascii=True).encode()).hexdigest()


_RANGE = re.compile(r"(\d+)\s*(?:-|to)\s*(\d+)")
_OPEN_RANGE = re.compile(r"(?:more than|over)\s+(\d+)|(\d+)\+")


def age_bins(labels: Sequence[str]) -> Callable[[int], str | None]:
    """A function from age in years to the label that holds it, for labels such as `20-29`, `more than 70`, `70+`.

    Raises
    ------
    ValueError
        A label holds no range of years.
    """
    bins: list[tuple[int, int, str]] = []
    for label in labels:
        if match := _RANGE.search(label):
            bins.append((int(match[1]), int(match[2]), label))
        elif match := _OPEN_RANGE.search(label):
            # FairFace's "more than 70" follows 60-69, so it holds 70 too
            bins.append((int(match[1] or match[2]), 10_000, label))
        else:
            raise ValueError(f"the age label {label!r} is not a range of years (write 20-29, or more than 70)")
    return lambda age: next((label for low, high, label in bins if low <= age <= high), None)
