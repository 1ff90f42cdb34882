"""Prompts in one place and images in another: tables of keys and rows, captions in folders of their own, tables written elsewhere."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.archives import ArchiveError, ArchiveOptions, open_source
from allfour.pipeline.archives.beside import Beside
from allfour.pipeline.archives.beside_rows import _OF_A_FILE
from allfour.pipeline.archives.key_tables import _NUMBERED, key_table
from allfour.pipeline.archives.keyed import _FORMS
from tests.hostile_images import encoded, picture
from tests.pipeline.archives.helpers import check_contract, write_tar, write_tree

PICTURES = [encoded(picture(number), "png") for number in range(16)]
PROMPTS = ["a photo of a nurse", "a portrait of a doctor", "a pilot in a cockpit", "a teacher at a blackboard"]
JOINED = dict.fromkeys(PROMPTS, 4)
Files = dict[str, bytes]


def read(where: Path, **options: str) -> tuple[Counter[str], str]:
    source = open_source(where, options=ArchiveOptions(**options))  # type: ignore[arg-type]
    items = check_contract(source)
    return Counter(item.image.prompt for item in items), "\n".join(source.summary().notes)


def of_folder(tmp_path: Path, files: Files, **options: str) -> tuple[Counter[str], str]:
    return read(write_tree(tmp_path / "archive", files), **options)


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("0.png\ta nurse", ("0.png", "a nurse")),
        ("0.png \t , a nurse", ("0.png", "a nurse")),
        ("0.png , \t a nurse", ("0.png", "a nurse")),
        ("0.png\t,", ("0.png", ",")),
        ("0.png a nurse", None),
        ("0.png\t", None),
        ("0.png" + "\t" * 100_000, None),
    ],
)
def test_what_parts_the_fields_of_a_line(line: str, fields: tuple[str, str] | None) -> None:
    start = time.process_time()
    for name, expression in (("0.png", _OF_A_FILE), ("0", _NUMBERED)):
        match = expression.fullmatch(line.replace("0.png", name))
        assert (match and match.groups()) == (fields and (name, fields[1]))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("form", ["counted", "labelled"])
def test_time_for_a_key_is_linear(form: str) -> None:
    start = time.process_time()
    assert _FORMS[form].fullmatch("-" * 100_000 + "x") is None
    assert time.process_time() - start < 1


def images(form: str, *, start: int = 0, samples: int = 4) -> Files:
    """Pictures of four prompts, named by the number of the prompt and that of the sample."""
    return {form.format(p=p + start, s=s): PICTURES[4 * p + s] for p in range(4) for s in range(samples)}


def table(ids: str = "{}", columns: str = "id,prompt") -> bytes:
    rows = "".join(f"{ids.format(number)},{prompt}\n" for number, prompt in enumerate(PROMPTS))
    return f"{columns}\n{rows}".encode()


def in_parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"prompt_id": [0, 1, 2, 3], "caption": PROMPTS}), file)
    return file.getvalue()


BARE_RETURNS = "id;prompt;note\r{}".format(
    "".join(f'{number};"{text}";"one, alone"\r' for number, text in enumerate(PROMPTS))
).encode()
HEIM = json.dumps([{"id": f"id{n}", "input": {"text": text}, "references": []} for n, text in enumerate(PROMPTS)])
ROWS = "Prompt\tCategory\n" + "".join(f"{text}\tPeople\n" for text in PROMPTS)


class TestKeys:
    @pytest.mark.parametrize(
        ("name", "content", "form"),
        [
            ("prompts.csv", table(), "out/{p:05d}_{s}.png"),
            ("prompts.csv", table(), "out/{p:05d}/{s}.png"),
            ("prompts.csv", BARE_RETURNS, "out/{p:05d}/{s}.png"),
            ("prompts.csv", table("p{:03d}"), "sdxl/p{p:03d}/{s}.png"),
            ("prompts.csv", table("p{}"), "out/p{p}-{s}.png"),
            ("prompts.csv", table(columns="index,prompt"), "out/prompt_{p}_seed{s}.png"),
            ("prompts.csv", table(columns=",prompt"), "out/{p}_{s}.png"),
            ("metadata.csv", table("{:05d}", "folder,prompt"), "{p:05d}/{s}.png"),
            ("bench.csv", table("nurse-{}", "prompt_id,prompt"), "nurse-{p}/{s}.png"),
            ("instances.json", HEIM.encode(), "images/id{p}_{s}.png"),
            ("instances.json", HEIM.encode(), "id{p}/{s}.png"),
            ("prompts.json", json.dumps({str(n): text for n, text in enumerate(PROMPTS)}).encode(), "out/{p}_{s}.png"),
            ("prompts.parquet", in_parquet(), "out/{p}_{s}.png"),
            ("tables/prompts.csv", table(), "images/{p:05d}_{s}.png"),
        ],
    )  # fmt: skip
    def test_ids(self, tmp_path: Path, name: str, content: bytes, form: str) -> None:
        found, notes = of_folder(tmp_path, images(form) | {name: content})
        assert found == JOINED
        assert f"of {name.rpartition('/')[2]} in their" in notes and "'a photo of a nurse'" in notes
        assert "not opened" not in notes

    @pytest.mark.parametrize("start", [0, 1])
    @pytest.mark.parametrize("form", ["out/{p:05d}_{s}.png", "out/{p}/samples/{s:04d}.png"])
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("PartiPrompts.tsv", ROWS),
            ("prompts.txt", "\n".join(PROMPTS)),
            ("list.json", json.dumps(PROMPTS)),
            ("evaluation_metadata.jsonl", "".join(json.dumps({"tag": "x", "prompt": text}) + "\n" for text in PROMPTS)),
        ],
    )
    def test_rows(self, tmp_path: Path, name: str, content: str, form: str, start: int) -> None:
        found, notes = of_folder(tmp_path, images(form, start=start) | {name: content.encode()})
        assert found == JOINED
        assert f"the numbers of the rows of {name}, counted from {start}, in their" in notes

    @pytest.mark.parametrize("form", ["out/sdxl_v2_{p:05d}.png", "out/42_{p}.png", "out/{p:04d}-a-person.png"])
    def test_rows_by_names_that_say_more(self, tmp_path: Path, form: str) -> None:
        files = images(form, samples=1) | {"prompts.txt": "\n".join(PROMPTS).encode()}
        assert of_folder(tmp_path, files)[0] == dict.fromkeys(PROMPTS, 1)

    def test_numbers_behind_a_name_that_count_samples(self, tmp_path: Path) -> None:
        files = {f"out/{who}_{s}.png": PICTURES[4 * p + s] for p, who in enumerate(("anna", "bob")) for s in range(4)}
        with pytest.raises(ArchiveError, match="its 4 prompts say of no image"):
            of_folder(tmp_path, files | {"prompts.txt": "\n".join(PROMPTS).encode()})

    def test_the_words_of_a_list_in_names(self, tmp_path: Path) -> None:
        files = {f"samples/{text}_{n:06d}.png": PICTURES[n] for n in range(16) for text in [PROMPTS[n // 4]]}
        found, notes = of_folder(tmp_path, files | {"all_prompts.txt": "\n".join(reversed(PROMPTS)).encode()})
        assert found == JOINED and "bear the prompts of all_prompts.txt" in notes

    def test_folders_that_are_not_in_a_list_keep_their_names(self, tmp_path: Path) -> None:
        files = {
            f"{text.replace(' ', '_')}/{s}.png": PICTURES[4 * p + s] for p, text in enumerate(PROMPTS) for s in range(4)
        }
        assert of_folder(tmp_path, files | {"prompts.txt": "\n".join(PROMPTS[:3]).encode()})[0] == JOINED
        written = [text.upper() for text in PROMPTS]
        assert of_folder(tmp_path, {"prompts.txt": "\n".join(written).encode()})[0] == dict.fromkeys(written, 4)

    @pytest.mark.parametrize("container", ["zip", "tar"])
    @pytest.mark.parametrize(("name", "content"), [("prompts.csv", table()), ("PartiPrompts.tsv", ROWS.encode())])
    def test_inside_containers(self, tmp_path: Path, container: str, name: str, content: bytes) -> None:
        files = images("ds/out/{p:05d}_{s}.png") | {f"ds/{name}": content}
        where = tmp_path / f"d.{container}"
        if container == "tar":
            write_tar(where, files.items())
        else:
            with zipfile.ZipFile(where, "w") as archive:
                for path, data in files.items():
                    archive.writestr(path, data)
        assert read(where)[0] == JOINED

    def test_rows_that_come_again_are_one(self, tmp_path: Path) -> None:
        again = {"prompts.csv": table() + f"2,{PROMPTS[2]}\n".encode()}
        assert of_folder(tmp_path, images("out/{p:05d}_{s}.png") | again)[0] == JOINED
        assert key_table("", "data.csv", again["prompts.csv"]) is None  # nothing says that it is of prompts

    def test_a_key_of_several_prompts_is_named_where_the_table_was_asked_for(self, tmp_path: Path) -> None:
        lies = tmp_path / "list.csv"
        lies.write_bytes(table() + b"2,another one\n")
        with pytest.raises(ArchiveError, match=r"with different prompts\. Leave one"):
            of_folder(tmp_path, images("out/{p:05d}_{s}.png"), prompt_table=str(lies))

    def test_models_that_bear_the_same_numbers_are_said(self, tmp_path: Path) -> None:
        files = {f"{model}/{p:05d}.png": PICTURES[p] for model in ("sdxl", "flux") for p in range(4)}
        found, notes = of_folder(tmp_path, files | {"prompts.csv": table()})
        assert found == dict.fromkeys(PROMPTS, 2)
        assert "lie in several folders, such as flux and sdxl" in notes


class TestLists:
    @pytest.mark.parametrize(
        "line", ["{file}\t{text}", "{file}: {text}", "{file},{text}", '"{file}" | {text}', "{file}#0\t{text}"]
    )
    @pytest.mark.parametrize("folder", ["out", "my run"])
    def test_lines_that_name_files(self, tmp_path: Path, line: str, folder: str) -> None:
        lines = [line.format(file=f"{p}_{s}.png", text=PROMPTS[p]) for p in range(4) for s in range(4)]
        files = images(f"{folder}/{{p}}_{{s}}.png") | {f"{folder}/captions.txt": "\n".join(lines).encode()}
        assert of_folder(tmp_path, files)[0] == JOINED

    @pytest.mark.parametrize("line", ["{n}\t{text}", "{n}. {text}", "{n}: {text}"])
    def test_lines_that_are_numbered(self, tmp_path: Path, line: str) -> None:
        lines = [line.format(n=n + 1, text=text) for n, text in enumerate(PROMPTS)]
        files = images("out/{p:03d}_{s}.png", start=1) | {"prompts.txt": "\n".join(lines).encode()}
        assert of_folder(tmp_path, files)[0] == JOINED
        with pytest.raises(
            ArchiveError,
            match=r"out/000_0.png has no id in it, and 4 no image: they may be counted from another number",
        ):
            of_folder(tmp_path / "b", images("out/{p:03d}_{s}.png") | {"prompts.txt": "\n".join(lines).encode()})

    def test_a_table_without_a_header(self, tmp_path: Path) -> None:
        rows = "".join(f"{p}_{s}.png|{PROMPTS[p]}\n" for p in range(4) for s in range(4))
        assert of_folder(tmp_path, images("out/{p}_{s}.png") | {"out/metadata.csv": rows.encode()})[0] == JOINED

    def test_a_list_in_every_folder(self, tmp_path: Path) -> None:
        files = {
            f"{model}/{p:05d}.png": PICTURES[4 * m + p] for m, model in enumerate(("flux", "sdxl")) for p in range(4)
        }
        lists = {
            f"{model}/prompts.txt": "\n".join(f"{text} by {model}" for text in PROMPTS).encode()
            for model in ("flux", "sdxl")
        }
        found, notes = of_folder(tmp_path, files | lists)
        assert found == {f"{text} by {model}": 1 for text in PROMPTS for model in ("flux", "sdxl")}
        assert notes.count("bear the numbers of the rows of prompts.txt") == 2


class TestNotJoined:
    @pytest.mark.parametrize(
        ("name", "content"), [("prompts.csv", table()), ("prompts.txt", "\n".join(PROMPTS).encode())]
    )
    def test_numbers_in_folders_of_their_own_names_count_samples(
        self, tmp_path: Path, name: str, content: bytes
    ) -> None:
        files = {
            f"{who}/{s}.png": PICTURES[4 * p + s]
            for p, who in enumerate(("cook", "judge", "maid", "pilot"))
            for s in range(4)
        }
        found, notes = of_folder(tmp_path, files | {name: content})
        assert found == {"cook": 4, "judge": 4, "maid": 4, "pilot": 4}
        assert f"{name} beside the images is not understood" in notes and "archive.prompt_table" in notes

    def test_numbers_in_one_such_folder_are_of_a_table_that_has_just_these(self, tmp_path: Path) -> None:
        files = {f"my run/{n}.png": PICTURES[n] for n in range(4)} | {"prompts.csv": table(columns="index,prompt")}
        assert of_folder(tmp_path, files)[0] == dict.fromkeys(PROMPTS, 1)
        assert of_folder(tmp_path, {"my run/4.png": PICTURES[4]})[0] == {"my run": 5}
        keyed = images("my run/p{p}_{s}.png") | {"prompts.csv": table("p{}")}
        assert of_folder(tmp_path / "b", keyed)[0] == JOINED

    @pytest.mark.parametrize(
        ("name", "content", "form", "why"),
        [
            ("prompts.csv", "id,prompt\n" + "".join(f"{n},prompt {n} of many\n" for n in range(99)), "out/{p}/{s}.png", "out/0/1.png may be of 1 or of 0"),
            ("prompts.txt", "".join(f"prompt {n} of many\n" for n in range(99)), "out/{p}_{s}.png", "its 99 prompts say of no image"),
            ("prompts.txt", "\n".join(PROMPTS[:3]), "out/{p}_{s}.png", "its 3 prompts say of no image"),
            ("prompts.csv", table().decode(), "out/4{s}_{p:03d}.png", "its id, such as '0', is not found"),
            ("classes.json", '["cat", "dog", "cow", "pig"]', "out/{p}_{s}.png", "there are no captions or tables of prompts"),
            ("classes.json", '{"0": "cat", "1": "dog", "2": "cow", "3": "pig"}', "out/{p}_{s}.png", "there are no captions or tables of prompts"),
            ("prompts.csv", "id,prompt\n0,a nurse\n0,a doctor\n", "out/{p}_{s}.png", "its id '0' stands in several rows, with different prompts"),
        ],
    )  # fmt: skip
    def test_what_may_be_meant_in_several_ways_or_none(
        self, tmp_path: Path, name: str, content: str, form: str, why: str
    ) -> None:
        with pytest.raises(ArchiveError) as caught:
            of_folder(tmp_path, images(form) | {name: content.encode()})
        assert why in str(caught.value)


def test_tables_of_other_folders_and_images_in_text_are_not_spoken_of(tmp_path: Path) -> None:
    files = {f"a nurse/{n}.png": PICTURES[n] for n in range(4)}
    files["tars/00000.csv"] = b"key,caption\n000000,a cat\n000001,a dog\n"
    files["b64.csv"] = b"image,caption\n" + b"".join(b"%s,a cat\n" % (b"%d/9j/4AA" % n * 99) for n in range(3))
    found, notes = of_folder(tmp_path, files)
    assert found == {"a nurse": 4} and "its key" not in notes and "its image" not in notes
    assert max(map(len, notes.splitlines())) < 300


def test_settings_beside_images_are_no_table(tmp_path: Path) -> None:
    settings = {
        "prompt": "a photo of a nurse",
        "negative_prompt": "ugly, blurry, bad hands",
        "note": "for the second run",
    }
    files = {f"a nurse/{n}.png": PICTURES[n] for n in range(4)} | {
        "a nurse/settings.json": json.dumps(settings).encode()
    }
    found, notes = of_folder(tmp_path, files)
    assert found == {"a nurse": 4} and "not understood" not in notes


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl", "x.txt", "x.tsv", "x.parquet"])
@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "[]", "{}", "[[], {}]", '[{"prompt": 1}, {}]', '{"a": [1, 2]}', '{"a": "b c d", "e": {"f": 1}}', "id,prompt\n1\n2,a,b\n", '["a b c", 3]',
     '[{"id": 1, "prompt": "a"}, {"prompt": "b"}]', '{"request_states": [1, {"request": {}, "result": {"completions": [2, {}]}}]}',
     '{"request_states": [{"request": {}, "result": {"completions": 5}}]}', '{"request_states": [{"request": {}, "result": {"completions": [{"multimodal_content": {"media_objects": 7}}]}}]}', "\0,\0\n\0,\0", "1. a\nb"],
)  # fmt: skip
def test_what_is_no_table_of_keys_ends_in_none_or_one(name: str, content: str) -> None:
    for encoding in ("utf-8", "utf-16", "latin-1"):
        Beside().take("", name, content.encode(encoding))
        found = key_table("", name, content.encode(encoding), asked=True)
        assert found is None or all(isinstance(text, str) for text in found.prompts.values())


class TestPromptTable:
    def joined(
        self, tmp_path: Path, form: str, content: str | bytes, name: str = "list.csv", **options: str
    ) -> tuple[Counter[str], str]:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return of_folder(tmp_path, images(form), prompt_table=str(file), **options)

    MANY = "\n".join([*PROMPTS, *(f"prompt {n} of many" for n in range(90))])

    @pytest.mark.parametrize(
        ("form", "options"),
        [
            ("out/{p}_{s}.png", {"path_pattern": "{key}_{index}"}),
            ("out/{p}_{s}.png", {"key_column": "row-0"}),
            ("out/{p:03d}/{s}.png", {"path_pattern": "{key}/{index}", "key_column": "row-0"}),
            ("out/7{s}_{p}.png", {"path_pattern": "{seed}_{key}"}),
        ],
    )
    def test_rows_of_a_list_that_has_more(self, tmp_path: Path, form: str, options: dict[str, str]) -> None:
        found, notes = self.joined(tmp_path, form, self.MANY, "list.txt", **options)
        assert found == JOINED and "list.txt (archive.prompt_table)" in notes

    def test_one_in_parquet_among_the_images_is_no_archive(self, tmp_path: Path) -> None:
        table, form = tmp_path / "archive" / "list.parquet", "a nurse/{p}_{s}.png"
        files: Files = images(form) | {"list.parquet": in_parquet(), "a nurse/other.parquet": b"PAR1"}
        found, notes = of_folder(tmp_path, files, prompt_table=str(table), path_pattern="{key}_{index}")
        assert found == JOINED
        assert "1 .parquet archives inside the tree, not opened" in notes and "such as a nurse/other.parquet" in notes

    def test_keys_of_a_column_that_is_named(self, tmp_path: Path) -> None:
        content = table("x{}", "case,wording")
        options = {"key_column": "case", "prompt_column": "wording"}
        assert self.joined(tmp_path, "a nurse/x{p}-{s}.png", content, **options)[0] == JOINED

    def test_files_of_another_folder(self, tmp_path: Path) -> None:
        rows = "".join(f"C:\\run\\{n // 4}_{n % 4}.png,{PROMPTS[n // 4]}\n" for n in range(16))
        assert self.joined(tmp_path, "a nurse/{p}_{s}.png", f"path,prompt\n{rows}")[0] == JOINED

    def test_a_tar(self, tmp_path: Path) -> None:
        write_tar(tmp_path / "a.tar", images("{p:03d}/{s}.png").items())
        (tmp_path / "list.txt").write_text(self.MANY)
        options = {"prompt_table": str(tmp_path / "list.txt"), "path_pattern": "{key}/{index}"}
        found, notes = read(tmp_path / "a.tar", **options)
        assert found == JOINED and "row in archive.prompt_table" in notes

    @pytest.mark.parametrize(
        ("content", "options", "why"),
        [
            (MANY, {}, "how images bear its rows is not plain: set path_pattern, such as '{key}_{index}'"),
            ("one line alone", {}, "is not understood: it needs two rows or more"),
            (MANY, {"path_pattern": "{prompt}_{index}"}, "needs {key}"),
            (MANY, {"prompt_from": "folder"}, "prompt_from: folder cannot be set beside it"),
        ],
    )
    def test_errors(self, tmp_path: Path, content: str, options: dict[str, str], why: str) -> None:
        with pytest.raises(ArchiveError) as caught:
            self.joined(tmp_path, "out/{p}_{s}.png", content, "list.txt", **options)
        assert why in str(caught.value)

    def test_a_table_that_is_not_there_and_a_key_without_one(self, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError, match="the file is missing"):
            of_folder(tmp_path, images("{p}_{s}.png"), prompt_table=str(tmp_path / "none.csv"))
        with pytest.raises(ArchiveError, match="key_column is of a prompt_table"):
            ArchiveOptions(key_column="id")

    def test_what_takes_none(self, tmp_path: Path) -> None:
        (tmp_path / "list.csv").write_bytes(table())
        (tmp_path / "m.csv").write_text("path,prompt\n0.png,a nurse\n")
        with pytest.raises(ArchiveError, match="prompt_table is for folders, zips and tars"):
            read(tmp_path / "m.csv", prompt_table=str(tmp_path / "list.csv"))
        with pytest.raises(ArchiveError, match=r"rescore their folder with archive.prompt_table set to this file"):
            read(tmp_path / "list.csv")

    def test_a_changed_table_makes_other_shards(self, tmp_path: Path) -> None:
        where, file = write_tree(tmp_path / "archive", images("{p}_{s}.png")), tmp_path / "list.csv"
        stamps = []
        for content in (table(), table().replace(b"nurse", b"maid")):
            file.write_bytes(content)
            source = open_source(where, options=ArchiveOptions(prompt_table=str(file)))
            stamps.append([shard.fingerprint for shard in source.shards()] + [str(source.identity())])
        assert stamps[0][0] != stamps[1][0] and stamps[0][1] != stamps[1][1]


class TestCaptionFolders:
    @pytest.mark.parametrize(
        ("image", "caption"),
        [
            ("images/{n:04d}.png", "captions/{n:04d}.txt"),
            ("data/train/images/{n}.png", "data/train/text/{n}.txt"),
            ("images/train/{n}.png", "prompts/train/{n}.png.txt"),
            ("{n}.png", "captions/{n}.txt"),
            ("images/{n}.png", "{n}.txt"),
            ("images/{n}.png", "labels/{n}.json"),
        ],
    )
    @pytest.mark.parametrize("container", ["folder", "tar"])
    def test_equal_names(self, tmp_path: Path, image: str, caption: str, container: str) -> None:
        texts = [json.dumps({"prompt": text}) if caption.endswith("json") else text for text in PROMPTS]
        files = {image.format(n=n): PICTURES[n] for n in range(16)}
        files |= {caption.format(n=n): texts[n // 4].encode() for n in range(16)}
        if container == "folder":
            assert of_folder(tmp_path, files)[0] == JOINED
            return
        assert read(write_tar(tmp_path / "a.tar", sorted(files.items())))[0] == JOINED

    def two(self, *folders: str) -> Files:
        files = {f"images/{n}.png": PICTURES[n] for n in range(16)}
        return files | {
            f"{folder}/{n}.txt": f"{folder} {PROMPTS[n // 4]}".encode() for folder in folders for n in range(16)
        }

    def test_one_of_several_is_taken_where_its_name_says_so(self, tmp_path: Path) -> None:
        found, _ = of_folder(tmp_path, self.two("prompts", "negative_prompts", "scores"))
        assert found == {f"prompts {text}": 4 for text in PROMPTS}
        with pytest.raises(ArchiveError, match="blip and llava have texts for the same images"):
            of_folder(tmp_path / "b", self.two("blip", "llava"))

    def test_classes_and_boxes_are_none(self, tmp_path: Path) -> None:
        files = {f"images/{n}.png": PICTURES[n] for n in range(4)}
        with pytest.raises(ArchiveError, match=r"nothing in .* says which prompt"):
            of_folder(tmp_path, files | {f"labels/{n}.txt": b"0 0.5 0.5 0.1 0.1\n" for n in range(4)})

    def test_folders_that_name_prompts_stand(self, tmp_path: Path) -> None:
        files = {f"images/{who}/{n}.png": PICTURES[n] for who in ("cook", "maid") for n in range(2)}
        files |= {f"captions/{who}/{n}.txt": b"a photo" for who in ("cook", "maid") for n in range(2)}
        found, notes = of_folder(tmp_path, files)
        assert found == {"cook": 2, "maid": 2} and "prompt_from: caption takes them" in notes
        assert of_folder(tmp_path, {}, prompt_from="caption")[0] == {"a photo": 4}

    def test_one_without_a_caption(self, tmp_path: Path) -> None:
        files = self.two("captions")
        del files["captions/3.txt"]
        found, notes = of_folder(tmp_path, files)
        assert found[""] == 1 and "1 of 16 images have no caption file" in notes


class TestFoldersOfContainers:
    def test_a_repository_of_a_data_set(self, tmp_path: Path) -> None:
        file = io.BytesIO()
        cells = [{"bytes": data, "path": None} for data in PICTURES]
        pq.write_table(pa.table({"image": cells, "prompt": [PROMPTS[n // 4] for n in range(16)]}), file)
        files = {"data/train-00000-of-00001.parquet": file.getvalue(), "README.md": b"a card", ".git/config": b"x"}
        assert of_folder(tmp_path, files)[0] == JOINED

    def test_tars_in_a_folder_below(self, tmp_path: Path) -> None:
        for shard in range(2):
            members = [
                (f"{n}.{ending}", data)
                for n in range(8 * shard, 8 * shard + 8)
                for ending, data in (("png", PICTURES[n]), ("txt", PROMPTS[n // 4].encode()))
            ]
            where = tmp_path / "set" / f"shards/{shard:05d}.tar"
            where.parent.mkdir(parents=True, exist_ok=True)
            write_tar(where, members)
        assert read(tmp_path / "set")[0] == JOINED
        (tmp_path / "set" / "a nurse").mkdir()
        (tmp_path / "set" / "a nurse" / "0.png").write_bytes(PICTURES[0])
        found, notes = read(tmp_path / "set")
        assert found == {"a nurse": 1} and "2 .tar archives inside the tree, not opened" in notes

    def test_captions_beside_images_go_before_a_join(self, tmp_path: Path) -> None:
        files = {
            f"00000/{n:05d}.{ending}": PICTURES[n] if ending == "png" else b"a caption"
            for n in range(8)
            for ending in ("png", "txt")
        }
        rows = "".join(f"{n:05d},another text\n" for n in range(8))
        assert of_folder(tmp_path, files | {"00000.csv": f"prompt_id,caption\n{rows}".encode()})[0] == {"a caption": 8}


class TestWrittenElsewhere:
    def test_paths_of_another_machine(self, tmp_path: Path) -> None:
        rows = "".join(f"/home/bob/run/{n // 4}/{n % 4}.png,{PROMPTS[n // 4]}\n" for n in range(16))
        found, notes = of_folder(
            tmp_path, images("images/{p}/{s}.png") | {"metadata.csv": f"path,prompt\n{rows}".encode()}
        )
        assert found == JOINED
        assert "images are found by the ends of these paths: that one is images/0/0.png" in notes
        assert "missing" not in notes

    @pytest.mark.parametrize(("form", "joined"), [("val/{n}.png", False), ("val/{n:02d}c0ffee.png", True)])
    def test_names_that_count_may_be_of_another_folder(self, tmp_path: Path, form: str, joined: bool) -> None:
        names = [form.format(n=n) for n in range(4)]
        rows = [f"train/{form.format(n=n).rpartition('/')[2]},{PROMPTS[n % 4]}\n" for n in range(6)]
        files = dict(zip(names, PICTURES, strict=False)) | {"metadata.csv": f"path,prompt\n{''.join(rows)}".encode()}
        if joined:
            assert of_folder(tmp_path, files)[0] == dict.fromkeys(PROMPTS, 1)
            return
        with pytest.raises(ArchiveError, match="prompts for files that are not here"):
            of_folder(tmp_path, files)

    def test_an_end_that_several_images_have_is_of_none(self, tmp_path: Path) -> None:
        files = {f"{folder}/{n}.png": PICTURES[n] for folder in ("0001", "0002") for n in range(4)}
        rows = "".join(f"/run/{n}.png,{text}\n" for n, text in enumerate(PROMPTS))
        with pytest.raises(ArchiveError, match="prompts for files that are not here"):
            of_folder(tmp_path, files | {"metadata.csv": f"path,prompt\n{rows}".encode()})

    def test_the_state_of_helm(self, tmp_path: Path) -> None:
        def answer(p: int, s: int) -> dict[str, object]:
            media = [{"content_type": "image/png", "location": f"prod/cache/{p}{s}ab.png"}]
            return {"text": "", "multimodal_content": {"media_objects": media}}

        states = [
            {
                "instance": {"id": f"id{p}"},
                "request": {"prompt": text},
                "result": {"completions": [answer(p, s) for s in range(4)]},
            }
            for p, text in enumerate(PROMPTS)
        ]
        files = images("cache/{p}{s}ab.png") | {"scenario_state.json": json.dumps({"request_states": states}).encode()}
        assert of_folder(tmp_path, files)[0] == JOINED
