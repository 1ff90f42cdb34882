"""Tables -> counts per prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from allfour.pipeline.metrics.whole_sets import unanimous_sets
from allfour.pipeline.run.columns import ImageStatus
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.repeats import repeated_rows
from allfour.pipeline.run.tables import connect, count_together, scalar


@dataclass(slots=True)
class PromptTally:
    """Counts of one prompt."""

    id: str
    text: str
    group: str | None
    statuses: dict[str, int] = field(default_factory=dict)
    """Image status -> number of images."""
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Attribute -> image label (or ambiguous, no_person, mixed, unreadable) -> number of images."""
    set_labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """The same over the first `set_size` images alone."""
    sets: tuple[int, int] = (0, 0)
    """Whole sets of `set_size` images, one after the other by index, and those of one label of the first attribute."""
    revised: int = 0
    """Images whose prompt the service rewrote."""
    prompted: bool = True
    """False for the rows that no prompt is known of: they are images, and no prompt."""

    @property
    def requested(self) -> int:
        return sum(self.statuses.values())


@dataclass(frozen=True, slots=True)
class Tallies:
    """Everything that the metrics need of a run's tables."""

    prompts: tuple[PromptTally, ...]
    """In the order of first appearance in images.parquet."""
    joint: Mapping[tuple[str, str], Mapping[tuple[str, str], int]]
    """(attribute, attribute) -> (label, label) -> images."""
    duplicates: tuple[tuple[tuple[str, int], ...], ...]
    """Groups of images with identical bytes, at most `MAX_DUPLICATE_GROUPS`."""
    duplicate_images: int
    """Images whose bytes are those of an earlier image."""
    persons: int
    """Images in which more than one person was found."""
    shared_images: int = 0
    """Images whose bytes an image of another prompt has too."""


MAX_DUPLICATE_GROUPS = 200


def tally(run: RunFolder, *, attributes: list[str], set_size: int) -> Tallies:
    """Count labels per prompt over images.parquet and scores.parquet.

    Parameters
    ----------
    attributes
        Attribute names; labels of all of them are counted, and pairs of the first with each other one jointly.
    set_size
        Number of first images of a prompt that make its set.
    """
    with connect(run) as connection:
        prompts: dict[str, PromptTally] = {}
        for prompt_id, text, group, revised, prompted in connection.execute(
            "SELECT prompt_id, arg_min(prompt, file_row_number), arg_min(\"group\", file_row_number),"
            " count(*) FILTER (revised_prompt IS NOT NULL AND revised_prompt <> prompt), bool_or(prompted) FROM images GROUP BY prompt_id"
            " ORDER BY min(file_row_number)"
        ).fetchall():  # fmt: skip
            prompts[prompt_id] = PromptTally(id=prompt_id, text=text, group=group, revised=revised, prompted=prompted)
        for prompt_id, status, count in connection.execute(
            "SELECT prompt_id, status, count(*) FROM images GROUP BY ALL"
        ).fetchall():
            prompts[prompt_id].statuses[status] = count
        for prompt_id, attribute, label, total, in_set in connection.execute(
            # a row per prompt to join, and not one per image
            'SELECT l.prompt_id, l.attribute, l.label, count(*), count(*) FILTER (l."index" <= s.last) FROM labels l'
            " JOIN first_sets(?) s ON l.prompt_id = s.prompt_id GROUP BY ALL",
            [set_size],
        ).fetchall():
            prompts[prompt_id].labels.setdefault(attribute, {})[label] = total
            if in_set:
                prompts[prompt_id].set_labels.setdefault(attribute, {})[label] = in_set
        if any(prompt.requested >= 2 * set_size for prompt in prompts.values()):
            unanimous = unanimous_sets(
                connection,
                {prompt.id: prompt.requested for prompt in prompts.values()},
                attribute=attributes[0],
                labels={label for prompt in prompts.values() for label in prompt.labels.get(attributes[0], {})},
                size=set_size,
            )
            for prompt in prompts.values():
                prompt.sets = prompt.requested // set_size, unanimous[prompt.id]
        joint = {}
        for other in attributes[1:]:
            rows = count_together(connection, (attributes[0], other), "label0, label1, count(*)")
            joint[attributes[0], other] = {(a, b): n for a, b, n in rows}
        groups: list[tuple[list[dict[str, Any]], int]] = []
        duplicate_images = shared_images = 0
        if (repeated := repeated_rows([run.images_path])).num_rows:  # few runs have any, and a query takes its time
            connection.register("repeated", repeated)
            groups = connection.execute(
                'SELECT list({"p": prompt_id, "i": "index"} ORDER BY file_row_number), count(*) FROM repeated'
                " GROUP BY sha256 HAVING count(*) > 1 ORDER BY min(file_row_number) LIMIT ?",
                [MAX_DUPLICATE_GROUPS],
            ).fetchall()
            duplicate_images = scalar(connection, "SELECT count(sha256) - count(DISTINCT sha256) FROM repeated")
            shared_images = scalar(
                connection,
                "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM repeated GROUP BY sha256 HAVING count(DISTINCT prompt_id) > 1)",
            )
        persons = scalar(
            connection, 'SELECT count(*) FROM (SELECT DISTINCT prompt_id, "index" FROM scores WHERE person > 0)'
        )
    return Tallies(
        prompts=tuple(prompts.values()),
        joint=joint,
        duplicates=tuple(tuple((row["p"], row["i"]) for row in rows) for rows, _ in groups),
        duplicate_images=duplicate_images,
        persons=persons,
        shared_images=shared_images,
    )


