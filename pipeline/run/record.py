"""The base of every typed document of a run folder, and the numbers in them.

Reading is tolerant: most keys may be absent, and keys that this version does not know are kept aside. What is written is what was
said: a field that nobody set is no key of the document.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

if TYPE_CHECKING:
    from allfour.pipeline import statistics

FORMAT: Final = 1
"""Of every document. Keys are added freely and never renamed."""
STUDY_FILE: Final = "study.json"
"""In the folder of a study."""


def finite(value: Any) -> Any:
    """A number that JSON knows, or None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(finite), WithJsonSchema({"type": ["number", "null"]})]
Share = Annotated[
    float | None, BeforeValidator(finite), WithJsonSchema({"type": ["number", "null"], "minimum": 0, "maximum": 1})
]
"""In [0, 1]; None where there is nothing to tell it from."""
Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]


class Record(BaseModel):
    """A part of a document: frozen, typed, and open for keys of later versions."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    def document(self) -> dict[str, Any]:
        """As it is written: plain JSON values, without the fields that nobody set."""
        return self.model_dump(mode="json", exclude_unset=True)


def always_written(*keys: str) -> ConfigDict:
    """For documents whose writer always says these keys, which a reader of old ones may miss."""
    return ConfigDict(json_schema_extra={"required": list(keys)})


class Estimate(Record):
    """A number with its interval."""

    model_config = always_written("value", "low", "high")

    value: Number = None
    low: Number = None
    high: Number = None
    method: str | None = None
    """Of the interval, such as `wilson`."""

    @classmethod
    def of(cls, found: statistics.Interval) -> Self:
        """What an estimator found."""
        return cls(**found.to_dict())

    @property
    def known(self) -> bool:
        return self.value is not None

    @property
    def bounded(self) -> bool:
        return self.low is not None and self.high is not None


class Interval(Estimate):
    """A share in [0, 1] with its interval."""

    value: Share = None
    low: Share = None
    high: Share = None


Correlation = Annotated[
    float | None, BeforeValidator(finite), WithJsonSchema({"type": ["number", "null"], "minimum": -1, "maximum": 1})
]


class Kappa(Estimate):
    """Cohen's kappa, -1 to 1, with its interval."""

    value: Correlation = None
    low: Correlation = None
    high: Correlation = None


class Note(Record):
    """What a reader must know before quoting a number. Found by its code, never by its words."""

    code: str
    text: str
    about: str | None = None
    """The attribute, analysis or figure that it is about; None where it is the run."""
