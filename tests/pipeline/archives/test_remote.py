"""Archives at addresses: a loopback S3 server, a loopback web server, and addresses that hold secrets."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import re
import socket
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.archives import ArchiveError, ArchiveOptions, open_source
from allfour.pipeline.archives.fetch import fetch
from allfour.pipeline.archives.remote import RemoteTree, expand, show_address, unreachable
from tests.hostile_images import good_file
from tests.pipeline.archives.helpers import check_contract, items_of, rows, write_tar, write_tree
from tests.pipeline.archives.test_zip import write_zip

PNG = good_file(0, "png")
JPG = good_file(0, "jpeg")
TREE = {
    "a_nurse/1.png": PNG,
    "a_nurse/2.jpg": JPG,
    "cto/0.png": b"",
    "cto/deep/nurse/0": PNG,
    "cto/notes.txt": b"x",
    ".hidden/0.png": PNG,
}


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A loopback S3 server with a bucket named archives; s3fs finds it through the environment."""
    moto_server = pytest.importorskip("moto.server", reason="needs moto[server]")
    pytest.importorskip("s3fs", reason="needs s3fs")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # every such server of this process has the same buckets: it begins with none
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1,localhost",
    }.items():
        patch.setenv(name, value)
    fs = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    fs.mkdir("archives")
    yield fs
    type(fs).clear_instance_cache()  # and another port
    patch.undo()
    server.stop()


