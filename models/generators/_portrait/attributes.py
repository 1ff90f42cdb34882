"""What a drawn portrait shows: the labels and their values."""

from __future__ import annotations

from dataclasses import dataclass

GENDERS = ("woman", "man")
SKIN_TONES = ("light", "medium", "dark")
AGES = ("young", "middle-aged", "elderly")
STYLES = ("photo", "digital")

OCCUPATIONS = (
    "homemaker", "nurse", "receptionist", "librarian", "socialite", "hairdresser", "nanny", "bookkeeper", "stylist",
    "housekeeper", "maestro", "skipper", "protege", "philosopher", "captain", "architect", "financier", "warrior",
    "broadcaster", "magician", "doctor", "daycare worker", "cto", "data scientist",
)  # fmt: skip

COMPANIES = ("alone", "patient", "children", "colleagues")


@dataclass(frozen=True, slots=True)
class PortraitAttributes:
    """Everything a portrait is told to show. Labels say how the drawing reads, never who somebody is."""

    gender: str
    """Perceived gender presentation, one of `GENDERS`."""
    skin_tone: str
    """One of `SKIN_TONES`: thirds of a ten-step light-to-dark scale. Race is not drawn."""
    age: str
    """One of `AGES`."""
    occupation: str | None = None
    """One of `OCCUPATIONS`, or None for everyday clothes."""
    style: str = "photo"
    """One of `STYLES`."""
    company: str = "alone"
    """Who else is hinted at, one of `COMPANIES`; only the main figure carries labels."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("gender", GENDERS), ("skin_tone", SKIN_TONES), ("age", AGES), ("style", STYLES), ("company", COMPANIES),
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} cannot be drawn; choose one of {', '.join(allowed)}")
        if self.occupation is not None and self.occupation not in OCCUPATIONS:
            raise ValueError(f"occupation={self.occupation!r} cannot be drawn; choose one of {', '.join(OCCUPATIONS)}")

    def truth(self) -> dict[str, str]:
        """The true labels of the image, by attribute name."""
        return {"presence": "person", "gender": self.gender, "skin_tone": self.skin_tone, "age": self.age}
