"""The ground that is attacked: a config, an archive, a labelled set and finished runs of every kind, small and always at one path."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from allfour.models.attributes import AttributeSet
from allfour.pipeline.commands import build
from tests.attack.process import Ended, Strike, command
from tests.light_backends import LightAheadGenerator, LightEncoder, LightGenerator, picture
from tests.loopback_image_server import KEY

KEY_ENV = "ALLFOUR_ATTACK_KEY"
REAL_CLASSIFIER, REAL_GENERATOR = build.build_classifier, build.build_generator
"""Before the light ones took their places."""
_PROMPTS = ("nurse", "maestro", "captain")
_WORDS = "attributes: {gender: {margin: 0.02, labels: {woman: [%s], man: [%s]}}}\n"


@dataclass(frozen=True, slots=True)
class Attack:
    """A command on the ground, and what it leaves."""

    name: str
    arguments: Callable[[Path], list[Any]]
    results: tuple[str, ...]
    """Files and folders in the ground that must be, after a fault and the same command again, those of an undisturbed command."""
    ahead: bool = False
    """Whether the images are made in batches, and written while the next are made."""


def _audit(where: Path, run: str, *more: Any) -> list[Any]:
    return ["audit", "--config", where / "config.yaml", "--run", where / run, *more]


def _export(where: Path, kind: str, to: str) -> list[Any]:
    return ["export", where / "audited", "--format", kind, "--out", where / to]


_REVIEW = ("review", "--sample", "6", "--seed", "1")
COMMANDS = (
    Attack("audit", lambda w: _audit(w, "new"), ("new",)),
    Attack("audit ahead", lambda w: _audit(w, "new", "--set", "prompts.images_per_prompt=8"), ("new",), ahead=True),
    Attack("audit --rank", lambda w: _audit(w, "new", "--rank", 0, "--world-size", 1), ("new",)),
    Attack("audit --until", lambda w: _audit(w, "new", "--until", "headline.width < 0.9", "--round", 1), ("new",)),
    Attack("audit --each", lambda w: _audit(w, "new", "--each", "share.woman.width < 0.7", "--up-to", 8), ("new",)),
    Attack("rescore", lambda w: ["rescore", w / "archive", "--config", w / "config.yaml", "--run", w / "new"], ("new",)),
    Attack("relabel", lambda w: ["relabel", w / "rescored", "--attributes", w / "other.yaml", "--run", w / "new"], ("new",)),
    Attack("relabel --grid", lambda w: ["relabel", w / "rescored", "--grid", w / "grid.yaml"], ("rescored",)),
    Attack("report", lambda w: ["report", w / "audited", "--against", w / "second"], ("audited",)),
    Attack("calibrate", lambda w: ["calibrate", w / "labelled.csv", "--config", w / "config.yaml", "--out", w / "c.json",
                                   "--fit-probe", w / "probe.safetensors"], ("c.json", "probe.safetensors")),
    Attack("review", lambda w: [*_REVIEW[:1], w / "audited", *_REVIEW[1:], "--out", w / "page.html"], ("audited", "page.html")),
    Attack("review --import", lambda w: ["review", w / "audited", "--import", w / "answers.csv"], ("audited",)),
    Attack("compare", lambda w: ["compare", w / "audited", w / "second", "--out", w / "compared"], ("compared",)),
    Attack("compare, three", lambda w: ["compare", w / "audited", w / "second", w / "third", "--out", w / "three"], ("three",)),
    Attack("compare, among files", lambda w: ["compare", w / "audited", w / "second", "--out", w], ("comparison.json", "compare.html")),
    Attack("study", lambda w: ["study", w / "study.yaml", "--out", w / "study"], ("study",)),
    Attack("init", lambda w: ["init", "--out", w / "mine.yaml", "--images", "sandbox", "--reader", "sandbox", "--prompts", "experiment"], ("mine.yaml",)),
    Attack("export dataset", lambda w: _export(w, "dataset", "dataset"), ("dataset",)),
    Attack("export csv", lambda w: _export(w, "csv", "prompts.csv"), ("prompts.csv",)),
    Attack("view", lambda w: ["view", w, "--out", w / "index.html"], ("index.html",)),
)  # fmt: skip
HOSTED = Attack("hosted audit", lambda w: ["audit", "--config", w / "hosted.yaml", "--run", w / "new"], ("new",))


class Ground:
    """A folder that is set back to the same state before each attack, always at the same path."""

    def __init__(self, root: Path) -> None:
        self.path = root / "ground"
        self._kept = root / "kept"
        self.outside = root / "outside"
        """Nothing may ever be written here."""

    def reset(self) -> Path:
        """As it was made."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.fill()
        return self.path

    def fill(self) -> None:
        """Copy what was made to where it was made, which is empty."""
        shutil.copytree(self._kept, self.path, symlinks=True, dirs_exist_ok=True)

    def make(self, *, origin: str | None = None) -> None:
        """Write the inputs, and run each command once that others need."""
        where = self.path
        where.mkdir(parents=True)
        self.outside.mkdir()
        _write_inputs(where, origin)
        for arguments in (
            _audit(where, "audited"),
            _audit(where, "second", "--set", "seed=7"),
            _audit(where, "third", "--set", "seed=8"),
            ["rescore", where / "archive", "--config", where / "config.yaml", "--run", where / "rescored"],
            [*_REVIEW[:1], where / "audited", *_REVIEW[1:], "--out", where / "page.html"],
        ):
            done = command(*arguments)
            if done.code not in (0, 3):
                raise RuntimeError(f"{arguments}: {done.code}: {done.err}{done.out}")
        _write_answers(where)
        (where / "page.html").unlink()
        self.keep()

    def keep(self) -> None:
        """What is there now is what `reset` gives."""
        shutil.copytree(self.path, self._kept, symlinks=True)


