"""What is said of the names of a tree's folders, where these are taken for prompts."""

from __future__ import annotations

from allfour.pipeline.archives.listing import Listing, prompt_name
from allfour.pipeline.archives.naming import counted_name
from allfour.pipeline.archives.text import escape_name
from allfour.pipeline.words import quantity


def counted_names(listing: Listing) -> list[str]:
    """A word on folders whose names all begin with a number that counts, which becomes part of the prompts."""
    names = [prompt_name(part.path, "") for part in listing.directories if not part.lacks and not part.nameless]
    marks = {counted_name(name) for name in names}
    if len(names) < 2 or len(marks) > 1 or (mark := next(iter(marks))) is None:
        return []
    return [
        f"folders' names begin with a number, such as {escape_name(names[0])[:80]!r}, which stays part of the prompts: prompt_from: path "
        f"with path_pattern: '{{number}}{mark}{{prompt}}/{{image}}' leaves it out"
    ]


def several_parents(listing: Listing) -> str | None:
    """A word on folders of one name under several parents, whose images become one prompt."""
    parents: dict[str, set[str]] = {}
    for part in listing.directories:
        if "/" in part.path and not part.lacks and not part.nameless:
            above, _, name = part.path.rpartition("/")
            parents.setdefault(name, set()).add(above)
    several = {name: sorted(each) for name, each in parents.items() if len(each) > 1}
    if not several:
        return None
    name = next(iter(several))
    shown = ", ".join(escape_name(each) for each in several[name][:4])
    return (
        f"{quantity(len(several), 'folder name')} {'occurs' if len(several) == 1 else 'occur'} under several parents, such as {escape_name(name)!r} under {shown}: the images of one name "
        "are one prompt. Where the parents are models, rescore each by itself and compare the runs, or set prompt_from: path with "
        "path_pattern: '{model}/{prompt}/{index}' to have the parents in a column"
    )
