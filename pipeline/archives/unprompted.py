"""Why images of a run are in no set: no prompt could be found for them, they are grids of several pictures, or there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from allfour.files import open_regular

LACKS_PROMPT: Final = "no prompt: "
"""How the error of such an image begins; what it lacks follows."""
NOT_ONE: Final = "not one picture: "
"""How the error of an image begins that is a grid of several."""

_MEMORY = "1GB"

_COUNTED = """
CREATE TEMP TABLE missing AS
SELECT kind, status, reason, count(*) AS images FROM (
  SELECT status,
    CASE WHEN starts_with(error, $lacks) THEN 'unprompted' WHEN starts_with(error, $grid) THEN 'grid' ELSE 'other' END AS kind,
    CASE kind WHEN 'unprompted' THEN substr(error, length($lacks) + 1) WHEN 'grid' THEN substr(error, length($grid) + 1)
      ELSE regexp_replace(error, ' \\[[^\\]]*\\]$', '') END AS reason
  FROM {table} WHERE error <> '' AND ((kind = 'unprompted') <= (prompt = '')) AND ((kind = 'grid') <= (prompt <> ''))
) GROUP BY ALL
"""
"""A request's id, which no two errors have in common, ends an error in brackets."""
_COMMONEST = "SELECT reason, status, images FROM missing WHERE kind = ? ORDER BY images DESC, status, reason LIMIT ?"


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why images are in no set, and how many are for each reason; the commonest first."""

    grids: Mapping[str, int] = field(default_factory=dict)
    """What those are that show several pictures each."""
    unprompted: Mapping[str, int] = field(default_factory=dict)
    """What those lack that have no prompt, such as `no caption file ... beside it`."""
    others: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(status, error) of the others that are missing."""
    more: int = 0
    """Reasons like the last that are not among them."""


def why_missing(table: Path, *, most: int = 5, most_others: int = 3) -> Reasons:
    """Count the reasons why images are missing, in one reading that keeps no row.

    Parameters
    ----------
    table
        Images.parquet of a run. One that cannot be read says nothing, nor does one with more reasons than 1 GB of memory takes.
    most, most_others
        Reasons of each kind.
    """
    import duckdb

    from allfour.pipeline.run.database import database, parquet_rows

    try:
        with open_regular(table):  # a pipe would be waited on for ever
            pass
        with database(spill=None, memory=_MEMORY) as connection:
            connection.execute(_COUNTED.format(table=parquet_rows(table)), {"lacks": LACKS_PROMPT, "grid": NOT_ONE})
            grids, unprompted, others = (
                connection.execute(_COMMONEST, [kind, limit]).fetchall()
                for kind, limit in (("grid", most), ("unprompted", most), ("other", most_others))
            )
            (count,) = connection.execute("SELECT count(*) FROM missing WHERE kind = 'other'").fetchone() or (0,)
    except (duckdb.Error, OSError):
        return Reasons()
    return Reasons(
        grids={reason: images for reason, _, images in grids},
        unprompted={reason: images for reason, _, images in unprompted},
        others={(status, reason): images for reason, status, images in others},
        more=count - len(others),
    )