def upload(fs: Any, root: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        fs.pipe_file(f"{root}/{name}", data)


class TestS3:
    def test_keys_hold_any_character(self, s3: Any, tmp_path: Path) -> None:
        """Whatever is one in an address of the web: rows, runs and errors would name another object, or several by one name."""
        odd = "a photo #1? of 50%2F+ é"
        upload(s3, f"archives/odd/{odd}", {"0 x.png": PNG, "1#?%2F+&=%.png": JPG})
        tar = write_tar(tmp_path / "0.tar", [("0.png", PNG), ("0.txt", b"a nurse")])
        upload(s3, "archives", {f"odd-tars/{odd}.tar": tar.read_bytes()})
        for address in ("s3://archives/odd", f"s3://archives/odd/{odd}"):
            source = open_source(address)
            assert source.identity()["location"] == address
            paths = [item.image.path for item in check_contract(source)]
            assert paths == [f"s3://archives/odd/{odd}/{name}" for name in ("0 x.png", "1#?%2F+&=%.png")]
        (item,) = check_contract(open_source(f"s3://archives/odd-tars/{odd}.tar"))
        assert item.image.path == f"s3://archives/odd-tars/{odd}.tar::0.png"
        assert show_address(f"s3://key:secret@archives/{odd}") == f"s3://archives/{odd}"
        with pytest.raises(ArchiveError, match="it is one image: give the folder that it lies in") as caught:
            open_source(f"s3://archives/odd/{odd}/1#?%2F+&=%.png")
        assert str(caught.value).startswith(f"cannot read s3://archives/odd/{odd}/1#?%2F+&=%.png:")

    def test_a_folder_as_the_local_one(self, s3: Any, tmp_path: Path) -> None:
        upload(s3, "archives/tree", TREE)
        options = ArchiveOptions(shard_size=2)
        local = check_contract(open_source(write_tree(tmp_path, TREE), options=options))
        remote = check_contract(open_source("s3://archives/tree", options=options))
        assert rows(remote) == rows(local)
        assert remote[0].image.path == "s3://archives/tree/a_nurse/1.png"

    def test_containers_as_the_local_ones(self, s3: Any, tmp_path: Path) -> None:
        members = [("0.jpg", JPG), ("0.txt", b"a nurse"), ("1.jpg", JPG), ("1.txt", b"a cto")]
        (tmp_path / "tars").mkdir()
        for number in range(3):
            write_tar(tmp_path / "tars" / f"{number:02d}.tar", members)
        write_zip(tmp_path / "a.zip", list(TREE.items()))
        s3.put(str(tmp_path / "tars"), "archives/tars", recursive=True)
        s3.put(str(tmp_path / "a.zip"), "archives/a.zip")
        for here, there in [
            (tmp_path / "tars", "s3://archives/tars"),
            (tmp_path / "tars", "s3://archives/tars/*.tar"),
            (f"{tmp_path}/tars/{{00..01}}.tar", "s3://archives/tars/{00..01}.tar"),
            (tmp_path / "a.zip", "s3://archives/a.zip"),
        ]:
            assert rows(check_contract(open_source(there))) == rows(items_of(open_source(here)))

    def test_a_manifest_names_only_what_lies_beside_it(self, s3: Any) -> None:
        upload(s3, "archives/m", {"x/0.png": PNG, "empty.png": b""})
        upload(s3, "archives", {"secret.png": PNG})
        names = [
            "x/0.png",
            "../secret.png",
            "/etc/hostname",
            "s3://archives/secret.png",
            "x/../../secret.png",
            "gone.png",
            "empty.png",
        ]
        text = "\n".join(json.dumps({"path": name, "prompt": "p"}) for name in names)
        upload(s3, "archives/m", {"m.jsonl": text.encode()})
        items = check_contract(open_source("s3://archives/m/m.jsonl"))
        assert items[0].data == PNG
        assert {item.error for item in items[1:5]} == {"the path leads out of the manifest's folder: not followed"}
        assert items[5].error == "the file is missing"
        assert items[6].data == b""

    def test_changes_show_in_the_fingerprint(self, s3: Any) -> None:
        upload(s3, "archives/f", {"p/0.png": PNG, "p/1.png": PNG})
        options = ArchiveOptions(shard_size=1)
        before = [shard.fingerprint for shard in open_source("s3://archives/f", options=options).shards()]
        upload(s3, "archives/f", {"p/1.png": JPG})
        after = [shard.fingerprint for shard in open_source("s3://archives/f", options=options).shards()]
        assert [a == b for a, b in zip(after, before, strict=True)] == [True, False]

    def test_objects_that_vanish_or_are_too_large(self, s3: Any) -> None:
        upload(s3, "archives/v", {"p/0.png": PNG, "p/1.png": PNG, "p/2.png": bytes(9_000)})
        source = open_source("s3://archives/v", options=ArchiveOptions(max_image_bytes=8_000))
        (shard,) = source.shards()
        s3.rm_file("archives/v/p/0.png")
        assert [item.error for item in source.read(shard)] == [
            "the file is missing",
            None,
            "9,000 bytes are over the limit of 8,000 bytes (max_image_bytes)",
        ]

    def test_captions(self, s3: Any) -> None:
        upload(s3, "archives/c", {"0.png": PNG, "0.txt": b"a nurse", "1.png": PNG, "1.txt": b"a cto"})
        assert [item.image.prompt for item in check_contract(open_source("s3://archives/c"))] == ["a nurse", "a cto"]

    def test_nothing_there(self, s3: Any) -> None:
        for address in ("s3://archives/nothing", "s3://no-such-bucket/x", "s3://archives/nothing.tar"):
            with pytest.raises(ArchiveError, match=r"nothing at|no images"):
                items_of(open_source(address))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    class Ranges(http.server.SimpleHTTPRequestHandler):
        """Sends the part of a file that is asked for, except of those named without."""

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = tmp_path / self.path.lstrip("/")
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if not path.is_file() or asked is None or "without" in path.name:
                super().do_GET()
                return
            data = path.read_bytes()
            first, last = int(asked[1]), min(len(data) - 1, int(asked[2] or len(data)))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            self.wfile.write(data[first : last + 1])

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=str(tmp_path)))
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a client that has heard enough
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class TestWeb:
    def test_tars_and_manifests(self, web: tuple[Path, str]) -> None:
        root, address = web
        write_tar(root / "0.tar", [("p/0.png", PNG), ("p/1.jpg", JPG)])
        write_tree(root, {"x/0.png": PNG, "m.csv": b"path,prompt\nx/0.png,a nurse\n../0.png,b\n"})
        assert rows(items_of(open_source(f"{address}/0.tar"))) == [("p", 0, PNG), ("p", 1, JPG)]
        first, second = items_of(open_source(f"{address}/m.csv"))
        assert first.data == PNG
        assert second.data is None
        write_zip(root / "a.zip", [("p/0.png", PNG), ("p/1.png", PNG)])
        assert rows(check_contract(open_source(f"{address}/a.zip"))) == [("p", 0, PNG), ("p", 1, PNG)]

    def test_a_server_that_sends_whole_files_only(self, web: tuple[Path, str]) -> None:
        root, address = web
        write_tar(root / "without.tar", [(f"p/{i}.png", PNG) for i in range(3)])
        assert len(items_of(open_source(f"{address}/without.tar"))) == 3
        write_zip(root / "without.zip", [("p/0.png", bytes(100_000))], method=zipfile.ZIP_STORED)
        with pytest.raises(ArchiveError, match=r"range requests|nothing at"):
            items_of(open_source(f"{address}/without.zip"))

    def test_folders_are_not_listed(self, web: tuple[Path, str]) -> None:
        with pytest.raises(ArchiveError, match="over https only files are read"):
            open_source(f"{web[1]}/")

    def test_missing_and_down(self, web: tuple[Path, str]) -> None:
        with pytest.raises(ArchiveError, match="nothing at"):
            items_of(open_source(f"{web[1]}/gone.tar"))
        with socket.socket() as taken:  # bound and not listening: refused
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(ArchiveError) as caught:
                items_of(open_source(f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/x.tar?token=secret"))
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


class TestServersThatCannotBeReached:
    @pytest.mark.parametrize("name", ["t.tar", "t.tar.gz", "t.zip", "t.parquet", "t.csv"])
    def test_no_connection(self, name: str) -> None:
        with socket.socket() as taken:  # bound and not listening: refused
            taken.bind(("127.0.0.1", 0))
            host = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(ArchiveError, match=f"the server {host} cannot be reached. Check the address"):
                items_of(open_source(f"http://{host}/{name}"))

    def test_what_a_server_answers(self, tmp_path: Path) -> None:
        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(int(self.path[1:4]))

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for status, message in ((404, "nothing at"), (403, r"\(HTTP 403\)"), (503, r"\(HTTP 503\)")):
                with pytest.raises(ArchiveError, match=message):
                    items_of(open_source(f"http://127.0.0.1:{server.server_address[1]}/{status}.tar"))
            server.shutdown()


class TestContainersAtAddresses:
    def test_a_tar_is_told_by_its_first_bytes(self, tmp_path: Path) -> None:
        members = [("0.jpg", JPG), ("0.txt", b"a nurse"), ("1.jpg", JPG), ("1.txt", b"a cto")]
        plain = write_tar(tmp_path / "x.tar", members).read_bytes()
        fs = fsspec.filesystem("memory")
        fs.pipe_file("/told/gzipped.tar", gzip.compress(plain))
        fs.pipe_file("/told/plain.tar.gz", plain)
        expected = rows(items_of(open_source(tmp_path / "x.tar")))
        for name in ("gzipped.tar", "plain.tar.gz"):
            source = open_source(f"memory://told/{name}")
            assert rows(check_contract(source)) == expected
            paths = [item.image.path for item in items_of(source)]
            assert dict(fetch(paths, remote=True)) == dict.fromkeys(paths, JPG)

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        table = pa.table({"image": pa.array([], pa.binary()), "prompt": pa.array([], pa.string())})
        pq.write_table(table, tmp_path / "x.parquet")
        write_zip(tmp_path / "x.zip", [("a.txt", b"x")])
        write_tar(tmp_path / "x.tar", [("a.txt", b"x")])
        for name in ("x.parquet", "x.zip", "x.tar"):
            fsspec.filesystem("memory").pipe_file(f"/nothing/{name}", (tmp_path / name).read_bytes())
            with pytest.raises(ArchiveError, match="no images in"):
                items_of(open_source(f"memory://nothing/{name}"))


class TestAddresses:
    def test_secrets_are_not_shown(self) -> None:
        address = "https://user:secret@example.org/a/b.tar?X-Amz-Signature=secret#secret"
        assert show_address(address) == "https://example.org/a/b.tar"
        assert "secret" not in str(unreachable(address, OSError("secret")))
        source = open_source("memory://a.tar", options=ArchiveOptions(layout="tar", prompt_from="folder"))
        assert source.identity()["location"] == "memory://a.tar"

    @pytest.mark.parametrize("address", ["ftp://x/y.tar", "file:///etc/passwd", "github://a/b", "simplecache::s3://a"])
    def test_other_schemes(self, address: str) -> None:
        with pytest.raises(ArchiveError, match=r"addresses start with one of|nothing at"):
            items_of(open_source(address))

    def test_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import allfour.pipeline.archives.remote as remote

        def absent(*args: object, **kwargs: object) -> None:
            raise ImportError("no module named gcsfs")

        monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
        with pytest.raises(ArchiveError, match=r"gs:// needs a package .* pip install 'allfour\[gcs\]'"):
            remote.filesystem("gs://bucket/x")

    @pytest.mark.parametrize(
        ("pattern", "files"),
        [
            ("x{0..2}.tar", ["x0.tar", "x1.tar", "x2.tar"]),
            ("x{08..11}.tar", ["x08.tar", "x09.tar", "x10.tar", "x11.tar"]),
            ("{b,a}{1..2}", ["b1", "b2", "a1", "a2"]),
            ("plain.tar", ["plain.tar"]),
            ("s3://b/{0..1}.tar", ["s3://b/0.tar", "s3://b/1.tar"]),
        ],
    )
    def test_braces(self, pattern: str, files: list[str]) -> None:
        assert expand(pattern) == files

    def test_a_name_that_exists_is_itself(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"odd[1]{a,b}*/p/0.png": PNG})
        assert len(items_of(open_source(tmp_path / "odd[1]{a,b}*"))) == 1

    def test_storage_that_fails_is_no_unreadable_image(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A row says what is true of an image; a storage that does not answer says nothing of it."""
        fs = fsspec.filesystem("memory")
        fs.pipe_file("/flaky/p/0.png", PNG)
        source = open_source("memory://flaky")
        (shard,) = source.shards()
        monkeypatch.setattr(type(fs), "cat_ranges", lambda *args, **kwargs: [TimeoutError()])
        with pytest.raises(ArchiveError, match="run again; finished shards are kept"):
            list(source.read(shard))
        monkeypatch.undo()
        assert [item.data for item in source.read(shard)] == [PNG]
        assert RemoteTree("memory://flaky").root_name == "flaky"


def test_a_store_that_refuses_an_object_is_not_asked_about_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        asked = 0

        def cat_ranges(self, paths: list[str], starts: list[int], ends: list[int], on_error: str) -> list[Any]:
            return [PermissionError("no") if "secret" in path else b"bytes" for path in paths]

        def info(self, path: str) -> dict[str, int]:
            self.asked += 1
            return {"size": 0}

    store = Refusing()
    tree = RemoteTree("s3://bucket/root")
    monkeypatch.setattr(RemoteTree, "_open", lambda self: (store, "bucket/root"))
    found = list(tree.read_all([("secret.png", 9), ("open.png", 5)], limit=100))
    assert found == ["cannot be read: no permission", b"bytes"]
    assert store.asked == 0
