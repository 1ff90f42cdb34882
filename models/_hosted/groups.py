"""Orders that are asked for together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from allfour.models._hosted.ledger import Order

O = TypeVar("O", bound=Order)  # noqa: E741 (an order)


@dataclass(frozen=True, slots=True)
class Group(Generic[O]):
    """Orders about one thing that are asked for together."""

    orders: tuple[O, ...]
    empty_answers: int = 0
    """Answers without anything for them so far, in a row."""

    def split(self, size: int) -> tuple[Group[O], Group[O] | None]:
        """Its first `size` orders, and the rest where there is one."""
        rest = self.orders[size:]
        return Group(self.orders[:size], self.empty_answers), Group(rest, self.empty_answers) if rest else None
