"""The first images of an archive alone, for a first look."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from allfour.pipeline.archives.base import ArchiveItem, ArchiveSource, ArchiveSummary, HasDoubts, Shard


@dataclass(frozen=True, slots=True)
class LimitedSource:
    """`ArchiveSource` of the first `limit` images, in reading order; of fewer where a shard does not know its size beforehand."""

    source: ArchiveSource
    limit: int

    def identity(self) -> Mapping[str, str]:
        """The limit is part of it: a first look is another source than the whole."""
        return {**self.source.identity(), "limit": str(self.limit)}

    def shards(self) -> Iterator[Shard]:
        left = self.limit
        for shard in self.source.shards():
            if left <= 0:
                return
            kept = left if shard.images is None else min(left, shard.images)
            digest = hashlib.sha256(f"{shard.fingerprint}\nfirst {kept}".encode()).hexdigest()
            yield replace(shard, fingerprint=digest, images=kept)
            left -= kept

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        kept = next(s.images for s in self.shards() if s.id == shard.id) if shard.images is None else shard.images
        return islice(self.source.read(shard), kept)

    def summary(self) -> ArchiveSummary:
        return self.source.summary()

    def doubts(self) -> list[str]:
        return list(self.source.doubts()) if isinstance(self.source, HasDoubts) else []
