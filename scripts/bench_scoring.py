"""How fast archives are scored, beside what others do and what the hardware allows.

    python scripts/bench_scoring.py --out bench.json                  speed, on archives that it makes itself
    python scripts/bench_scoring.py --memory 1000 100000              peak memory against the number of images
    python scripts/bench_scoring.py --model ViT-L-14 --archives jpeg-512 --images 8000 --shards 16 --distinct 256 --loop-images 500 \
        --batch 128 --rounds 3 --no-peaks                             on a machine with a GPU

Interleaved in one run, round after round on the same images, so that whatever else the machine does meets all alike:

- ours            `allfour rescore` from the archive to committed tables: reading, hashing, decoding, encoding, decisions, parquet
- ours_twice      the same with `classifier.dtype: bfloat16+float32`; the images on which its band is measured, once for a run, are not in the
                  time. The share that is encoded twice is told, and hangs on weights and wording: of random ones it says nothing.
                  Of CPUs: beside a GPU it is left out unless it is asked for
- ours_auto       the same with `classifier.dtype: auto`, settled anew in every round, which is in the time; only where it is asked for, since
                  that takes rounds of 1,024 images or more
- open_clip_one   a plain open_clip loop, image after image, as in its README (text encoded once)
- open_clip_batch the same in batches
- transformers    the pipeline zero-shot-image-classification with its defaults, two labels
- encoder         our encoder alone on ready tensors: the better of all cores on one batch, and one core each on several; on a GPU
                  two batches under way
- decoding        decoding, resizing and cropping alone, on all cores: threads of one process

The bound is 1 / (encoder time + decoding time) on a CPU, where both want the same cores, and the encoder's speed on a GPU. There `ours`
is the engine of the command with its processes (`scoring.processes`), which start once before the first round; how long that takes is
told apart. Weights are random, which is allowed here alone:
nothing in this file says what an image shows.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.bench_archives import ARCHIVES, make_archive, make_weights  # noqa: E402
from scripts.bench_memory import memory, memory_of, peak_mb  # noqa: E402
from scripts.measured import processor, put_out  # noqa: E402

CONTENDERS = (
    "ours",
    "ours_twice",
    "ours_auto",
    "open_clip_one",
    "open_clip_batch",
    "transformers",
    "encoder",
    "decoding",
)
TEXTS = ("a photo of a woman.", "a photo of a man.")


class Bench:
    """The contenders over one archive. Each takes a round's number and gives the number of images that it did.

    Parameters
    ----------
    shards
        Of a round.
    loop_images
        Images of a round that the loops of others do, which are slower by far on a GPU; None: all.
    processes
        That feed an encoder on a GPU, as `scoring.processes`.
    """

    def __init__(
        self, archive: Path, weights: Path, root: Path, *, workers: int, batch: int,
        shards: int = 1, loop_images: int | None = None, processes: int | None = None,
    ) -> None:  # fmt: skip
        from allfour.pipeline.archives import ArchiveOptions, open_source
        from allfour.pipeline.config import ScoringConfig, load_attributes

        self.archive, self.weights, self.root, self.workers, self.batch = archive, weights, root, workers, batch
        per_shard = sum(1 for _ in (archive / "prompt_0").iterdir()) if (archive / "prompt_0").exists() else 10_000
        self.source = open_source(str(archive), options=ArchiveOptions(shard_size=per_shard))
        self.shards = list(self.source.shards())
        self.config = ScoringConfig(workers=workers, batch_size=batch, processes=processes)
        self.attributes = load_attributes("configs/attributes/perceived.yaml")
        self.per_round, self.loop_images = shards, loop_images
        self.facts: dict[str, Any] = {}
        self._feeders: Any = None
        self._classifier: Any = None

    @property
    def classifier(self) -> Any:
        from allfour.models.classifiers.clip import ClipClassifier

        if self._classifier is None:
            self._classifier = ClipClassifier(attributes=self.attributes, model=None, pretrained=str(self.weights))
        return self._classifier

    def contender(self, name: str) -> Callable[[int], int]:
        made: Callable[[int], int] = getattr(self, f"_{name}")()
        return made

    def close(self) -> None:
        """End the processes that feed, if there are any."""
        if self._feeders is not None:
            self._feeders.__exit__()

    def of_round(self, number: int) -> range:
        """Numbers of a round's shards."""
        return range(number * self.per_round, (number + 1) * self.per_round)

    def files(self, number: int) -> Iterator[bytes]:
        """Image files of a round."""
        return itertools.chain.from_iterable(self.bytes_of(shard) for shard in self.of_round(number))

    def bytes_of(self, shard: int) -> Iterator[bytes]:
        """Image files of a shard, read as a plain loop would."""
        if (self.archive / "prompt_0").exists():
            for path in sorted((self.archive / f"prompt_{shard}").iterdir()):
                yield path.read_bytes()
            return
        with tarfile.open(self.archive / f"{shard:05d}.tar") as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    yield tar.extractfile(member).read()  # type: ignore[union-attr]

    def _ours(self) -> Callable[[int], int]:
        from allfour.pipeline.scoring.engines.base import ScoringJob, Worker
        from allfour.pipeline.scoring.engines.feeders import Feeders, feeders_that_pay

        run = self.root / f"run-{self.archive.name}"
        job = ScoringJob(run=run, source=self.source, config=self.config, build=lambda: self.classifier)
        worker = Worker(job, self.classifier)
        self.facts["processes"] = count = feeders_that_pay(self.classifier, self.config, self.per_round)
        if count:
            self._feeders = Feeders(job, self.classifier, count).__enter__()

        def score(number: int) -> int:
            shutil.rmtree(run, ignore_errors=True)  # embeddings that stand would be used again
            shards = [self.shards[shard] for shard in self.of_round(number)]
            if self._feeders is not None:
                done: int = self._feeders.score(shards, lambda count: None)
                return done
            return sum(worker.score(shard) for shard in shards)

        return score

    def _ours_twice(self) -> Callable[[int], int]:
        from allfour.models.classifiers.clip import ClipClassifier
        from allfour.pipeline.scoring import precision
        from allfour.pipeline.scoring.engines.base import ScoringJob, Worker, part_store

        run = self.root / f"run-twice-{self.archive.name}"
        clip = ClipClassifier(
            attributes=self.attributes, model=None, pretrained=str(self.weights), device="cpu", dtype="bfloat16+float32"
        )
        precision.FEWEST = 0  # an archive of a benchmark is small
        measured = precision.measured_of(self.root, self.source, self.shards, clip, self.config)
        job = ScoringJob(run=run, source=self.source, config=self.config, build=lambda: clip, measured=measured)
        worker = Worker(job, clip)

        def score(number: int) -> int:
            shutil.rmtree(run, ignore_errors=True)
            shards = [self.shards[shard] for shard in self.of_round(number)]
            done = sum(worker.score(shard) for shard in shards)
            facts = (part_store(run, clip, self.config).precision(shard.id) or {} for shard in shards)
            self.facts["twice"] = [{key: one.get(key) for key in ("encoded", "half", "again")} for one in facts]
            return done

        return score

    def _ours_auto(self) -> Callable[[int], int]:
        from allfour.models.classifiers.clip import ClipClassifier
        from allfour.pipeline.run.folder import RunFolder
        from allfour.pipeline.scoring import precision
        from allfour.pipeline.scoring.engines.base import ScoringJob, Worker
        from allfour.pipeline.scoring.settled_precision import settle_precision

        run = RunFolder(self.root / f"run-auto-{self.archive.name}")
        clip = ClipClassifier(attributes=self.attributes, model=None, pretrained=str(self.weights), device="cpu")

        def score(number: int) -> int:
            shutil.rmtree(run.path, ignore_errors=True)
            shards = [self.shards[shard] for shard in self.of_round(number)]
            started = time.perf_counter()
            settled = settle_precision(run, self.source, shards, clip, config=self.config)
            self.facts["auto"], self.facts["settled_in_s"] = settled.said, time.perf_counter() - started
            measured = None
            if clip.encodes_in_half:
                measured = precision.measured_of(run.embeddings_folder, self.source, shards, clip, self.config)
                measured = None if measured is None else replace(measured, ahead=settled.ahead)
            job = ScoringJob(
                run=run.path, source=self.source, config=self.config, build=lambda: clip, measured=measured
            )
            worker = Worker(job, clip)
            return sum(worker.score(shard) for shard in shards)

        return score

    def _open_clip(self, batch: int) -> Callable[[int], int]:
        import open_clip
        import torch

        name = f"local-dir:{self.weights}"
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, _, preprocess = open_clip.create_model_and_transforms(name, device=device)
        model.eval()
        with torch.no_grad():
            text = model.encode_text(open_clip.get_tokenizer(name)(list(TEXTS)).to(device))
            text /= text.norm(dim=-1, keepdim=True)

        def score(number: int) -> int:
            done = 0
            images: list[Any] = []

            def flush() -> None:
                features = model.encode_image(torch.stack(images).to(device))
                features /= features.norm(dim=-1, keepdim=True)
                (100.0 * features @ text.T).softmax(dim=-1).cpu().numpy()
                images.clear()

            with torch.no_grad(), torch.autocast(device, enabled=device == "cuda"):  # as its README has it
                for data in itertools.islice(self.files(number), self.loop_images):
                    images.append(preprocess(Image.open(io.BytesIO(data)).convert("RGB")))
                    done += 1
                    if len(images) == batch:
                        flush()
                if images:
                    flush()
            return done

        return score

    def _open_clip_one(self) -> Callable[[int], int]:
        return self._open_clip(1)

    def _open_clip_batch(self) -> Callable[[int], int]:
        return self._open_clip(self.batch)

    def _transformers(self) -> Callable[[int], int]:
        import torch
        import transformers
        from open_clip.tokenizer import SimpleTokenizer

        transformers.logging.set_verbosity_error()
        folder = self.root / "tokenizer"
        folder.mkdir(exist_ok=True)
        own = SimpleTokenizer()
        special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}  # spelled otherwise there
        vocabulary = {special.get(token, token): number for token, number in own.encoder.items()}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in own.bpe_ranks))
        fast: Any = transformers.CLIPTokenizerFast  # type: ignore[attr-defined]
        tokenizer = fast.from_pretrained(folder)
        sizes = json.loads((self.weights / "open_clip_config.json").read_text())["model_cfg"]
        vision, text = sizes["vision_cfg"], sizes["text_cfg"]
        config = transformers.CLIPConfig(
            projection_dim=sizes["embed_dim"],
            vision_config={"hidden_size": vision["width"], "intermediate_size": 4 * vision["width"],
                           "num_hidden_layers": vision["layers"], "num_attention_heads": vision["width"] // vision.get("head_width", 64),
                           "patch_size": vision["patch_size"], "image_size": vision["image_size"]},
            text_config={"hidden_size": text["width"], "intermediate_size": 4 * text["width"],
                         "num_hidden_layers": text["layers"], "num_attention_heads": text["heads"]},
        )  # fmt: skip
        pipe = transformers.pipeline(
            "zero-shot-image-classification",
            model=transformers.CLIPModel(config).eval(),
            tokenizer=tokenizer,
            image_processor=transformers.CLIPImageProcessor(),
            device=0 if torch.cuda.is_available() else -1,
        )

        def score(number: int) -> int:
            files = itertools.islice(self.files(number), self.loop_images)
            images = (Image.open(io.BytesIO(data)).convert("RGB") for data in files)
            return sum(1 for image in images if pipe(image, candidate_labels=["a woman", "a man"]))

        return score

    def _encoder(self) -> Callable[[int], int]:
        from allfour.models.classifiers.base import ParallelEncoder
        from allfour.pipeline.archives.decoding import decode
        from allfour.pipeline.scoring.groups import GROUP

        one = self.classifier.prepare(decode(next(self.bytes_of(0))))
        parallel = isinstance(self.classifier, ParallelEncoder) and self.classifier.encodes_in_parallel
        whole = np.repeat(one[None], self.batch, axis=0)
        group = np.repeat(one[None], min(GROUP, self.batch), axis=0)
        count = self.shard_images()

        def score(number: int) -> int:
            if not parallel:

                def begun() -> Callable[[], Any]:
                    started: Callable[[], Any] = self.classifier.encode_staged(
                        [self.classifier.stage(whole)], self.batch
                    )
                    return started

                done, flying = 0, begun()
                for _ in range(-(-count // self.batch) - 1):
                    following = begun()
                    done += len(flying())
                    flying = following
                return done + len(flying())
            groups = -(-count // len(group))
            with ThreadPoolExecutor(self.workers) as pool:
                return sum(map(len, pool.map(lambda _: self.classifier.encode_on_one_core(group), range(groups))))

        return score

    def _decoding(self) -> Callable[[int], int]:
        from allfour.pipeline.archives.decoding import decode

        def score(number: int) -> int:
            files = itertools.islice(self.files(number), self.loop_images)
            with ThreadPoolExecutor(self.workers) as pool:
                return sum(1 for _ in pool.map(lambda data: self.classifier.prepare(decode(data)), files))

        return score

    def shard_images(self) -> int:
        return sum(1 for _ in self.files(0))


def measure(
    bench: Bench, contenders: Sequence[str], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """img/s of every contender by a clock: the median over rounds, after one that warms up."""
    runs = {name: bench.contender(name) for name in contenders}
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    first: dict[str, float] = {}
    for number in range(rounds + 1):
        order = list(contenders) if number % 2 else list(reversed(contenders))
        for name in order:
            started = clock()
            images = runs[name](number)
            seconds = clock() - started
            speed = images / seconds
            first.setdefault(name, seconds)
            if number:
                speeds[name].append(speed)
            print(f"{bench.archive.name} round {number} {name}: {speed:.2f} img/s", file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        name: {
            "img_per_s": float(np.median(values)),
            "min": min(values),
            "max": max(values),
            "first_round_s": first[name],
        }
        for name, values in speeds.items()
    }
    middle = {name: result[name]["img_per_s"] for name in contenders}
    if {"ours", "encoder", "decoding"} <= middle.keys():
        parallel = bench.classifier.encodes_in_parallel
        bound = 1 / (1 / middle["encoder"] + 1 / middle["decoding"]) if parallel else middle["encoder"]
        result["bound"] = {"img_per_s": bound}
        middle["bound"] = bound
    own = next((name for name in contenders if name.startswith("ours")), contenders[0])
    result[f"{own}_over"] = {name: middle[own] / value for name, value in middle.items() if name != own}
    return result


def device_name() -> str:
    """Of the GPU that encodes, or the processor's."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def main() -> None:
    from allfour.models.devices import granted_cores as cores

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--archives", nargs="+", choices=ARCHIVES, default=list(ARCHIVES))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="default: all that this machine is for")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=64, help="per round")
    parser.add_argument("--shards", type=int, default=1, help="that a round's images lie in")
    parser.add_argument(
        "--distinct", type=int, help="so many different pictures, each in files of different bytes (JPEG)"
    )
    parser.add_argument(
        "--loop-images", type=int, help="of a round that decoding alone and others' loops do; default: all"
    )
    parser.add_argument("--processes", type=int, help="scoring.processes; default: as the command decides")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="images per second of CPU time, for machines that do other work too; set OMP_NUM_THREADS=1 and --workers 1",
    )
    parser.add_argument("--no-peaks", action="store_true", help="leave out peak memory, which takes a process each")
    parser.add_argument("--memory", nargs="+", type=int, metavar="IMAGES", help="measure memory at these sizes instead")
    parser.add_argument("--shard-size", type=int, default=1000, help="for --memory")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", nargs=3, metavar=("NAME", "ARCHIVE", "WEIGHTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()

    if options.contenders is None:
        options.contenders = [
            name
            for name in CONTENDERS
            if name != "ours_auto" and (name != "ours_twice" or device_name() == processor())
        ]

    if options.memory_of:
        print(memory_of(options.memory_of, options.weights, options.shard_size))
        return
    if options.peak_of:
        name, archive, weights = options.peak_of
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(archive), Path(weights), Path(folder), workers=options.workers, batch=options.batch)
            bench.contender(name)(0)
        print(peak_mb())
        return

    about = {"date": dt.date.today().isoformat(), "processor": processor(), "cores": options.workers,
             "command": " ".join(["python", "scripts/bench_scoring.py", *sys.argv[1:]])}  # fmt: skip
    if options.memory:
        result: dict[str, Any] = {**about, "peak_mib": memory(options.memory, options.shard_size, program=__file__)}
    else:
        result = {
            **about,
            "model": options.model,
            "images_per_round": options.images,
            "batch": options.batch,
            "rounds": options.rounds,
            "archives": {},
        }
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            weights = make_weights(root, options.model)
            for name in options.archives:
                archive = make_archive(
                    root, name, shards=(options.rounds + 1) * options.shards,
                    per_shard=options.images // options.shards, distinct=options.distinct,
                )  # fmt: skip
                bench = Bench(
                    archive, weights, root, workers=options.workers, batch=options.batch, shards=options.shards,
                    loop_images=options.loop_images, processes=options.processes,
                )  # fmt: skip
                clock = time.process_time if options.cpu_time else time.perf_counter
                result["archives"][name] = measure(bench, options.contenders, options.rounds, clock)
                result["archives"][name] |= bench.facts
                result |= {"device": device_name(), "dtype": bench.classifier.encoder_identity()["dtype"]}
                bench.close()
                del bench
                for contender in options.contenders if not options.no_peaks else ():
                    done = subprocess.run(
                        [sys.executable, __file__, "--workers", str(options.workers), "--batch", str(options.batch),
                         "--peak-of", contender, str(archive), str(weights)],
                        capture_output=True, text=True, check=True,
                    )  # fmt: skip
                    result["archives"][name][contender]["peak_mib"] = float(done.stdout.split()[-1])
    put_out(result, options.out)


if __name__ == "__main__":
    main()
