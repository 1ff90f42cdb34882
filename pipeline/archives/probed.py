"""A look at the first images of an archive that is read one after the other: tars, parquet files and manifests.

Folders and zips look at images spread over their listing themselves; see `tree`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from allfour.pipeline.archives.base import (
    NO_PROMPT_ID,
    ArchiveItem,
    ArchiveSource,
    ArchiveSummary,
    HasDoubts,
    Shard,
)
from allfour.pipeline.archives.probing import EXAMPLES, PROBED, Probe, reach_note
from allfour.pipeline.archives.tar import TarSource
from allfour.pipeline.archives.text import PromptBook, SpellingBook


@dataclass(frozen=True, slots=True)
class ProbedSource:
    """`ArchiveSource` whose summary shows what its images are, as they are read."""

    source: ArchiveSource

    def identity(self) -> Mapping[str, str]:
        return self.source.identity()

    def shards(self) -> Iterator[Shard]:
        return self.source.shards()

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        return self.source.read(shard)

    def summary(self) -> ArchiveSummary:
        summary = self.source.summary()
        book = SpellingBook()
        probe, with_prompt = self._look(book)
        notes = [*summary.notes, *probe.fault_notes(), *self._in_reach(probe)]
        if summary.prompts is None:  # which else says so of all
            notes += book.notes()
        if summary.without_copies is None:
            notes += probe.notes()
        missing = max(probe.missing, summary.probed.get("missing", 0))
        return replace(
            summary,
            examples=_examples(probe.examples, summary.examples),
            notes=tuple(dict.fromkeys(notes)),
            probed=probe.numbers(with_prompt, missing),
        )

    def doubts(self) -> list[str]:
        found = list(self.source.doubts()) if isinstance(self.source, HasDoubts) else []
        return found + (self._in_reach(self._look()[0]) if self._by_names() else [])

    def _by_names(self) -> bool:
        """Whether prompts are the names of folders inside."""
        return isinstance(self.source, TarSource) and self.source.prompt_from() == "folder"

    def _look(self, book: SpellingBook | None = None) -> tuple[Probe, int]:
        """Images of the first part and of one in the middle, as they are read, and how many of them have a prompt.

        `book` notices how the prompts that they hold are spelled, where they are read with these.
        """
        probe, with_prompt = Probe(), 0
        for item in self._some():
            missing = item.error == "the file is missing"
            text = probe.look(item.data, missing=missing)
            if item.error and not missing and not item.error.startswith("no prompt:"):
                probe.faults.append(item.error)
            if text and book is not None and PromptBook().from_text(text).id == item.image.prompt_id:
                book.from_text(text)
            if item.image.prompt_id != NO_PROMPT_ID:
                probe.take_prompt(item.image.prompt_id, item.image.prompt, item.image.path)
                with_prompt += 1
        return probe, with_prompt

    def _some(self) -> Iterator[ArchiveItem]:
        shards = list(self.source.shards())
        chosen = shards[:1] if len(shards) < 2 else [shards[0], shards[len(shards) // 2]]
        for shard in chosen:
            yield from islice(self.source.read(shard), PROBED // len(chosen))

    def _in_reach(self, probe: Probe) -> list[str]:
        if not probe.in_metadata or not self._by_names():
            return []
        return [
            reach_note(
                "of the images looked at hold a prompt in their metadata",
                f"{probe.in_metadata} of {probe.images}",
                probe.example,
                "names inside",
                "prompt_from: metadata takes them from the images",
            )
        ]


def _examples(looked_at: Sequence[str], counted: Sequence[str]) -> tuple[str, ...]:
    """Prompts with their files, different prompts first: of images that were looked at, then of those that were counted."""
    chosen: dict[str, str] = {}
    for example in (*looked_at, *counted):
        chosen.setdefault(example.partition(" <- ")[0], example)
    rest = [example for example in looked_at if example not in chosen.values()]
    return tuple([*chosen.values(), *rest][:EXAMPLES])
