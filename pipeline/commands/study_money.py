"""What a study may cost: one sum over all its cells, and how much of it a cell is given."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from allfour.errors import ConfigError
from allfour.pipeline.config.study import CellPlan
from allfour.pipeline.run.folder import RunFolder


class Purse:
    """One cap over many cells, some of which are made at once.

    A cell is given what is left when it begins, less what cells under way were given and have not spent, in proportion to what it and the cells
    still waiting need. What it does not spend goes back, so the sum of all ledgers never passes the cap.

    Parameters
    ----------
    cap
        Of all cells together; None for no limit.
    cells
        Those that make images.
    spent
        What a cell has cost so far, by its own ledger.
    needed
        What its images that are left cost, if every request succeeds the first time.

    Raises
    ------
    ConfigError
        A hosted cell has no price, or prices are in different currencies.
    """

    def __init__(
        self,
        cap: float | None,
        cells: Sequence[CellPlan],
        *,
        spent: Callable[[CellPlan], float],
        needed: Callable[[CellPlan], float],
    ) -> None:
        self._cap, self._cells, self._spent, self._needed = cap, cells, spent, needed
        self._guard = threading.Lock()
        self._lent: dict[str, float] = {}
        """Cell under way -> what it may have cost in all."""
        self._waiting: dict[str, CellPlan] = {}
        self._limits: dict[str, float] = {}
        """Cell -> what it was last allowed to have cost in all."""
        if cap is not None:
            _check_prices(cells, cap)

    @property
    def spent(self) -> float:
        """By all ledgers."""
        return sum(self._spent(cell) for cell in self._cells)

    def expect(self, cells: Sequence[CellPlan]) -> None:
        """These are to be made at once: each leaves the others their part."""
        with self._guard:
            self._waiting = {cell.name: cell for cell in cells}

    @contextlib.contextmanager
    def lent(self, cell: CellPlan) -> Iterator[CellPlan]:
        """The cell with a limit, which is kept free for it until it ends."""
        if self._cap is None or cell.config.generator is None or cell.config.generator.price() is None:
            yield cell
            return
        with self._guard:
            self._waiting.pop(cell.name, None)
            limit = self._limits[cell.name] = self._lent[cell.name] = self._limit(cell)
        config = cell.config.model_copy(update={"generator": cell.config.generator.capped(limit)})
        try:
            yield CellPlan(cell.generator, cell.prompts, cell.classifier, config, cell.calibration)
        finally:
            with self._guard:
                del self._lent[cell.name]

    def can_go_on(self, cell: CellPlan) -> bool:
        """Whether its limit stopped a cell, and there is money for another image of it."""
        price = cell.config.generator.price() if cell.config.generator is not None else None
        if self._cap is None or price is None or cell.name not in self._limits:
            return False
        stopped = self._limits[cell.name] - self._spent(cell) < price[0]
        return stopped and self._needed(cell) > 0 and self._cap - self.spent >= price[0]

    def _limit(self, cell: CellPlan) -> float:
        spent = {c.name: self._spent(c) for c in self._cells}
        reserved = sum(max(0.0, limit - spent[name]) for name, limit in self._lent.items())
        left = max(0.0, (self._cap or 0.0) - sum(spent.values()) - reserved)
        own, others = self._needed(cell), sum(self._needed(c) for c in self._waiting.values())
        return spent[cell.name] + (left * own / (own + others) if others else left)


def _check_prices(cells: Sequence[CellPlan], cap: float) -> None:
    generators = [(cell.name, cell.config.generator) for cell in cells if cell.config.generator is not None]
    for name, generator in generators:
        if generator.hosted and generator.price() is None:
            raise ConfigError(
                f"max_cost is {cap:g}, but {name} has no generator.price_per_image. Set one, so that spending can be counted"
            )
    currencies = {price[1] for _, generator in generators if (price := generator.price()) is not None}
    if len(currencies) > 1:
        named = ", ".join(sorted(str(c) for c in currencies))
        raise ConfigError(
            f"max_cost is one sum, but the prices are in {named}. Give all generators the same `currency`"
        )


def booked(cell: CellPlan, run: RunFolder) -> float:
    """What a cell has cost so far: by its own ledger, and by its header where a ledger was lost and tells of less."""
    if cell.config.generator is None:
        return 0.0
    return max(cell.config.generator.booked(run.ledger_path), float((run.header().spent or {}).get("spent") or 0.0))
