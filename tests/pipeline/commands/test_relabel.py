"""Relabelling: the scores of a fresh run up to the store's rounding; never of another encoder's."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from allfour.errors import RunFolderError, UsageError
from allfour.models.classifiers.clip import ClipEncoder
from allfour.pipeline.analyses.sensitivity_grid import load_grid
from allfour.pipeline.cli import app
from allfour.pipeline.commands import relabel as relabelling
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.relabel import relabel
from allfour.pipeline.commands.relabel_grid import relabel_grid
from allfour.pipeline.config import AttributesConfig, PromptsConfig, RunConfig
from allfour.pipeline.run.columns import SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.parquet import table_writer
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.scoring.score_tables import CODED_SCHEMA

QUIET = Reporter(quiet=True)
WORDING: dict[str, Any] = {
    "presence": {"threshold": 0.1, "labels": {"person": ["a person"], "no_person": ["a chair"]}},
    "attributes": {
        "gender": {"margin": 0.0, "labels": {"woman": ["a woman"], "man": ["a man"]}},
        "age": {"labels": {"0-19": ["young"], "20-59": ["grown"], "60+": ["old"]}},
    },
}


def wording(path: Path, **labels: list[str]) -> str:
    changed = json.loads(json.dumps(WORDING))
    changed["attributes"]["gender"]["labels"] |= labels
    path.write_text(yaml.safe_dump(changed, sort_keys=False))
    return str(path)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> tuple[Path, Path, RunConfig]:
    """A scored run of 3 shards with a duplicate and two broken files; its archive and config."""
    root = tmp_path_factory.mktemp("scored")
    for number in range(7):
        folder = root / "archive" / f"p{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_mandelbrot((90, 60), (-2 + 0.1 * number, -1, 1, 1), 20 + number).convert("RGB").save(
            folder / f"{number}.png"
        )
    shutil.copy(root / "archive" / "p0" / "0.png", root / "archive" / "p1" / "11.png")
    (root / "archive" / "p0" / "20.png").write_bytes(b"no image")
    (root / "archive" / "p1" / "21.png").write_bytes(b"no image either")
    config = RunConfig.model_validate(
        {
            "name": "scored",
            "classifier": {"backend": "clip", "pretrained": str(tiny_clip)},
            "attributes": {"file": wording(root / "one.yaml")},
            "archive": {"shard_size": 4},
        }
    )
    rescore_module.rescore(config, str(root / "archive"), RunFolder(root / "run"), QUIET)
    return root / "run", root / "archive", config


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that are encoded from here on."""
    sizes: list[int] = []
    real = ClipEncoder.encode

    def counting(self: ClipEncoder, batch: Any) -> Any:
        sizes.append(len(batch))
        return real(self, batch)

    monkeypatch.setattr(ClipEncoder, "encode", counting)
    return sizes


def tables(run: Path) -> tuple[Any, Any]:
    return pq.read_table(run / "images.parquet"), pq.read_table(run / "scores.parquet")


def agree(one: Path, other: Path) -> bool:
    """The same images and decisions, and figures as close as half precision allows: one side was scored from the store."""
    images, scores = zip(tables(one), tables(other), strict=True)
    figures = ["probability", "margin", "probabilities"]
    if not images[0].equals(images[1]) or not scores[0].drop(figures).equals(scores[1].drop(figures)):
        return False
    for left, right in zip(*(table.select(figures).to_pylist() for table in scores), strict=True):
        for name in ("probability", "margin"):
            if left[name] != pytest.approx(right[name], abs=1e-3):
                return False
        pair = [dict(row["probabilities"] or {}) for row in (left, right)]
        if pair[0] != pytest.approx(pair[1], abs=1e-3):
            return False
    return True


def test_the_same_wording_gives_the_same_tables_and_can_be_relabelled_again(
    scored: tuple[Path, Path, RunConfig], tmp_path: Path
) -> None:
    run, _, config = scored
    found = relabel(RunFolder(run), config.attributes.file, RunFolder(tmp_path / "again"), QUIET)
    assert found.missing == 2
    assert (tmp_path / "again" / "report.html").exists()
    assert agree(run, tmp_path / "again")
    assert tables(tmp_path / "again")[1].schema.equals(SCORES_SCHEMA)
    metrics = [json.loads((r / "metrics.json").read_text()) for r in (run, tmp_path / "again")]
    assert metrics[0]["headline"] == metrics[1]["headline"]
    relabel(RunFolder(tmp_path / "again"), config.attributes.file, RunFolder(tmp_path / "third"), QUIET)
    assert tables(tmp_path / "third")[1].equals(tables(tmp_path / "again")[1])  # both from the store: bit for bit


