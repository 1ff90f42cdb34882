"""Marks images whose prompt asks for a group of people, in their `extra`, for every kind of archive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from allfour.pipeline.archives.base import ArchiveItem, ArchiveSource, ArchiveSummary, HasDoubts, Shard
from allfour.pipeline.run.columns import PEOPLE, SEVERAL


@dataclass(frozen=True, slots=True)
class MarkedSource:
    """`ArchiveSource` whose images of some prompts carry `people: several`; what an archive says itself stands."""

    source: ArchiveSource
    several: frozenset[str]
    """Ids of the prompts."""

    def identity(self) -> Mapping[str, str]:
        return self.source.identity()

    def shards(self) -> Iterator[Shard]:
        marks = "\n".join(sorted(self.several))
        for shard in self.source.shards():
            digest = hashlib.sha256(f"{shard.fingerprint}\n{marks}".encode()).hexdigest()
            yield replace(shard, fingerprint=digest)

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        for item in self.source.read(shard):
            image = item.image
            if image.prompt_id in self.several and PEOPLE not in image.extra:
                item = replace(item, image=replace(image, extra={**image.extra, PEOPLE: SEVERAL}))  # noqa: PLW2901
            yield item

    def summary(self) -> ArchiveSummary:
        return self.source.summary()

    def doubts(self) -> list[str]:
        return self.source.doubts() if isinstance(self.source, HasDoubts) else []
