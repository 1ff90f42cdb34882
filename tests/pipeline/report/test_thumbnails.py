"""Pictures of every kind of archive, on the report and on the review page: the right ones, kept, and never at any price."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import io
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from allfour.errors import RunFolderError
from allfour.pipeline import cli
from allfour.pipeline.archives import Budget
from allfour.pipeline.archives.fetch import fetch
from allfour.pipeline.commands import audit as audit_module
from allfour.pipeline.commands import build as build_module
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.review_draw import draw
from allfour.pipeline.config import RunConfig
from allfour.pipeline.report import thumbnails, write_report
from allfour.pipeline.report.tables import ImageRecord, read_images
from allfour.pipeline.report.thumbnails import KEPT, make_thumbnails
from allfour.pipeline.run.folder import RunFolder
from tests.hostile_images import encoded
from tests.light_backends import install
from tests.pipeline.archives import test_remote
from tests.pipeline.archives.helpers import write_tar, write_tree
from tests.pipeline.archives.test_parquet import struct_of
from tests.pipeline.archives.test_zip import write_zip

s3, web = test_remote.s3, test_remote.web


def stripes(seed: int) -> bytes:
    """A PNG of soft upright stripes, which is soon read, and padded: an archive of eight takes more than one request."""
    random = np.random.default_rng(seed)
    padding = PngInfo()
    padding.add(b"paDd", random.bytes(60_000))
    row = Image.fromarray(random.integers(0, 256, (1, 7, 3), dtype=np.uint8))
    return encoded(row.resize((352, 264), Image.Resampling.BICUBIC), pnginfo=padding)


FILES = {
    f"{prompt}/{index}.png": stripes(10 * number + index)
    for number, prompt in enumerate(("nurse", "captain"))
    for index in range(4)
}
OTHER = stripes(99)
CONTAINERS = ("a.zip", "a.tar", "a.tar.gz", "a.parquet", "other.parquet")
PICTURE = re.compile(r'<img src="data:image/jpeg;base64,([^"]+)"')


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A config with the light classifier in place; tables may have their columns under other names."""
    monkeypatch.setattr(build_module, "build_generator", build_module.build_generator)
    monkeypatch.setattr(build_module, "build_classifier", build_module.build_classifier)
    install()
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {labels: {woman: [w], man: [m]}}}\n")
    (tmp_path / "prompts.yaml").write_text(
        "name: p\nprompts: [{id: nurse, text: a nurse}, {id: captain, text: a captain}]\n"
    )
    path = tmp_path / "light.yaml"
    path.write_text(
        "classifier: {backend: face}\ngenerator: {backend: portrait-renderer}\n"
        f"attributes: {{file: {json.dumps(str(tmp_path / 'attributes.yaml'))}}}\n"
    )
    return path


def write_archive(root: Path, name: str, files: dict[str, bytes] = FILES) -> Path:
    """The files as an archive of the kind that the name says; `other.parquet` has columns under names of its own."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".zip"):
        return write_zip(path, list(files.items()))
    if name.endswith((".tar", ".tar.gz")):
        return write_tar(path, files.items(), mode="w:gz" if name.endswith("gz") else "w")
    if name.endswith(".csv"):
        write_tree(root, files)
        path.write_text("path,prompt\n" + "".join(f"{file},{file.partition('/')[0]}\n" for file in files))
        return path
    if not name.endswith(".parquet"):
        return write_tree(path, files)
    prompts, images = [file.partition("/")[0] for file in files], list(files.values())
    columns: dict[str, Any] = {"image": struct_of(images), "prompt": prompts}
    if name.startswith("other"):
        columns = {"before": [b"no image"] * len(images), "shot": pa.array(images), "words": prompts}
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def rescored(config: Path, source: Any, run: Path) -> Path:
    settings = RunConfig.model_validate(cli_config(config, source))
    rescore_module.rescore(settings, str(source), RunFolder(run), Reporter(quiet=True))
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `scored` keeps what it gives."""
    return tmp_path_factory.mktemp("scored")