def test_a_run_keeps_what_its_prompt_set_calls_itself(scored: tuple[Path, Path, RunConfig], tmp_path: Path) -> None:
    """Also once the file is gone, and in a relabelled run."""
    _, archive, config = scored
    file = tmp_path / "prompts.yaml"
    file.write_text("{name: Two of ours, source: we <chose> them, prompts: [{id: p0, text: a}, {id: p1, text: b}]}")
    named = config.model_copy(update={"prompts": PromptsConfig(file=str(file))})
    rescore_module.rescore(named, str(archive), RunFolder(tmp_path / "run"), QUIET)
    file.unlink()
    relabel(RunFolder(tmp_path / "run"), config.attributes.file, RunFolder(tmp_path / "again"), QUIET)
    for name in ("run", "again"):
        kept = json.loads((tmp_path / name / "run.json").read_text())["prompt_set"]
        assert kept == {"name": "Two of ours", "source": "we <chose> them"}
        page = (tmp_path / name / "report.html").read_text()
        assert "<span> · <bdi>Two of ours</bdi></span>" in page and "we &lt;chose&gt; them" in page


def test_another_wording_gives_the_scores_of_a_fresh_run_and_opens_no_image(
    scored: tuple[Path, Path, RunConfig], tmp_path: Path, encoded: list[int]
) -> None:
    run, archive, config = scored
    file = wording(tmp_path / "two.yaml", woman=["a lady"], man=["a gentleman"])
    found = relabel(RunFolder(run), file, RunFolder(tmp_path / "out"), QUIET)
    assert sum(encoded) <= 1  # the probe for the embedding's size
    assert found.work == {"relabelled": 10}
    fresh = config.model_copy(update={"attributes": AttributesConfig(file=file)})
    rescore_module.rescore(fresh, str(archive), RunFolder(tmp_path / "fresh"), QUIET)
    assert agree(tmp_path / "out", tmp_path / "fresh")
    assert not tables(tmp_path / "out")[1].equals(tables(run)[1])
    assert relabel(RunFolder(run), file, RunFolder(tmp_path / "out"), QUIET).work == {"relabelled": 0}


def test_rescoring_under_another_wording_encodes_nothing(
    scored: tuple[Path, Path, RunConfig], tmp_path: Path, encoded: list[int]
) -> None:
    run, archive, config = scored
    shutil.copytree(run, tmp_path / "run")
    fresh = config.model_copy(
        update={"attributes": AttributesConfig(file=wording(tmp_path / "two.yaml", woman=["a lady"]))}
    )
    rescore_module.rescore(fresh, str(archive), RunFolder(tmp_path / "run"), QUIET)
    assert sum(encoded) <= 1  # the probe for the size of an embedding
    rescore_module.rescore(fresh, str(archive), RunFolder(tmp_path / "fresh"), QUIET)
    assert sum(encoded) > 1
    assert agree(tmp_path / "run", tmp_path / "fresh")
    # an archive that changed is encoded again, where it changed
    Image.new("RGB", (40, 40), (9, 200, 9)).save(tmp_path / "new.png")
    changed = tmp_path / "archive"
    shutil.copytree(archive, changed)
    encoded.clear()
    rescore_module.rescore(fresh, str(changed), RunFolder(tmp_path / "run"), QUIET, overwrite=True)
    assert pq.read_table(tmp_path / "run" / "images.parquet").num_rows == 10


def test_refusals_name_the_mend(
    scored: tuple[Path, Path, RunConfig], tmp_path: Path, tiny_clip: Path, picture: Callable[..., Image.Image]
) -> None:
    run, _, config = scored
    out = RunFolder(tmp_path / "out")
    with pytest.raises(UsageError, match="choose another folder"):
        relabel(RunFolder(run), config.attributes.file, RunFolder(run), QUIET)
    with pytest.raises(RunFolderError, match="there is no such folder"):
        relabel(RunFolder(tmp_path / "nothing"), config.attributes.file, out, QUIET)

    # the same architecture with other weights
    from safetensors.numpy import load_file, save_file

    other = tmp_path / "other-clip"
    shutil.copytree(tiny_clip, other)
    weights = load_file(other / "open_clip_model.safetensors")
    save_file(weights | {"visual.proj": weights["visual.proj"] + 1}, other / "open_clip_model.safetensors")
    with pytest.raises(RunFolderError, match=r"weights_sha256.*classifier\.pretrained"):
        relabel(RunFolder(run), config.attributes.file, out, QUIET, overrides=[f"classifier.pretrained={other}"])

    bare = tmp_path / "bare"
    shutil.copytree(run, bare)
    shutil.rmtree(bare / "embeddings")
    with pytest.raises(RunFolderError, match="missing, or not as it was written"):
        relabel(RunFolder(bare), config.attributes.file, out, QUIET)
    shutil.rmtree(bare / "parts")
    with pytest.raises(RunFolderError, match="embeddings are not there"):
        relabel(RunFolder(bare), config.attributes.file, out, QUIET)
    header = json.loads((bare / "run.json").read_text())
    (bare / "run.json").write_text(json.dumps(sealed(header | {"classifier": {"backend": "face"}})))
    with pytest.raises(RunFolderError, match=r"keeps no embeddings.*allfour rescore"):
        relabel(RunFolder(bare), config.attributes.file, out, QUIET)
    assert not out.scores_path.exists()


