"""How the control plane grows: time and memory of everything but images and models, from a million images to a hundred million.

    python scripts/bench_scale.py --images 1000000 10000000 --out scale.json
    python scripts/bench_scale.py --images 100000000 --folder DISK         some 25 GB there
    python scripts/bench_scale.py --images 20000 80000 --per-shard 2000    a check of this script

For each number of images, each stage in a process of its own, so that its peak memory is its own:

- listing   a manifest of that many rows (CSV) to shards; up to `--listing-limit` rows, since each is a line that must be written first
- commits   every shard as a worker commits it: attempt counted, images and scores (a row per image and question) as parquet, manifest
            last, attempt taken back. The encoder costs nothing: scores are drawn by chance, no image is made or read
- resume    what a command does first after a kill that a tenth of the shards did not survive: which shards are done, by the hashes of
            their tables; and those are committed again
- merge     the tables of all shards into one
- metrics   metrics.json, by DuckDB
- report    report.html

`growth` says how many times as much processor time each stage takes as at the size before, over how many times as many images there
are: 1 is proportion, and what is far above 1 grows faster than the work. (Time by the clock is given too; where other processes run
beside it, it says little.)
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from allfour.models.attributes import AttributeSet  # noqa: E402
from allfour.pipeline.archives import ArchiveOptions, open_source  # noqa: E402
from allfour.pipeline.archives.base import Shard  # noqa: E402
from allfour.pipeline.config import load_attributes  # noqa: E402
from allfour.pipeline.run.documents import read_metrics  # noqa: E402
from allfour.pipeline.run.folder import RunFolder  # noqa: E402
from allfour.pipeline.scoring.parts import PartStore, ShardTables  # noqa: E402
from allfour.pipeline.scoring.score_tables import coded_scores, readable_rows  # noqa: E402
from scripts.bench_aggregation import CONFIG, images_of, in_child  # noqa: E402
from scripts.measured import processor  # noqa: E402


class Plane:
    """The control plane's work over so many images that nobody made."""

    def __init__(self, folder: Path, attributes: AttributeSet, *, images: int, per_shard: int, prompts: int) -> None:
        self.folder, self.attributes, self.images, self.per_shard, self.prompts = (
            folder,
            attributes,
            images,
            per_shard,
            prompts,
        )
        self.run = RunFolder(folder / "run")
        self.store = PartStore(self.run, scoring_fingerprint="made")
        self.shards = [Shard(f"{n:06d}", n, str(n)) for n in range(-(-images // per_shard))]

    def write_manifest(self) -> None:
        """Rows of a manifest whose files are not there; writing it is nobody's work but this script's."""
        with (self.folder / "manifest.csv").open("w") as file:
            file.write("path,prompt\n")
            for number in range(self.images):
                file.write(f"images/{number % 1000:03d}/{number}.png,a photo of occupation {number % self.prompts}\n")

    def listing(self) -> dict[str, Any]:
        """Shards of the manifest."""
        source = open_source(str(self.folder / "manifest.csv"), options=ArchiveOptions(shard_size=self.per_shard))
        return {"shards": sum(1 for _ in source.shards())}

    def drop_manifest(self) -> None:
        """What no later stage reads makes room on the disk."""
        (self.folder / "manifest.csv").unlink(missing_ok=True)

    def drop_parts(self) -> None:
        """As above."""
        shutil.rmtree(self.run.parts_folder)

    def commit(self, shard: Shard) -> None:
        """One shard as `Worker.score` commits it."""
        self.store.deaths(shard)
        with self.store.attempt(shard):
            self.store.commit(shard, self._tables(shard))

    def _tables(self, shard: Shard) -> ShardTables:
        random = np.random.default_rng(shard.ordinal)
        first = shard.ordinal * self.per_shard
        listed = images_of(first, min(self.per_shard, self.images - first), self.prompts)
        read = int(readable_rows(listed).sum())
        tables = {}
        for question in self.attributes.questions:
            drawn = random.random((read, len(self.attributes.labels(question))), dtype=np.float32) ** 4
            if question == "presence":
                drawn[:, 0] += 2  # nearly all show somebody
            tables[question] = drawn / drawn.sum(axis=1, keepdims=True)
        return ShardTables(listed, coded_scores(listed, tables, self.attributes), None)

    def commits(self) -> dict[str, Any]:
        """All shards."""
        for shard in self.shards:
            self.commit(shard)
        size = sum(path.stat().st_size for path in self.run.parts_folder.iterdir())
        return {"parts_mib": size / 2**20}

    def kill(self) -> None:
        """As a kill leaves a tenth of the shards: tables without a manifest, and an attempt that is counted."""
        for shard in self.shards[::10]:
            self.store.manifest_path(shard.id).unlink()

    def resume(self) -> dict[str, Any]:
        """What is left, done again."""
        left = [shard for shard in self.shards if not self.store.done(shard)]
        for shard in left:
            self.commit(shard)
        return {"left": len(left)}

    def merge(self) -> dict[str, Any]:
        """The final tables and the header."""
        listed, rows = self.store.merge([shard.id for shard in self.shards], images=True)
        self.run.update_header(
            kind="rescore", config=CONFIG.model_dump(mode="json"), attributes=self.attributes.model_dump(mode="json"),
            classifier={"backend": "clip", "encoder": None},
        )  # fmt: skip
        self.run.commit_stage("scores", "made", seconds=0, images=listed, rows=rows)
        return {"score_rows": rows, "scores_mib": self.run.scores_path.stat().st_size / 2**20}

    def metrics(self) -> dict[str, Any]:
        """metrics.json."""
        from allfour.pipeline.commands import report as report_module
        from allfour.pipeline.commands.job import Job
        from allfour.pipeline.commands.progress import Reporter

        report_module.measure(Job(self.run, CONFIG, self.attributes, Reporter(quiet=True)))
        return {"spill_left": any(self.run.path.glob("*.allfour-spill"))}

    def report(self) -> dict[str, Any]:
        """report.html."""
        from allfour.pipeline.commands import report as report_module

        report_module.render(self.run, read_metrics(self.run.path))
        return {"report_mib": (self.run.path / "report.html").stat().st_size / 2**20}


def measure(plane: Plane, *, listing: bool) -> dict[str, Any]:
    """Stage -> seconds, peak memory, and what the stage says."""
    found: dict[str, Any] = {"images": plane.images, "shards": len(plane.shards)}
    stages: list[tuple[str, Callable[[], None] | None, Callable[[], dict[str, Any]]]] = [
        ("commits", plane.drop_manifest, plane.commits),
        ("resume", plane.kill, plane.resume),
        ("merge", None, plane.merge),
        ("metrics", plane.drop_parts, plane.metrics),
        ("report", None, plane.report),
    ]
    if listing:
        stages.insert(0, ("listing", plane.write_manifest, plane.listing))
    for name, before, work in stages:
        if before is not None:
            in_child(before)
        found[name] = in_child(work)
        reported = f"{found[name]['seconds']:.1f} s, of cores {found[name]['cpu_seconds']:.1f} s, peak {found[name]['peak_mib']:.0f} MiB"
        print(f"{plane.images} images, {name}: {reported}", file=sys.stderr, flush=True)
    return found


STAGES = ("listing", "commits", "resume", "merge", "metrics", "report")


def growth(smaller: dict[str, Any], larger: dict[str, Any]) -> dict[str, float]:
    """Stage -> times as much processor time, over times as many images."""
    images = larger["images"] / smaller["images"]
    both = [name for name in STAGES if name in smaller and name in larger]
    return {name: larger[name]["cpu_seconds"] / smaller[name]["cpu_seconds"] / images for name in both}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--per-shard", type=int, default=10_000)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--listing-limit", type=int, default=20_000_000, help="rows of a manifest")
    parser.add_argument("--folder", type=Path, help="where runs are made; default: a temporary folder")
    parser.add_argument("--out", type=Path, help="also write the JSON here, after every size")
    options = parser.parse_args(arguments)
    attributes = load_attributes("configs/attributes/perceived.yaml")
    words = sys.argv[1:] if arguments is None else arguments
    result: dict[str, Any] = {
        "date": dt.date.today().isoformat(), "processor": processor(), "load_before": os.getloadavg()[0],
        "command": " ".join(["python", "scripts/bench_scale.py", *words]), "per_shard": options.per_shard,
        "prompts": options.prompts, "questions": len(attributes.questions), "sizes": [], "growth": [],
    }  # fmt: skip
    for images in sorted(options.images):
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            plane = Plane(folder, attributes, images=images, per_shard=options.per_shard, prompts=options.prompts)
            result["sizes"].append(measure(plane, listing=images <= options.listing_limit))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if len(result["sizes"]) > 1:
            result["growth"].append(growth(*result["sizes"][-2:]))
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
