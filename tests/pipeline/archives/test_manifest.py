"""CSV and JSONL manifests: columns, lines, paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allfour.pipeline.archives import ArchiveError, ArchiveOptions, manifest_lines, open_source
from allfour.pipeline.archives.base import INDEX_STRIDE, HasDoubts
from allfour.pipeline.archives.manifest_rows import as_json
from tests.hostile_images import good_file
from tests.pipeline.archives.helpers import check_contract, items_of, rows, write_tree

PNG = good_file(0, "png")


def manifest(tmp_path: Path, text: str | bytes, name: str = "m.csv", *, images: int = 3) -> Path:
    write_tree(tmp_path, {f"{i}.png": PNG for i in range(images)})
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problem(path: Path, **options: object) -> str:
    with pytest.raises(ArchiveError) as caught:
        items_of(open_source(path, options=ArchiveOptions(**options)))
    return str(caught.value)


class TestRows:
    def test_all_columns(self, tmp_path: Path) -> None:
        path = manifest(
            tmp_path,
            "path,prompt,index,group,seed,model,score\n"
            '0.png,"a nurse, portrait",3,she,42,dall-e,0.5\n'
            "1.png,a cto,0,,,sd,\n",
        )
        first, second = check_contract(open_source(path))
        image = first.image
        assert (image.prompt, image.index, image.group, image.seed) == ("a nurse, portrait", 3, "she", 42)
        assert image.extra == {"model": "dall-e", "score": "0.5"}
        assert image.path == str(tmp_path / "0.png")
        assert (second.image.group, second.image.seed, second.image.extra) == (None, None, {"model": "sd"})
        assert first.data == second.data == PNG

    def test_without_index_rows_are_counted_within_their_prompt(self, tmp_path: Path) -> None:
        path = manifest(tmp_path, "path,prompt\n0.png,a\n1.png,b\n2.png,a\n")
        assert rows(check_contract(open_source(path))) == [("a", 0, PNG), ("b", 0, PNG), ("a", 1, PNG)]

    def test_fingerprints_are_over_the_json_of_a_row(self) -> None:
        for values in ({"path": "a/0.png", "prompt": 'é "%s" \\ \ud800 \n'}, {'100% "p"': "", "ü": "x"}):
            assert as_json(values) == json.dumps(list(values.items()))

    def test_shards_begin_in_the_middle(self, tmp_path: Path) -> None:
        lines = [f'{i % 3}.png,"prompt {i % 2}\nof two lines, é",x{i}' for i in range(10)]
        path = manifest(tmp_path, "path,prompt,note\n\n" + "\n".join(lines) + "\n")
        items = check_contract(open_source(path, options=ArchiveOptions(shard_size=3)))
        assert [item.image.extra["note"] for item in items] == [f"x{i}" for i in range(10)]
        assert items[3].image.index == INDEX_STRIDE

    def test_jsonl(self, tmp_path: Path) -> None:
        values = [{"file_name": f"{i % 3}.png", "text": f"prompt {i % 2}", "index": i, "cfg": 7.5} for i in range(5)]
        path = manifest(tmp_path, "\n".join(map(json.dumps, values)), "metadata.jsonl")
        items = check_contract(open_source(path, options=ArchiveOptions(shard_size=2)))
        assert [item.image.index for item in items] == [0, 1, 2, 3, 4]
        assert items[0].image.extra == {"cfg": "7.5"}

    @pytest.mark.parametrize(("name", "text"), [("m.tsv", "path\tprompt\n0.png\ta, b\n"), ("m.csv", "﻿path,prompt\r\n0.png,\"a, b\"\r\n")])  # fmt: skip
    def test_tabs_and_byte_order_mark(self, tmp_path: Path, name: str, text: str) -> None:
        (item,) = check_contract(open_source(manifest(tmp_path, text, name)))
        assert item.image.prompt == "a, b"

    def test_chosen_columns_prompt_ids_and_known_prompts(self, tmp_path: Path) -> None:
        known = {"nurse": ("a photo of a nurse", "she")}
        text = "where,prompt_id,what\n0.png,nurse,a photo of a nurse\n1.png,other,something\n"
        options = ArchiveOptions(image_column="where", prompt_column="what", prompts=known)
        first, second = check_contract(open_source(manifest(tmp_path, text), options=options))
        assert (first.image.prompt_id, first.image.group) == ("nurse", "she")
        assert (second.image.prompt_id, second.image.prompt) == ("other", "something")
        text = "path,prompt\n0.png,A photo of  a nurse\n"
        (item,) = items_of(open_source(manifest(tmp_path, text), options=ArchiveOptions(prompts=known)))
        assert item.image.prompt_id == "nurse"

    def test_prompts_from_folders(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {"a_nurse/0.png": PNG})
        path = manifest(tmp_path, "path\na_nurse/0.png\n0.png\n")
        items = check_contract(open_source(path, options=ArchiveOptions(prompt_from="folder")))
        assert items[0].image.prompt == "a nurse"


class TestFiles:
    def test_missing_files_are_rows(self, tmp_path: Path) -> None:
        items = check_contract(open_source(manifest(tmp_path, "path,prompt\n0.png,a\ngone.png,a\n.,a\n")))
        assert [item.error for item in items] == [None, "the file is missing", "no regular file"]

    def test_a_local_manifest_may_name_any_local_file_and_no_address(self, tmp_path: Path) -> None:
        write_tree(tmp_path / "elsewhere", {"x.png": PNG})
        text = f"path,prompt\n../elsewhere/x.png,a\n{tmp_path}/elsewhere/x.png,a\nhttps://example.org/x.png,a\n"
        items = check_contract(open_source(manifest(tmp_path / "here", text)))
        assert [item.data for item in items] == [PNG, PNG, None]
        assert "is not fetched" in (items[2].error or "")

    def test_hostile_paths(self, tmp_path: Path) -> None:
        names = ["/dev/zero", "/proc/self/mem", "\u0000", "\ud800", "a" * 5000, "~/.ssh/id_rsa", "\n"]
        text = "\n".join(json.dumps({"path": name, "prompt": "p"}) for name in names if name.strip())
        items = check_contract(open_source(manifest(tmp_path, text, "m.jsonl")))
        assert all(item.error for item in items)

    def test_fingerprint_knows_the_files(self, tmp_path: Path) -> None:
        path = manifest(tmp_path, "path,prompt\n0.png,a\n1.png,a\n")
        options = ArchiveOptions(shard_size=1)
        before = [shard.fingerprint for shard in open_source(path, options=options).shards()]
        (tmp_path / "1.png").write_bytes(PNG + b"\0")
        after = [shard.fingerprint for shard in open_source(path, options=options).shards()]
        assert after[0] == before[0] and after[1] != before[1]

    @pytest.mark.parametrize(
        "first", ["path{0}prompt\n", "sep={0}\npath{0}prompt\n", '"Image Path"{0}"Text Prompt "\n']
    )
    @pytest.mark.parametrize("mark", [";", "\t", "|"])
    def test_what_parts_the_columns(self, tmp_path: Path, first: str, mark: str) -> None:
        path = manifest(tmp_path, f'{first.format(mark)}0.png{mark}"a, b"\n1.png{mark}c\n')
        items = check_contract(open_source(path))
        assert [item.image.prompt for item in items] == ["a, b", "c"]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize(
        ("name", "text"),
        [("m.csv", "path,prompt\r\n0.png,une infirmière\r\n1.png,ਊ看護師\r\n"), ("m.tsv", "path\tprompt\n0.png\tune infirmière\n1.png\tਊ看護師\n"),
         ("m.jsonl", '{"path": "0.png", "prompt": "une infirmière"}\n{"path": "1.png", "prompt": "ਊ看護師"}\n'),
         ("m.json", '[{"path": "0.png", "prompt": "une infirmière"}, {"path": "1.png", "prompt": "ਊ看護師"}]')],
    )  # fmt: skip
    def test_utf16_with_its_mark(self, tmp_path: Path, name: str, text: str, encoding: str) -> None:
        """U+0A0A has the byte of a line's end in it twice; every shard begins within the file."""
        marked = text if encoding == "utf-16" else f"\ufeff{text}"
        path = manifest(tmp_path, marked.encode(encoding), name)
        items = check_contract(open_source(path, options=ArchiveOptions(shard_size=1)))
        assert [item.image.prompt for item in items] == ["une infirmière", "ਊ看護師"]

    @pytest.mark.parametrize("read_at_once", [2**18, 1])
    def test_lines_that_end_in_bare_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_at_once: int
    ) -> None:
        """As older spreadsheets write them, which have line feeds within cells; one that begins between two reads is two ends or one."""
        monkeypatch.setattr(manifest_lines, "READ_BYTES", read_at_once)
        text = 'path;prompt\r0.png;"a nurse,\nat work"\r\n1.png;"a\rnurse"\r2.png;a doctor\r'
        path = manifest(tmp_path, text)
        items = check_contract(open_source(path, options=ArchiveOptions(shard_size=1)))
        assert [(Path(item.image.path).name, item.image.prompt) for item in items] == [
            ("0.png", "a nurse, at work"),
            ("1.png", "a nurse"),
            ("2.png", "a doctor"),
        ]
        path.write_text("path,prompt\r0.png,a\r\r1.png,b,c\r", newline="")
        assert "line 4 has 3 fields, and the header 2 columns" in problem(path)

    def test_what_spreadsheets_and_pandas_leave(self, tmp_path: Path) -> None:
        path = manifest(tmp_path, "path,prompt,seed,index\n0.png,a,42.0,1.0\n1.png,a,,2.0\n,,,\n , ,,\n")
        images = [item.image for item in check_contract(open_source(path))]
        assert [(image.seed, image.index) for image in images] == [(42, 1), (None, 2)]


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("pth,prompt\n0.png,a\n", "line 1: no column 'path'. Did you mean 'pth'?"),
            ("path,promt\n0.png,a\n", "line 1: no column 'prompt'. Did you mean 'promt'?"),
            ("0.png,a\n1.png,a\n", "line 1 names a file: the first line must name the columns"),
            ("path,prompt\n0.png,a, b\n", "line 2 has 3 fields, and the header 2 columns. A field that holds the separator"),
            ('path,prompt\n0.png,"a \\"b\\""\n', "A quote inside a quoted field is written twice"),
            ("path,prompt,path\n0.png,a,b\n", "line 1 names the column 'path' twice"),
            ("path,prompt\n0.png,a\n1.png\n", "line 3 has 1 fields, and the header 2 columns"),
            ("path,prompt\n0.png,a\n,b\n", "line 3 has no path"),
            ("path,prompt\n0.png,a\n1.png, \n", "line 3 has no prompt"),
            ("path,prompt,index\n0.png,a,x\n", "line 2 has index 'x': expected a whole number from 0 on"),
            ("path,prompt,index\n0.png,a,-1\n", "line 2 has index '-1'"),
            ("path,prompt,index\n0.png,a,\n", "line 2 has index ''"),
            ("path,prompt,seed\n0.png,a,1e5\n", "line 2 has seed '1e5'"),
            ("path,prompt,index\n0.png,a,1\n1.png,b,1\n2.png,a,01\n", "line 4 is image 1 of the prompt 'a', and so is line 2"),
            ('path,prompt\n0.png,"a\n', "is no valid CSV"),
            (b"path,prompt\n0.png,caf\xe9\n", "line 2 is not UTF-8 (byte 10 of it is 0xe9)"),
            ("path,prompt\n0.png,a\n".encode("utf-16")[:-1], "begins as UTF-16 and is none from byte 41 on: save it as UTF-8"),
            ("path,prompt\n0.png,\n".encode("utf-16"), "line 2 has no prompt"),
            (b"path,prompt\n0.png,a\0b\n", "line 2 holds a zero byte"),
            ("path,prompt\n", "has no rows"),
            ("", "has no rows"),
            ("path,prompt\n0.png," + "a" * 2**21, "line 2 is longer than"),
        ],
    )  # fmt: skip
    def test_one_error_with_its_line(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        path = manifest(tmp_path, text)
        found = problem(path)
        assert message in found
        assert found.startswith(str(path))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"path": "0.png", "prompt": "a"}\n{"path": ', "line 2 is no JSON"),
            ('{"path": "0.png", "prompt": "a"}\n[1]', "line 2 is no JSON object"),
            ("[" * 100_000, "line 1 is no JSON"),
            ('{"image_url": "x", "prompt": "a"}', "line 1: no column 'path'"),
        ],
    )
    def test_jsonl(self, tmp_path: Path, text: str, message: str) -> None:
        assert message in problem(manifest(tmp_path, text, "m.jsonl"))

    def test_chosen_column_that_is_not_there(self, tmp_path: Path) -> None:
        path = manifest(tmp_path, "path,prompt,Caption\n0.png,a,b\n")
        assert "no prompt column 'captoin' (prompt_column). Did you mean 'Caption'?" in problem(
            path, prompt_column="captoin"
        )
        assert "a manifest's prompts come from its column" in problem(path, prompt_from="metadata")

    def test_summary(self, tmp_path: Path) -> None:
        summary = open_source(manifest(tmp_path, "path,prompt,model\n0.png,a,x\n1.png,b,x\n2.png,a,x\n")).summary()
        assert (summary.layout, summary.images, summary.prompts) == ("manifest", 3, 2)
        assert summary.images_per_prompt == {1: 1, 2: 1}
        assert "further columns, kept as text: model" in summary.notes

    @pytest.mark.parametrize(
        "text", ['[{"path": "0.png", "prompt": "a"}]', '[\n{"path": "0.png", "prompt": "a"}\n]', '{\n"path": "0.png"}']
    )
    def test_one_document_named_as_lines(self, tmp_path: Path, text: str) -> None:
        assert "line 1 is no JSON" in problem(manifest(tmp_path, text, "m.jsonl"))
        assert "name it .json" in problem(tmp_path / "m.jsonl")


def test_an_id_of_several_prompts_and_a_prompt_of_several_groups_are_said(tmp_path: Path) -> None:
    text = "path,prompt_id,prompt,group\n0.png,a,a nurse,she\n1.png,a,A  nurse,she\n2.png,b,a cook,he\n"
    source = open_source(manifest(tmp_path, text))
    assert isinstance(source, HasDoubts)
    assert not [note for note in source.doubts() if "several" in note]
    source = open_source(manifest(tmp_path, text + "3.png,a,a pilot,he\n4.png,a,a judge,he\n", images=5))
    assert isinstance(source, HasDoubts)
    said = [note for note in source.doubts() if "several" in note]
    assert said == [
        "1 prompt id stands for several prompts, such as 'a', also of 'a pilot': the images of one id are one prompt, under its first text",
        "1 prompt is in several groups, such as one also in 'he': the first counts",
    ]
    assert set(said) <= set(source.summary().notes)