@pytest.fixture
def scored(config: Path, made: Path) -> Callable[[str], tuple[Path, Path]]:
    """An archive of a kind and its run, as they were when it was scored: at the same place in each test, and whole again."""

    def give(name: str) -> tuple[Path, Path]:
        place, kept = made / "place", made / "kept" / name
        shutil.rmtree(place, ignore_errors=True)
        if kept.is_dir():
            shutil.copytree(kept, place)
        else:
            rescored(config, write_archive(place / "archive", name), place / "run")
            shutil.copytree(place, kept)
        return place / "archive" / name, place / "run"

    return give


def cli_config(config: Path, source: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"classifier": {"backend": "face"}}
    settings["attributes"] = {"file": str(config.parent / "attributes.yaml")}
    if "other" in str(source):
        settings["archive"] = {"image_column": "shot", "prompt_column": "words"}
    return settings


def records_of(run: Path) -> list[ImageRecord]:
    return [record for images in read_images(run, ["nurse", "captain"]).values() for record in images]


@functools.lru_cache(maxsize=64)
def colours(data: bytes) -> np.ndarray[Any, Any]:
    """An image as 4 x 3 mean colours: what stays of it however small it is made."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((4, 3), Image.Resampling.BOX)).astype(float)


def check_pictures(run: Path, files: dict[str, bytes] = FILES) -> None:
    """Every picture that the run shows is that of its own image, and the page holds them all."""
    by_digest = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
    records = records_of(run)
    assert len(records) == 8
    shown = make_thumbnails(run, records)
    assert shown.note is None
    for record in records:
        jpeg = base64.b64decode(shown[record.key].uri.partition(",")[2])
        assert np.abs(colours(jpeg) - colours(by_digest[str(record.sha256)])).mean() < 4
        assert (shown[record.key].width, shown[record.key].height) == (320, 240)
    assert len(PICTURE.findall(page_of(run))) == 8


def page_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- local archives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTAINERS)
def test_pictures_out_of_a_container_outlive_it(scored: Callable[[str], tuple[Path, Path]], name: str) -> None:
    archive, run = scored(name)
    check_pictures(run)
    first = page_of(run)
    remove(archive)
    assert page_of(run) == first
    check_pictures(run)
    (run / KEPT).unlink()
    assert "8 of the 8 shown images could not be read again from the archive." in page_of(run)


@pytest.mark.parametrize("name", ["folder", "m.csv"])
def test_files_are_read_each_time(scored: Callable[[str], tuple[Path, Path]], name: str) -> None:
    archive, run = scored(name)
    check_pictures(run)
    assert not (run / KEPT).exists()
    remove(archive.parent)
    html = page_of(run)
    assert not PICTURE.findall(html)
    assert "8 of the 8 shown images could not be read again from the archive." in html


def test_a_run_and_the_run_that_scored_it_again(config: Path, tmp_path: Path) -> None:
    """Rows of the second name their files as the first does: relative to its folder."""
    settings = cli_config(config, "") | {
        "generator": {"backend": "portrait-renderer"}, "prompts": {"file": str(tmp_path / "prompts.yaml")}
    }  # fmt: skip
    own = RunFolder(tmp_path / "own")
    audit_module.audit(RunConfig.model_validate(settings), own, Reporter(quiet=True))
    run = rescored(config, own.path, tmp_path / "run")
    assert len(PICTURE.findall(page_of(own.path))) == len(PICTURE.findall(page_of(run))) == 8
    (own.path / "images" / "nurse" / "0.png").unlink()
    assert "1 of the 8 shown images could not be read again from the run folder." in page_of(own.path)
    assert "1 of the 8 shown images could not be read again from the archive." in page_of(run)


@pytest.mark.parametrize("name", ["folder", *CONTAINERS])
def test_an_image_that_changed_is_not_shown_as_the_one_that_was_scored(
    scored: Callable[[str], tuple[Path, Path]], name: str
) -> None:
    archive, run = scored(name)
    (run / KEPT).unlink(missing_ok=True)
    write_archive(archive.parent, name, FILES | {"nurse/2.png": OTHER})
    records = records_of(run)
    shown = make_thumbnails(run, records)
    assert {record.key for record in records} - shown.keys() == {("nurse", _index(records, "nurse", 2))}
    assert shown.note == "1 of the 8 shown images has changed since it was scored."
    assert shown.note in page_of(run)


def _index(records: list[ImageRecord], prompt: str, place: int) -> int:
    return [record.index for record in records if record.prompt_id == prompt][place]


def test_a_kept_picture_is_not_shown_for_other_bytes(config: Path, scored: Callable[[str], tuple[Path, Path]]) -> None:
    archive, run = scored("a.zip")
    changed = FILES | {"nurse/2.png": OTHER}
    write_archive(archive.parent, "a.zip", changed)
    rescored(config, archive, run)
    check_pictures(run, changed)
    assert pq.read_metadata(run / KEPT).num_rows == 8
    table = pq.read_table(run / KEPT)
    digests = pa.array(["0" * 64] * 8)
    pq.write_table(table.set_column(table.schema.get_field_index("sha256"), "sha256", digests), run / KEPT)
    remove(archive)
    assert not PICTURE.findall(page_of(run))


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("left", [0, 3, 0.5])
def test_a_broken_container_costs_pictures_alone(
    scored: Callable[[str], tuple[Path, Path]], name: str, left: float
) -> None:
    archive, run = scored(name)
    (run / KEPT).unlink()
    data = archive.read_bytes()
    archive.write_bytes(data[: left if isinstance(left, int) else int(len(data) * left)])
    html = page_of(run)
    count = len(PICTURE.findall(html))
    assert count < 8
    assert f"{8 - count} of the 8 shown images could not be read again from the archive." in html
    assert (count > 0) == (name.startswith("a.tar") and left == 0.5)  # what lies before the cut


@pytest.mark.parametrize("damage", [b"", b"no parquet", None])
def test_kept_pictures_that_cannot_be_read_or_written(
    scored: Callable[[str], tuple[Path, Path]], damage: bytes | None
) -> None:
    _, run = scored("a.zip")
    (run / KEPT).unlink()
    if damage is None:
        (run / KEPT).mkdir()  # root may write everywhere, but not replace a folder by a file
    else:
        (run / KEPT).write_bytes(damage)
    check_pictures(run)
    assert (run / KEPT).is_dir() == (damage is None)
    assert not list(run.glob(".tmp-*"))


def test_kept_pictures_are_bounded(scored: Callable[[str], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = scored("a.zip")
    stale = pq.read_table(run / KEPT)
    old = stale.set_column(0, stale.schema.field(0), pa.array([f"gone-{i}" for i in range(8)]))
    for bound, rows in ((10**9, 16), (1000, 8)):
        pq.write_table(old, run / KEPT)
        monkeypatch.setattr(thumbnails, "KEPT_BYTES", bound)
        check_pictures(run)
        assert pq.read_metadata(run / KEPT).num_rows == rows


def test_the_page_s_room_goes_to_the_first(
    scored: Callable[[str], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = scored("a.zip")
    records = records_of(run)[::-1]
    all_of_them = make_thumbnails(run, records)
    sizes = [len(base64.b64decode(all_of_them[record.key].uri.partition(",")[2])) for record in records]
    monkeypatch.setattr(thumbnails, "BYTE_BUDGET", sum(sizes[:3]))
    shown = make_thumbnails(run, records)
    assert [*shown] == [record.key for record in records[:3]]
    assert shown.note == "5 of the 8 shown images found no room on this page."


# --- archives at addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["folder", "m/m.csv", *CONTAINERS])
def test_pictures_from_an_object_store_need_it_once(s3: Any, config: Path, tmp_path: Path, name: str) -> None:
    local = write_archive(tmp_path / "local", "m.csv" if name.endswith("csv") else name)
    place = f"archives/pictures/{name}"
    s3.put(str(tmp_path / "local" if name.endswith("csv") else local), place.removesuffix("/m.csv"), recursive=True)
    run = rescored(config, f"s3://{place}", tmp_path / "run")
    first = page_of(run)
    assert len(PICTURE.findall(first)) == 8
    s3.rm("archives/pictures", recursive=True)
    assert page_of(run) == first
    check_pictures(run)
    (run / KEPT).unlink()
    assert "8 of the 8 shown images could not be read again from the archive." in page_of(run)


@pytest.mark.parametrize("name", [*CONTAINERS, "without.tar", "without.tar.gz", "m.csv"])
def test_pictures_from_a_web_server(config: Path, web: tuple[Path, str], tmp_path: Path, name: str) -> None:
    """One that sends parts of files, and for `without` one that sends whole files alone."""
    root, address = web
    write_archive(root, name)
    check_pictures(rescored(config, f"{address}/{name}", tmp_path / "run"))


def test_no_secret_is_kept(config: Path, web: tuple[Path, str], tmp_path: Path) -> None:
    root, address = web
    write_archive(root, "a.tar")
    signed = address.replace("http://", "http://user:hush@") + "/a.tar?X-Amz-Signature=hush"
    run = rescored(config, signed, tmp_path / "run")
    check_pictures(run)
    for file in run.rglob("*"):
        assert file.is_dir() or b"hush" not in file.read_bytes(), file
    kept = pq.read_table(run / KEPT)
    assert kept.column_names == ["prompt_id", "index", "sha256", "jpeg"]
    assert all(b"127.0.0.1" not in jpeg for jpeg in kept["jpeg"].to_pylist())


def test_a_store_that_is_down_or_needs_a_package(
    s3: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    s3.put(str(write_archive(tmp_path, "a.zip")), "archives/down.zip")
    run = rescored(config, "s3://archives/down.zip", tmp_path / "run")
    (run / KEPT).unlink()
    message = "8 of the 8 shown images could not be read again from the archive."

    def absent(*args: object, **kwargs: object) -> None:
        raise ImportError("no module named s3fs")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec.core, "url_to_fs", absent)
        assert message in page_of(run)
    monkeypatch.setattr(thumbnails, "REMOTE_SECONDS", 1.0)
    with socket.socket() as taken:  # bound and not listening: refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        fsspec.filesystem("s3").clear_instance_cache()
        assert "could not be read again from the archive" in page_of(run)
    fsspec.filesystem("s3").clear_instance_cache()
    assert "Traceback" not in "".join(capfd.readouterr())


class Slow(http.server.BaseHTTPRequestHandler):
    """Says how long a file is, and sends nothing of it for a while."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.over.wait(200)  # type: ignore[attr-defined]


