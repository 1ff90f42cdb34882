"""What is said of prompts that a tree of files seems to hold: in the names of its folders and files, beside its images and in them."""

from __future__ import annotations

import re

from allfour.pipeline.archives.beside import Beside
from allfour.pipeline.archives.listing import Listing, prompt_name
from allfour.pipeline.archives.naming import counted_name, names_no_prompt, prompt_in_name
from allfour.pipeline.archives.probing import PROBED, Probe
from allfour.pipeline.archives.text import escape_name
from allfour.pipeline.words import quantity

_WORDS = re.compile(r"[^\W\d_]+")
_WORDS_OF_A_PROMPT = 3
"""Words that a file's name has at least, to be said to hold a prompt."""


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


def folder_above(listing: Listing) -> str:
    """The pattern by which the folders one level up name the prompts, where these read as prompts."""
    above = [prompt_name(part.path.rpartition("/")[0], "") for part in listing.directories if part.nameless]
    if not above or any(not name or names_no_prompt(name) for name in above):
        return ""
    return f": '{{prompt}}/{{folder}}/{{image}}' takes the folders above them, such as {escape_name(above[0])[:120]!r}"


def telling_name(listing: Listing) -> str | None:
    """A file's name, where most of the first ones read as prompts."""
    first = [name for part in listing.directories if not part.lacks for name in part.names[:PROBED]][:PROBED]
    telling = [name for name in first if len(_WORDS.findall(prompt_in_name(name) or "")) >= _WORDS_OF_A_PROMPT]
    return telling[0] if 2 * len(telling) > len(first) else None


def not_understood(listing: Listing, beside: Beside) -> list[str]:
    """What lies beside the images, seems to hold their prompts and does not say which is whose."""
    notes = beside.unread_notes(beside.covered(listing))
    if (told := listing.may_tell) and not listing.captioned and not beside.tables and not notes:
        notes.append(
            f"{escape_name(told[0])} may hold prompts, in a form that says of no image which is its own: a metadata.csv beside the "
            "images, with the columns file_name and text, would say"
        )
    if listing.doubtful_captions:
        notes.append(listing.doubtful_captions)
    if (name := listing.sidecar) and not listing.captioned and not beside.tables:
        notes.append(
            f"{escape_name(name)}, and others named as images are, may hold prompts, in a form that is not read (.txt and .json are)"
        )
    return notes


def in_reach(listing: Listing, beside: Beside, probe: Probe) -> list[str]:
    """Prompts beside and in the images, where folders' names are taken."""
    notes = []
    if listing.captioned:
        notes.append(
            f"{listing.captioned:,} images have a caption file beside them; prompts are taken from the folders. "
            "prompt_from: caption takes them from the captions"
        )
    if covered := beside.covered(listing):
        table = escape_name(beside.tables[0])
        notes.append(
            f"{table} beside the images has prompts for {covered:,} of them; prompts are taken from the folders. "
            "prompt_from: table takes them from it"
        )
    notes += [f"{note}. Prompts are taken from the folders" for note in not_understood(listing, beside)]
    if name := telling_name(listing):
        notes.append(
            f"the files' names, such as {escape_name(name)[:120]!r}, may hold prompts; these are taken from the folders. "
            "prompt_from: name takes them from the names"
        )
    if probe.in_metadata:
        such = f", such as {probe.example[:80]!r}" if probe.example else ""
        notes.append(
            f"{probe.in_metadata} of the {probe.images} images looked at hold a prompt in their metadata{such}; prompts are taken from "
            "the folders. prompt_from: metadata takes them from the images"
        )
    return notes
