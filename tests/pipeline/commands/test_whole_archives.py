"""Whole archives from one end to the other: thousands of damaged files, an object store whose reader is killed."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from allfour.models.attributes import AttributeSet
from allfour.pipeline.commands import build as build_module
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.folder import RunFolder
from tests import light_processes
from tests.hostile_images import write_mixed_archive
from tests.light_backends import picture


class Colours:
    """An encoder of 8 x 8 colours: as light as one can be that depends on every pixel."""

    embedding_dim = 192

    def __init__(self, attributes: AttributeSet) -> None:
        self.attributes = attributes

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "colours"}

    def encoder_identity(self) -> Mapping[str, Any]:
        return {"architecture": "colours"}

    def prepare(self, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.asarray(image.resize((8, 8), Image.Resampling.BOX))

    def encode(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        flat = batch.reshape(len(batch), -1).astype(np.float32) + 1
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def probabilities(self, embeddings: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        values = embeddings.astype(np.float32)
        woman = 1 / (1 + np.exp(-20 * (values[:, ::3].sum(axis=1) - values[:, 1::3].sum(axis=1))))
        return {"gender": np.stack([woman, 1 - woman], axis=1).astype(np.float32)}


def scores_by_path(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(image rows, score rows), both by the image's path without the archive's own folder."""
    images = pq.read_table(run / "images.parquet").to_pylist()
    scores = {(r["prompt_id"], r["index"]): r for r in pq.read_table(run / "scores.parquet").to_pylist()}
    key = {(r["prompt_id"], r["index"]): "/".join(r["path"].split("/")[-2:]) for r in images}
    assert scores.keys() == key.keys()
    return {key[r["prompt_id"], r["index"]]: r for r in images}, {key[k]: r for k, r in scores.items()}


def test_what_is_left_out_of_a_folder_is_said_before_a_run_and_in_its_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: Colours(attributes))
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {labels: {woman: [w], man: [m]}}}\n")
    config = RunConfig.model_validate(
        {"classifier": {"backend": "face"}, "attributes": {"file": str(tmp_path / "attributes.yaml")}}
    )
    folder = tmp_path / "images" / "a nurse"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.png").write_bytes(picture(number))
    run = RunFolder(tmp_path / "run")

    def notes() -> tuple[list[str], list[str]]:
        said: list[str] = []
        reporter = Reporter(quiet=True)
        monkeypatch.setattr(reporter, "note", said.append)
        result = rescore_module.rescore(config, str(tmp_path / "images"), run, reporter)
        return said, [note.text for note in result.metrics.notes if note.code == "archive_left_out"]

    assert notes()[1] == []
    (folder / "more.zip").write_bytes(b"x")
    (folder / "beside.parquet").write_bytes(b"x")
    (folder / "4.png").symlink_to("nowhere.png")
    said, noted = notes()
    left_out = [
        "1 links that lead nowhere, not followed",
        "1 .parquet archives inside the tree, not opened: rescore them by themselves, such as a nurse/beside.parquet",
        "1 .zip archives inside the tree, not opened: rescore them by themselves, such as a nurse/more.zip",
    ]
    assert said[:3] == left_out
    assert noted == [f"No figure is of what was left out of the archive: {'; '.join(left_out)}."]
    for path in folder.glob("[4a-z]*"):
        path.unlink()
    assert notes()[1] == []


def test_2000_damaged_files_among_400_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: Colours(attributes))
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {labels: {woman: [w], man: [m]}}}\n")
    config = RunConfig.model_validate(
        {
            "classifier": {"backend": "face"},
            "attributes": {"file": str(tmp_path / "attributes.yaml")},
            "archive": {"shard_size": 900},
            "scoring": {"workers": 2, "max_pixels": 4_000_000},
        }
    )
    counts = write_mixed_archive(tmp_path / "mixed", good=400, damaged=2000)
    write_mixed_archive(tmp_path / "good", good=400, damaged=0)
    mixed = rescore_module.rescore(config, str(tmp_path / "mixed"), RunFolder(tmp_path / "run"), Reporter(quiet=True))
    rescore_module.rescore(config, str(tmp_path / "good"), RunFolder(tmp_path / "run-good"), Reporter(quiet=True))
    images, scores = scores_by_path(tmp_path / "run")
    _, alone = scores_by_path(tmp_path / "run-good")
    listed = mixed.metrics.document()["accounting"]
    assert listed["requested"] == len(images) == listed["scored"] + listed["unreadable"]
    assert counts["damaged"] <= listed["unreadable"] <= counts["damaged"] + counts["undecided"]
    assert mixed.missing == listed["unreadable"]
    assert all(row["error"] for row in images.values() if row["status"] == "unreadable")
    good = [path for path in alone if "/good-" in path]
    assert len(good) == 400
    for path in good:
        assert {k: v for k, v in scores[path].items() if k != "index"} == {
            k: v for k, v in alone[path].items() if k != "index"
        }


@pytest.fixture
def store() -> Iterator[dict[str, str]]:
    """A loopback S3 server; the environment that leads there."""
    moto_server = pytest.importorskip("moto.server", reason="needs moto[server]")
    pytest.importorskip("s3fs", reason="needs s3fs")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    server.stop()


def test_an_object_store_whose_reader_is_killed_twice(tmp_path: Path, store: dict[str, str]) -> None:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=store["AWS_ENDPOINT_URL"], aws_access_key_id="testing", aws_secret_access_key="testing",
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="archives")
    local = tmp_path / "local"
    local.mkdir()
    for shard in range(3):
        with tarfile.open(local / f"{shard:05d}.tar", "w") as tar:
            for number in range(4):
                data = picture(10 * shard + number) if (shard, number) != (1, 2) else b"no image"
                for extension, content in (("png", data), ("txt", b"a prompt")):
                    member = tarfile.TarInfo(f"{number:03d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        client.upload_file(str(local / f"{shard:05d}.tar"), "archives", f"set/{shard:05d}.tar")
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {labels: {woman: [w], man: [m]}}}\n")
    config = tmp_path / "config.yaml"
    config.write_text(
        f"classifier: {{backend: face}}\nattributes: {{file: {json.dumps(str(tmp_path / 'attributes.yaml'))}}}\n"
    )

    def rescore(source: str, run: Path, kill_at: int = 0) -> int:
        arguments = ("rescore", source, "--config", config, "--run", run)
        return light_processes.run(*arguments, KILL_AT=kill_at, **store).returncode

    run, address = tmp_path / "run", "s3://archives/set"
    assert rescore(address, run, kill_at=17) == -signal.SIGKILL  # amid the first shard's commit
    assert rescore(address, run, kill_at=25) == -signal.SIGKILL
    assert rescore(address, run) == 3  # one image is unreadable
    assert rescore(str(local), tmp_path / "whole") == 3
    for table in ("images.parquet", "scores.parquet"):
        found, expected = (pq.read_table(folder / table).to_pylist() for folder in (run, tmp_path / "whole"))
        for row in (*found, *expected):
            if "path" in row:
                row["path"] = row["path"].rsplit("/", 1)[1]
        assert found == expected
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path / "whole")]
    assert metrics[0] == metrics[1]
    assert (
        hashlib.sha256((run / "prompts.csv").read_bytes()).digest()
        == hashlib.sha256((tmp_path / "whole" / "prompts.csv").read_bytes()).digest()
    )