@pytest.fixture
def slow() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    server.daemon_threads = True
    over = server.over = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    over.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["a.zip::p/{}.png", "a.tar::p/{}.png", "a.parquet::{}", "p/{}.png"])
def test_a_slow_store_is_waited_for_no_longer_than_said(slow: str, name: str) -> None:
    budget = Budget(seconds=0.5)
    started = time.monotonic()
    assert not list(fetch([f"{slow}/{name.format(i)}" for i in range(40)], remote=True, budget=budget))
    assert time.monotonic() - started < 30
    assert budget.spent


def test_what_a_short_budget_leaves_the_next_report_reads(
    config: Path, web: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, address = web
    write_archive(root, "a.zip")
    run = rescored(config, f"{address}/a.zip", tmp_path / "run")
    (run / KEPT).unlink()
    monkeypatch.setattr(thumbnails, "REMOTE_BYTES", 300_000)  # a request is 256 KiB, the zip is larger
    counts = []
    for _ in range(12):
        html = page_of(run)
        counts.append(len(PICTURE.findall(html)))
        if counts[-1] < 8:
            assert (
                f"{8 - counts[-1]} of the 8 shown images could not be read again from the archive within the time that a report "
                "may take; `allfour report` reads on from there." in html
            )
    assert 0 < counts[0] < 8
    assert counts == sorted(counts)
    assert counts[-1] == 8


def test_a_row_of_a_local_archive_leads_to_no_address(config: Path, web: tuple[Path, str], tmp_path: Path) -> None:
    root, address = web
    write_archive(root, "a.zip")
    run = rescored(config, write_archive(tmp_path / "archive", "folder"), tmp_path / "run")
    table = pq.read_table(run / "images.parquet")
    paths = pa.array([f"{address}/a.zip::{path[-len('nurse/0.png') :]}" for path in table["path"].to_pylist()])
    at = table.schema.get_field_index("path")
    pq.write_table(table.set_column(at, table.schema.field(at), paths), run / "images.parquet")
    assert not make_thumbnails(run, records_of(run))


# --- the review page and the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTAINERS)
def test_raters_see_the_images_of_a_container_in_full(scored: Callable[[str], tuple[Path, Path]], name: str) -> None:
    archive, folder = scored(name)
    run = RunFolder(folder)
    first = pictures_to_label(draw(run, sample=8).page)
    assert first.keys() == pictures_to_label(draw(run, sample=8).page).keys()
    assert {Image.open(io.BytesIO(jpeg)).size for jpeg in first.values()} == {
        (352, 264)
    }  # kept for the report: 320 x 240
    remove(archive)
    assert pictures_to_label(draw(run, sample=8).page) == first
    check_pictures(run.path)
    (run.path / KEPT).unlink()
    with pytest.raises(
        RunFolderError, match=r"8 of 8 sampled images cannot be read here, the first being .*: run `allfour review`"
    ):
        draw(run, sample=8)


def pictures_to_label(page: Path) -> dict[str, bytes]:
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL).group(1))  # type: ignore[union-attr]
    return {entry["image"]: base64.b64decode(entry["src"].partition(",")[2]) for entry in data["images"]}


