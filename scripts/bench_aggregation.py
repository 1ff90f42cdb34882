"""Metrics and report over a run of many score rows: time and peak memory.

    python scripts/bench_aggregation.py --rows 10000000 --prompts 1000 --out aggregation.json

Makes the tables of a run by chance (no image is made or shown), then computes metrics.json and report.html as `allfour report` does.
With --relabel it makes embeddings too and measures `allfour relabel`: the whole command, and embeddings to decisions alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from allfour.models.attributes import AttributeSet  # noqa: E402
from allfour.pipeline.archives.base import Shard  # noqa: E402
from allfour.pipeline.config import RunConfig, load_attributes  # noqa: E402
from allfour.pipeline.run.columns import IMAGES_SCHEMA, embeddings_schema  # noqa: E402
from allfour.pipeline.run.documents import read_metrics  # noqa: E402
from allfour.pipeline.run.folder import RunFolder, fingerprint  # noqa: E402
from allfour.pipeline.scoring.parts import PartStore, ShardTables  # noqa: E402
from allfour.pipeline.scoring.score_tables import coded_scores, readable_rows  # noqa: E402
from allfour.pipeline.scoring.scorer import SCORING_VERSION  # noqa: E402
from scripts.measured import put_out  # noqa: E402

DIM = 512
PER_PART = 10_000


def images_of(first: int, count: int, prompts: int) -> pa.Table:
    """Rows of images that were never made: one in a thousand is unreadable."""
    numbers = np.arange(first, first + count)
    unreadable = numbers % 1000 == 7
    which = pa.array(numbers % prompts, pa.int32())
    bad = pa.array(unreadable)
    text = pa.array(numbers).cast(pa.string())
    columns: dict[str, Any] = {
        "prompt_id": pa.array([f"prompt-{n}" for n in range(prompts)]).take(which),
        "prompt": pa.array([f"a photo of occupation {n}" for n in range(prompts)]).take(which),
        "index": numbers // prompts,
        "status": pc.if_else(bad, "unreadable", "generated"),
        "path": pc.binary_join_element_wise("/nowhere/", text, ".jpg", ""),
        "sha256": pc.utf8_lpad(text, 64, "0"),
        "size": numbers,
        "error": pc.if_else(bad, "damaged", pa.scalar(None, pa.string())),
    }
    return pa.table(
        [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(count, f.type) for f in IMAGES_SCHEMA],
        schema=IMAGES_SCHEMA,
    )


def make_run(
    run: RunFolder, attributes: AttributeSet, *, images: int, prompts: int, encoder: dict[str, Any] | None
) -> None:
    """A scored run: parts, tables and header."""
    random = np.random.default_rng(0)
    encoding = fingerprint(SCORING_VERSION, encoder, {"max_pixels": 89_478_485})
    store = PartStore(run, scoring_fingerprint="made", encoding_fingerprint=encoding)
    shards = [Shard(f"{n:06d}", n, str(n)) for n in range(-(-images // PER_PART))]
    for shard in shards:
        count = min(PER_PART, images - shard.ordinal * PER_PART)
        listed = images_of(shard.ordinal * PER_PART, count, prompts)
        read = int(readable_rows(listed).sum())
        tables = {}
        for question in attributes.questions:
            drawn = random.random((read, len(attributes.labels(question))), dtype=np.float32) ** 4
            if question == "presence":
                drawn[:, 0] += 2  # nearly all show somebody
            tables[question] = drawn / drawn.sum(axis=1, keepdims=True)
        embeddings = None
        if encoder is not None:
            vectors = random.standard_normal((read, DIM), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            kept = listed.filter(pc.equal(listed["status"], "generated"))
            embeddings = pa.table(
                [kept["prompt_id"], kept["index"], kept["sha256"],
                 pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), DIM)],
                schema=embeddings_schema(DIM),
            )  # fmt: skip
        store.commit(shard, ShardTables(listed, coded_scores(listed, tables, attributes), embeddings))
    listed_rows, rows = store.merge([s.id for s in shards], images=True)
    run.update_header(
        kind="rescore",
        config=CONFIG.model_dump(mode="json"),
        attributes=attributes.model_dump(mode="json"),
        classifier={"backend": "clip", "encoder": encoder},
    )
    run.commit_stage("scores", "made", seconds=0, images=listed_rows, rows=rows)


CONFIG = RunConfig.model_validate({"name": "by chance", "classifier": {"backend": "clip", "pretrained": "none"}})


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_child(work: Any) -> dict[str, Any]:
    """Run in a forked process, so that its peak memory is its own. Returns what it returned, with seconds by the
    clock and of all cores, and the peak."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        started = time.perf_counter()
        cpu, before = time.process_time(), peak_mib()
        try:
            found = work() or {}
        except BaseException:  # the parent's own endings are not to run twice
            traceback.print_exc()
            os._exit(1)
        row = {
            **found, "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu,
            "peak_mib": peak_mib(), "peak_mib_before": before,
        }  # fmt: skip
        os.write(write, json.dumps(row).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not text:
        raise RuntimeError(
            f"{getattr(work, '__name__', work)} ended with status {os.waitstatus_to_exitcode(status)}; its error stands above"
        )
    result: dict[str, Any] = json.loads(text)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="score rows")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--relabel", action="store_true", help="measure relabelling instead")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help="where the run is made; default: a temporary folder")
    options = parser.parse_args()
    attributes = load_attributes("configs/attributes/perceived.yaml")
    images = options.rows // len(attributes.questions)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    result: dict[str, Any] = {"rows": images * len(attributes.questions), "images": images, "prompts": options.prompts}
    try:
        run = RunFolder(folder / "run")
        if options.relabel:
            result |= measure_relabel(run, folder, attributes, images=images, prompts=options.prompts)
        else:
            in_child(lambda: make_run(run, attributes, images=images, prompts=options.prompts, encoder=None))
            result["scores_mib"] = run.scores_path.stat().st_size / 2**20

            def measured() -> None:
                from allfour.pipeline.commands import report as report_module
                from allfour.pipeline.commands.job import Job
                from allfour.pipeline.commands.progress import Reporter

                report_module.measure(Job(run, CONFIG, attributes, Reporter(quiet=True)))

            def rendered() -> None:
                from allfour.pipeline.commands import report as report_module

                report_module.render(run, read_metrics(run.path))

            result["metrics"] = in_child(measured)
            result["report"] = in_child(rendered)
            result["spill_left"] = any(run.path.glob("*.allfour-spill"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    put_out(result, options.out)


class Stub:
    """A classifier whose texts are drawn by chance: what relabelling needs of one, at its real cost."""

    def __init__(self, attributes: AttributeSet, encoder: dict[str, Any]) -> None:
        random = np.random.default_rng(1)
        self.attributes, self._encoder, self.embedding_dim = attributes, encoder, DIM
        self._text = {}
        for question in attributes.questions:
            rows = random.standard_normal((len(attributes.labels(question)), DIM)).astype(np.float32)
            self._text[question] = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def identity(self) -> dict[str, Any]:
        return {"backend": "clip", "encoder": self._encoder}

    def encoder_identity(self) -> dict[str, Any]:
        return self._encoder

    def prepare(self, image: Any) -> Any:
        raise NotImplementedError

    def encode(self, batch: Any) -> Any:
        raise NotImplementedError

    def probabilities(self, embeddings: Any) -> Any:
        from allfour.models.classifiers._clip.zero_shot import zero_shot_probabilities

        return zero_shot_probabilities(embeddings, self._text, logit_scale=100.0)


def measure_relabel(
    run: RunFolder, folder: Path, attributes: AttributeSet, *, images: int, prompts: int
) -> dict[str, Any]:
    encoder = {"architecture": "by chance", "weights_sha256": "0"}
    in_child(lambda: make_run(run, attributes, images=images, prompts=prompts, encoder=encoder))

    def decisions() -> dict[str, Any]:
        from concurrent.futures import ThreadPoolExecutor

        import torch

        from allfour.models.devices import granted_cores as cores
        from allfour.pipeline.scoring.decisions import decide_all
        from allfour.pipeline.scoring.parts import read_embeddings
        from allfour.pipeline.scoring.scorer import matrix_of

        stub = Stub(attributes, encoder)
        paths = sorted(run.embeddings_folder.glob("part-*.arrow"))

        def one(path: Path) -> int:
            torch.set_num_threads(1)
            vectors = matrix_of(read_embeddings(path))
            decide_all(stub.probabilities(vectors), attributes)
            return len(vectors)

        one(paths[0])
        started = time.perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            count = sum(pool.map(one, paths))
        return {"embeddings_per_s": count / (time.perf_counter() - started)}

    def whole() -> dict[str, Any]:
        from allfour.pipeline.commands import build as build_module
        from allfour.pipeline.commands.progress import Reporter
        from allfour.pipeline.commands.relabel import relabel

        build_module.build_classifier = lambda config, attributes, *, half=False: Stub(attributes, encoder)
        out = RunFolder(folder / "out")
        started = time.perf_counter()
        relabel(run, "configs/attributes/perceived.yaml", out, Reporter(quiet=True))
        seconds = time.perf_counter() - started
        stage_seconds = out.header().stages["scores"].seconds or 0.0
        assert pq.ParquetFile(out.scores_path).metadata.num_rows == images * len(attributes.questions)
        return {"tables_embeddings_per_s": images / stage_seconds, "command_embeddings_per_s": images / seconds}

    return {"embeddings_to_decisions": in_child(decisions), "relabel": in_child(whole)}


if __name__ == "__main__":
    main()
