"""Captions that lie in a folder of their own beside the images': `images/00012.png` and `captions/00012.txt`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from allfour.pipeline.archives.naming import may_be_caption, without_ending
from allfour.pipeline.archives.text import escape_name

_SAYS_CAPTION = re.compile(r".*(?:prompt|caption|te?xt).*", re.IGNORECASE)
_SAYS_OTHERS = re.compile(r".*neg(?:ative)?(?:[-_ ].*)?|.*negative.*", re.IGNORECASE)
"""What must not be in the image."""


def captions_apart(captions: Mapping[str, str], images: Iterable[str]) -> set[str]:
    """Stems of a folder's texts that may be captions and are of none of its own images."""
    own = {stem for name in images for stem in (name, without_ending(name))} if captions else set()
    return {stem for stem, name in captions.items() if stem not in own and may_be_caption(name)}


def bears(stems: set[str], name: str) -> bool:
    """Whether an image has a caption among these: `0.txt`, or `0.png.txt`."""
    return without_ending(name) in stems or name in stems


class CaptionFolders:
    """Folders with captions that are of no image in them."""

    def __init__(self, apart: Mapping[str, set[str]]) -> None:
        """Folder -> stems, of `captions_apart`."""
        self._apart = apart
        self._by_form: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for folder in apart:
            for form, name in _forms(folder):
                self._by_form.setdefault(form, []).append((folder, name))

    def of(self, folder: str, names: Sequence[str]) -> tuple[str | None, str]:
        """Where the captions of a folder's images lie.

        That is a folder called as theirs is but for one part of the path, one inside theirs, or the one around it, in which more than half
        of them have a caption.

        Returns
        -------
        The folder, or None; and what is to be said where one of several may be meant.
        """
        able = {
            where: name
            for where, name in self._near(folder)
            if where != folder
            and not _SAYS_OTHERS.fullmatch(name)
            and 2 * sum(bears(self._apart[where], image) for image in names) > len(names)
        }
        called = [where for where, name in able.items() if _SAYS_CAPTION.fullmatch(name)]
        found = called if len(able) > 1 and called else list(able)
        if len(found) == 1:
            return found[0], ""
        several = " and ".join(map(escape_name, sorted(found)[:3]))
        return (
            None,
            f"{several} have texts for the same images: which of them are their prompts is not said" if found else "",
        )

    def _near(self, folder: str) -> Iterator[tuple[str, str]]:
        for form, _ in _forms(folder):
            yield from self._by_form.get(form, ())
        inside = tuple(folder.split("/")) if folder else ()
        yield from self._by_form.get((*inside, ""), ())
        above = folder.rpartition("/")[0]
        if folder and above in self._apart:
            yield above, ""


def _forms(folder: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """A path with one of its parts left open, and that part."""
    parts = folder.split("/") if folder else []
    for at, part in enumerate(parts):
        yield (*parts[:at], "", *parts[at + 1 :]), part