def sure_counts(run: RunFolder, *, attribute: str, edges: Sequence[float]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Count, per prompt and label, the images that were decided with a lead of each edge or more.

    The lead is log(p1 / p2) of the two most probable labels. Nothing is counted of a run with several people in an image, whose label
    no single lead belongs to.

    Parameters
    ----------
    attribute
        One of the run's attributes.
    edges
        In natural logarithms, ascending.
    """
    reached = ", ".join("count(*) FILTER (lead >= ?)" for _ in edges)
    query = (
        f"SELECT prompt_id, decision, {reached} FROM"  # noqa: S608 (a count per edge)
        " (SELECT prompt_id, decision, ln(greatest(p[1], 1e-12)) - ln(greatest(p[2], 1e-12)) AS lead FROM"
        " (SELECT prompt_id, decision, list_reverse_sort(map_values(probabilities)) AS p FROM scores"
        " WHERE attribute = ? AND len(map_values(probabilities)) > 1)) GROUP BY ALL"
    )
    with connect(run) as connection:
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for prompt_id, decision, *counts in connection.execute(query, [*edges, attribute]).fetchall():
            found.setdefault(prompt_id, {})[decision] = tuple(counts)
    return found


Copies = Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]]
"""Prompt id -> images that are near-copies of an earlier one, by label: those of the first set, and all of them."""


def copy_counts(
    run: RunFolder, *, attribute: str, images: Iterable[tuple[str, int]], set_size: int
) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    """Count near-copies by label, for `Copies`.

    Parameters
    ----------
    attribute
        One of the run's attributes.
    images
        (prompt id, index) of each.
    set_size
        Number of first images of a prompt that make its set.
    """
    rows = list(images)
    table = pa.table({"prompt_id": pa.array([p for p, _ in rows], pa.string()), "index": pa.array([i for _, i in rows], pa.int64())})  # fmt: skip
    found: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
    if not rows:
        return found
    with connect(run) as connection:
        connection.register("copied", table)
        query = (
            'SELECT l.prompt_id, l.label, count(*), count(*) FILTER (l."index" <= s.last) FROM labels l JOIN copied c'
            ' ON l.prompt_id = c.prompt_id AND l."index" = c."index" JOIN first_sets(?) s ON l.prompt_id = s.prompt_id'
            " WHERE l.attribute = ? GROUP BY ALL"
        )
        for prompt_id, label, total, in_set in connection.execute(query, [set_size, attribute]).fetchall():
            first, every = found.setdefault(prompt_id, ({}, {}))
            every[label] = total
            if in_set:
                first[label] = in_set
    return found


def status_count(tallies: Tallies, status: ImageStatus) -> int:
    """Images of one status over all prompts."""
    return sum(prompt.statuses.get(status, 0) for prompt in tallies.prompts)
