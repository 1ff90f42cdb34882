"""Columns and members as they come: manifests, parquet and tars that people have."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.archives import ArchiveError, ArchiveItem, ArchiveOptions, fetch, open_source
from tests.hostile_images import encoded, picture
from tests.pipeline.archives.helpers import check_contract, items_of, write_tar, write_tree

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PICTURES = [encoded(picture(number), "png") for number in range(8)]


def prompts(items: list[ArchiveItem]) -> Counter[str]:
    return Counter(item.image.prompt for item in items if item.data is not None)


def manifest(tmp_path: Path, name: str, text: str) -> tuple[list[ArchiveItem], str]:
    write_tree(tmp_path, {f"im/{i}.png": data for i, data in enumerate(PICTURES)} | {name: text.encode()})
    source = open_source(tmp_path / name)
    return check_contract(source), "\n".join(source.summary().notes)


def table(rows: int, line: str) -> str:
    return "".join(line.replace("#", str(i)) + "\n" for i in range(rows))


class TestManifests:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.csv", "sep=,\npath,prompt\n" + table(4, "im/#.png,a nurse")),
            ("a.csv", "filepath\ttitle\n" + table(4, "im/#.png\ta nurse")),
            ("a.csv", "filepath,title\n" + table(4, "im/#.png,a nurse")),
            ("a.csv", ",path,prompt\n" + table(4, "#,im/#.png,a nurse")),
            ("a.csv", ",path,prompt,\n" + table(4, "#,im/#.png,a nurse,")),
            ("a.csv", "path,prompt\n" + table(4, "im\\#.png,a nurse")),
            ("a.jsonl", table(4, '{"img_path": "./im/#.png", "prompt": "a nurse", "Task2": {"Caption": "x"}}')),
            ("a.jsonl", table(4, '{"path": "im/#.png", "params": {"prompt": "a nurse"}}')),
            ("a.jsonl", table(4, '{"path": "im/#.png", "prompt": {"text": "a nurse", "seed": #}}')),
            ("a.jsonl", table(4, '{"path": "im/#.png", "prompt": "a nurse"},')),
            ("a.jsonl", json.dumps({"images": [f"im/{i}.png" for i in range(4)], "prompt": "a nurse"})),
        ],
    )
    def test_read(self, tmp_path: Path, name: str, text: str) -> None:
        items, notes = manifest(tmp_path, name, text)
        assert prompts(items) == {"a nurse": 4}
        assert [item.data for item in items] == PICTURES[:4]
        assert "not there" not in notes

    def test_file_addresses(self, tmp_path: Path) -> None:
        here = tmp_path.as_uri()
        items, _ = manifest(tmp_path, "a.csv", "path,prompt\n" + table(2, f"{here}/im/#.png,a nurse"))
        assert prompts(items) == {"a nurse": 2}

    def test_missing_files_and_doubles_are_counted(self, tmp_path: Path) -> None:
        rows = "im/0.png,a nurse\nim/0.png,a nurse\nnope.png,a nurse\nfile:///no/where.png,a nurse\n"
        items, notes = manifest(tmp_path, "a.csv", "path,prompt\n" + rows)
        assert prompts(items) == {"a nurse": 2}
        assert "2 of 4 rows name files that are not there" in notes
        assert "1 of 4 rows name a file that an earlier row names" in notes

    def test_words_for_nothing(self, tmp_path: Path) -> None:
        words = ["a nurse", "nan", "NaN", "None", "NULL", "N/A"]
        items, notes = manifest(
            tmp_path, "a.csv", "path,prompt\n" + "".join(f"im/{i}.png,{w}\n" for i, w in enumerate(words))
        )
        assert prompts(items) == {"a nurse": 1}
        assert "5 of 6 rows have a word for nothing" in notes

    @pytest.mark.parametrize("prompt", ['["a", "b"]', '{"x": 1}'])
    def test_objects_and_lists_are_no_prompts(self, tmp_path: Path, prompt: str) -> None:
        with pytest.raises(ArchiveError, match="line 1 has no prompt"):
            manifest(tmp_path, "a.jsonl", f'{{"path": "im/0.png", "prompt": {prompt}}}')

    def test_lists_stay_in_one_shard(self, tmp_path: Path) -> None:
        lines = [json.dumps({"images": [f"im/{i}.png" for i in range(4)], "prompt": f"a{n}"}) for n in range(3)]
        write_tree(tmp_path, {f"im/{i}.png": PICTURES[i] for i in range(4)} | {"a.jsonl": "\n".join(lines).encode()})
        source = open_source(tmp_path / "a.jsonl", options=ArchiveOptions(shard_size=3))
        assert [shard.images for shard in source.shards()] == [4, 4, 4]
        assert prompts(check_contract(source)) == {"a0": 4, "a1": 4, "a2": 4}

    def test_true_messages(self, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError, match="img2dataset"):
            manifest(tmp_path, "a.csv", "url,prompt\nhttps://e.org/0.png,a nurse\n")
        (tmp_path / "list.json").write_text('[{"path": "x"}]')
        with pytest.raises(ArchiveError, match="jsonl"):
            open_source(tmp_path / "list.json")
        write_tree(tmp_path / "saved", {"data-00000-of-00001.arrow": b"ARROW", "state.json": b"{}"})
        with pytest.raises(ArchiveError, match="to_parquet"):
            open_source(tmp_path / "saved")


class TestParquet:
    def write(self, tmp_path: Path, columns: dict[str, list[object]]) -> Path:
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    def struct(self, number: int) -> dict[str, object]:
        return {"bytes": PICTURES[number], "path": f"{number}.png"}

    @pytest.mark.parametrize("kind", ["numbered", "list", "base64", "data", "bytes list"])
    def test_read_and_shown_again(self, tmp_path: Path, kind: str) -> None:
        texts = [base64.b64encode(data).decode() for data in PICTURES]
        columns: dict[str, list[object]]
        if kind == "numbered":
            columns = {f"image_{i}": [self.struct(i), self.struct(4 + i)] for i in range(4)}
        elif kind == "list":
            columns = {"images": [[self.struct(i) for i in range(4)], [self.struct(i) for i in range(4, 8)]]}
        elif kind == "bytes list":
            columns = {"images": [PICTURES[:4], PICTURES[4:]]}
        else:
            texts = [("data:image/png;base64," if kind == "data" else "") + text for text in texts]
            columns = {"image": list(texts)}
        columns["prompt"] = ["a", "b"] if kind in ("numbered", "list", "bytes list") else list("aaaabbbb")
        source = open_source(self.write(tmp_path, columns))
        items = check_contract(source)
        assert [item.data for item in items] == PICTURES
        assert prompts(items) == {"a": 4, "b": 4}
        assert dict(fetch([item.image.path for item in items])) == {item.image.path: item.data for item in items}

    def test_words_for_nothing(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"image": list(PICTURES[:4]), "prompt": ["a", "nan", '{"x": 1}', None]})
        assert prompts(check_contract(open_source(path))) == {"a": 1}

    def test_true_messages(self, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError, match="img2dataset"):
            open_source(self.write(tmp_path, {"url": ["https://e.org/x"], "caption": ["a"]})).summary()
        odd = {"first": list(PICTURES[:1]), "second": list(PICTURES[:1]), "prompt": ["a"]}
        with pytest.raises(ArchiveError, match="several columns hold images"):
            open_source(self.write(tmp_path, odd)).summary()


class TestTars:
    def read(self, path: Path) -> tuple[list[ArchiveItem], str]:
        source = open_source(path)
        return items_of(source), "\n".join(source.summary().notes)

    def test_a_tar_beside_its_table(self, tmp_path: Path) -> None:
        write_tar(tmp_path / "00000.tar", [("0.png", PICTURES[0]), ("0.txt", b"a nurse")])
        pq.write_table(pa.table({"url": ["u"], "caption": ["a nurse"]}), tmp_path / "00000.parquet")
        (tmp_path / "00000_stats.json").write_text("{}")
        assert prompts(self.read(tmp_path)[0]) == {"a nurse": 1}

    def test_few_captions(self, tmp_path: Path) -> None:
        members = [(f"{i}.png", PICTURES[i]) for i in range(8)] + [(f"{i}.txt", b"a nurse") for i in range(3)]
        items, notes = self.read(write_tar(tmp_path / "some.tar", sorted(members)))
        assert prompts(items) == {"a nurse": 3}
        assert "5 of 8 images have no caption" in notes

    def test_other_names_of_a_key(self, tmp_path: Path) -> None:
        members = [
            (name, data)
            for i in range(4)
            for name, data in ((f"s{i}.input.png", PICTURES[i]), (f"s{i}.outputs.txt", b"a nurse"))
        ]
        assert prompts(self.read(write_tar(tmp_path / "x.tar", members))[0]) == {"a nurse": 4}
        members = [
            (name, data) for i in range(4) for name, data in ((f"{i}.img", PICTURES[i]), (f"{i}.cap", b"a nurse"))
        ]
        assert prompts(self.read(write_tar(tmp_path / "y.tar", members))[0]) == {"a nurse": 4}

    def test_names_and_classes_are_said(self, tmp_path: Path) -> None:
        members = [(name, data) for i in range(2) for name, data in ((f"{i}.png", PICTURES[i]), (f"{i}.cls", b"3"))]
        _, notes = self.read(write_tar(tmp_path / "a_nurse.tar", members))
        assert "the tar's own name is taken" in notes
        with pytest.raises(ArchiveError, match="which prompt"):
            self.read(write_tar(tmp_path / "00000.tar", members))

    def test_doubles_are_said(self, tmp_path: Path) -> None:
        members = [("a.png", PICTURES[0]), ("a.txt", b"a nurse"), ("a.png", PICTURES[1])]
        items, notes = self.read(write_tar(tmp_path / "x.tar", members))
        assert prompts(items) == {"a nurse": 2} and "1 images of a name that an earlier one" in notes