@contextmanager
def ground(*, origin: str | None = None) -> Iterator[Ground]:
    """A ground in a temporary folder, with the light backends in place."""
    install()
    with tempfile.TemporaryDirectory(prefix="allfour-attack-") as folder:
        made = Ground(Path(folder))
        made.make(origin=origin)
        yield made


def install() -> None:
    """Light backends, small pages, and no look at the checkout's git, in this process and those forked from it."""
    from allfour.pipeline.commands import start
    from allfour.pipeline.report import page, pages, view

    def generator(config: Any, run: Any) -> Any:
        if config.generator.backend == "openai-images":
            return REAL_GENERATOR(config, run)
        return LightAheadGenerator() if os.environ.get("AHEAD") else LightGenerator()

    build.build_generator = generator  # type: ignore[assignment]
    build.build_classifier = lambda config, attributes: light(attributes)  # type: ignore[assignment,misc]
    start.git_state = lambda: None  # type: ignore[assignment]
    page.MAX_ROWS, pages.ROWS_PER_PAGE, view.MAX_ROWS = 1, 1, 2


def light(attributes: AttributeSet) -> LightEncoder:
    """The classifier of every attack."""
    return LightEncoder(attributes)


def import_all(*, models: bool = False) -> None:
    """Everything that a command imports, so that a child need not; nothing of it is run. `models`: what loads them, too."""
    if models:
        import diffusers  # noqa: F401
        import open_clip  # noqa: F401
        import peft  # noqa: F401
        import torch
        import transformers  # noqa: F401

        torch.set_num_threads(1)
    import sklearn.linear_model
    import sklearn.model_selection  # noqa: F401

    from allfour.models._hosted import client  # noqa: F401
    from allfour.models.generators._openai import asking  # noqa: F401
    from allfour.pipeline.commands import (  # noqa: F401
        audit,
        audit_each,
        audit_ranks,
        audit_until,
        calibrate,
        compare,
        doctor,
        export,
        output,
        relabel,
        relabel_grid,
        report,
        rescore,
        review,
        review_draw,
        study,
        view,
    )  # fmt: skip
    from tests import warmed  # noqa: F401