def test_raters_see_the_images_of_a_store(s3: Any, config: Path, tmp_path: Path) -> None:
    s3.put(str(write_archive(tmp_path, "a.parquet")), "archives/review.parquet")
    run = RunFolder(rescored(config, "s3://archives/review.parquet", tmp_path / "run"))
    first = pictures_to_label(draw(run, sample=8).page)
    s3.rm("archives/review.parquet")
    assert len(first) == 8
    assert pictures_to_label(draw(run, sample=8).page) == first


def test_raters_are_shown_no_image_that_changed(scored: Callable[[str], tuple[Path, Path]]) -> None:
    archive, folder = scored("a.zip")
    run = RunFolder(folder)
    (run.path / KEPT).unlink()
    write_archive(archive.parent, "a.zip", FILES | {"nurse/2.png": OTHER})
    with pytest.raises(
        RunFolderError,
        match=r"1 of 8 sampled images cannot be read here \(1 because the file has changed since it was scored\)",
    ):
        draw(run, sample=8)


def test_the_command(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "archive", "other.parquet")
    monkeypatch.chdir(tmp_path)
    run: Callable[..., Any] = lambda *arguments: CliRunner().invoke(cli.app, [str(a) for a in arguments])  # noqa: E731
    options = ["--set", "archive.image_column=shot", "--set", "archive.prompt_column=words"]
    result = run("rescore", archive, "--config", config, "--run", "r", *options)
    assert result.exit_code == 0, result.output
    assert len(PICTURE.findall((tmp_path / "r" / "report.html").read_text())) == 8
    remove(archive)
    assert run("report", "r").exit_code == 0
    assert len(PICTURE.findall((tmp_path / "r" / "report.html").read_text())) == 8
    result = run("review", "r", "--sample", "8")
    assert result.exit_code == 0, result.output
    shown = pictures_to_label(tmp_path / "r" / "review.html")
    assert [Image.open(io.BytesIO(jpeg)).size for jpeg in shown.values()] == [(320, 240)] * 8  # those of the report