def test_the_command(scored: tuple[Path, Path, RunConfig], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    run, _, config = scored
    shutil.copytree(run, tmp_path / "run")
    done = CliRunner().invoke(app, ["relabel", str(tmp_path / "run"), "--attributes", config.attributes.file, "--json"])
    assert done.exit_code == 3  # two files are unreadable, here as there
    assert json.loads(done.stdout)["run"] == str(tmp_path / "run-relabelled")


def test_a_disk_that_is_full_closes_no_table_that_is_being_written(
    scored: tuple[Path, Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Writer:
        def __enter__(self) -> Writer:
            return self

        def __exit__(self, *_: object) -> None:
            events.append("closed")

        def write_table(self, table: Any) -> None:
            events.append("writes")
            time.sleep(0.1)
            events.append("wrote")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def writer(file: Any, schema: pa.Schema) -> Any:
        return Writer() if schema is CODED_SCHEMA else table_writer(file, schema)

    monkeypatch.setattr(relabelling, "table_writer", writer)
    monkeypatch.setattr(relabelling, "_keep", full)
    other = wording(tmp_path / "other.yaml", woman=["a lady"])
    with pytest.raises(OSError, match="No space"):
        relabel(RunFolder(scored[0]), other, RunFolder(tmp_path / "new"), QUIET)
    assert events == ["writes", "wrote", "closed"]  # Arrow's writer, closed under a write, ends the process


def test_a_run_of_an_earlier_version_is_relabelled(scored: tuple[Path, Path, RunConfig], tmp_path: Path) -> None:
    run, _, config = scored
    shutil.copytree(run, tmp_path / "run")
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    header["config"]["statistics"]["bootstrap"] = 2000  # read by nothing, and since then no key
    (tmp_path / "run" / "run.json").write_text(json.dumps(sealed(header)))
    out = RunFolder(tmp_path / "out")
    relabel(RunFolder(tmp_path / "run"), config.attributes.file, out, QUIET, overrides=["statistics.confidence=0.9"])
    assert out.header().block("statistics") == {"confidence": 0.9, "seed": 0, "include": ["prompts"]}
    assert (
        relabel_grid(RunFolder(tmp_path / "run"), load_grid("default"), QUIET).metrics.document()["sensitivity"]
        is not None
    )


def test_another_runs_result_is_not_replaced(scored: tuple[Path, Path, RunConfig], tmp_path: Path) -> None:
    run, _, config = scored
    shutil.copytree(run, tmp_path / "other")
    out = RunFolder(tmp_path / "out")
    relabel(RunFolder(run), config.attributes.file, out, QUIET)
    before = {path: path.read_bytes() for path in out.path.rglob("*") if path.is_file()}
    with pytest.raises(
        RunFolderError, match=r"run relabelled, which would be lost\. Nothing was changed\. Choose another"
    ):
        relabel(RunFolder(tmp_path / "other"), config.attributes.file, out, QUIET)
    assert {path: path.read_bytes() for path in out.path.rglob("*") if path.is_file()} == before
    relabel(RunFolder(run), config.attributes.file, out, QUIET)  # its own is done again


@pytest.mark.parametrize("command", ["relabel", "grid"])
def test_what_changes_between_a_look_at_a_run_and_its_lock_is_told(
    scored: tuple[Path, Path, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shutil.copytree(scored[0], tmp_path / "run")
    run, lock = RunFolder(tmp_path / "run"), RunFolder.lock

    def as_another_works(self: RunFolder, **options: Any) -> Any:
        RunFolder(run.path).update_header(name="of another config")
        return lock(self, **options)

    monkeypatch.setattr(RunFolder, "lock", as_another_works)
    with pytest.raises(RunFolderError, match="another command worked in it at the same moment"):
        if command == "grid":
            relabel_grid(run, load_grid("default"), QUIET)
        else:
            relabel(run, scored[2].attributes.file, RunFolder(tmp_path / "out"), QUIET)