def _write_inputs(where: Path, origin: str | None) -> None:
    listed = ", ".join(f"{{id: {p}, text: a {p}, group: {'he' if p == 'maestro' else 'she'}}}" for p in _PROMPTS)
    (where / "prompts.yaml").write_text(f"name: p\nprompts: [{listed}]\n")
    (where / "attributes.yaml").write_text(_WORDS % ("a woman", "a man"))
    (where / "other.yaml").write_text(_WORDS % ("a lady", "a gentleman"))
    (where / "grid.yaml").write_text("margins: [0, 0.1]\nthresholds: []\ncombine: false\n")
    shared = (
        f"prompts: {{file: {where}/prompts.yaml, images_per_prompt: 4}}\nclassifier: {{backend: face}}\n"
        f"attributes: {{file: {where}/attributes.yaml}}\narchive: {{shard_size: 3}}\n"
    )
    (where / "config.yaml").write_text(shared + "generator: {backend: portrait-renderer}\n")
    (where / "hosted.yaml").write_text(
        f"{shared}generator: {{backend: openai-images, model: dall-e-2, base_url: '{origin}/v1', api_key_env: {KEY_ENV}, "
        "size: 256x256, response_format: b64_json, price_per_image: 0.016, concurrency: 4, timeout: 2, max_retries: 2}\n"
    )
    (where / "study.yaml").write_text(
        f"name: s\nbase: {where}/config.yaml\nclassifiers:\n"
        f"  one: {{attributes: {{file: {where}/attributes.yaml}}}}\n  two: {{attributes: {{file: {where}/other.yaml}}}}\n"
    )
    for prompt in ("a", "b"):
        (where / "archive" / prompt).mkdir(parents=True)
        for index in range(4):
            data = picture(index) if (prompt, index) != ("b", 1) else b"no image"
            (where / "archive" / prompt / f"{index}.png").write_bytes(data)
    with (where / "labelled.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "gender"])
        for number in range(24):
            (where / f"labelled-{number}.png").write_bytes(picture(100 + number))
            rows.writerow([f"labelled-{number}.png", ("Female", "Male")[number % 2]])


def _write_answers(where: Path) -> None:
    (plan,) = (where / "audited" / "review").glob("*.json")
    found = json.loads(plan.read_text())
    lines = ["review,rater,image,label", *(f"{found['id']},Ada,{entry['image']},woman" for entry in found["images"])]
    (where / "answers.csv").write_text("\n".join(lines) + "\n")


def environment() -> dict[str, str]:
    """What the commands need of it."""
    return {KEY_ENV: KEY, "NO_PROXY": "*", "no_proxy": "*", "HF_HUB_OFFLINE": "1"}


# --- results ---------------------------------------------------------------------------------------------------------

_VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)?|\d{1,2} [A-Z][a-z]+ \d{4}|\"(?:seconds|crc32|sha256)\": [0-9.\"a-f]+|<dd>\d+\.\d s"
)
_LEFT_OUT = ("run.json", ".lock", ".lock-world", "ledger.sqlite")
"""Of a run: the header has times, and is held against the tables by every reader; the rest are no results."""


def results(where: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """What a command left, without what two undisturbed commands would not share either."""
    found: dict[str, Any] = {}
    for name in names:
        place = where / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            key = str(path.relative_to(where))
            if path.is_dir() or path.name in _LEFT_OUT or "/ranks/" in key:
                continue
            found[key] = _comparable(path)
    return found


def _comparable(path: Path) -> Any:
    if not path.is_file():
        return None
    if path.suffix == ".parquet" and path.name != "thumbnails.parquet":
        return pq.ParquetFile(path).read(use_threads=False).to_pylist()
    data = path.read_bytes()
    if path.name.startswith("outcomes"):
        return sorted(_VOLATILE.sub("", line) for line in data.decode().splitlines())
    if path.suffix in (".json", ".html", ".csv", ".jsonl"):
        return _VOLATILE.sub("", data.decode())
    return data


def different(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of files of which the two do not say the same."""
    return sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))


def leftovers(where: Path) -> list[str]:
    """Half-written files that nobody will read."""
    return [str(path.relative_to(where)) for path in where.rglob(".tmp-*")]


def go(
    where: Path, attack: Attack, *, strike: Strike | None = None, made: Path | None = None, deadline: float = 60.0
) -> Ended:
    """One command of an attack; `made` is a file that gets a line per image that is made."""

    def before() -> None:
        os.environ["AHEAD"] = "1" if attack.ahead else ""
        os.environ["MADE"] = str(made or "")

    return command(*attack.arguments(where), strike=strike, deadline=deadline, before=before)


def undisturbed(ground: Ground, attack: Attack) -> tuple[Ended, dict[str, Any]]:
    """The command without a fault: how it ends, and what it leaves."""
    where = ground.reset()
    done = go(where, attack)
    if done.fault() or done.code not in (0, 3):
        raise RuntimeError(
            f"{attack.name} does not work undisturbed: {done.code} {done.fault()} {done.err[-1500:]}{done.out[-300:]}"
        )
    return done, results(where, attack.results)
