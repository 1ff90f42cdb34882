"""Columns and members as they come: manifests, parquet and tars that people have."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL.PngImagePlugin import PngInfo

from allfour.pipeline.archives import ArchiveError, ArchiveItem, ArchiveOptions, open_source
from allfour.pipeline.archives.base import HasDoubts
from allfour.pipeline.archives.fetch import fetch
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
            ("a.json", json.dumps([{"file_name": f"im/{i}.png", "text": "a nurse"} for i in range(4)])),
            (
                "a.json",
                json.dumps({"version": 1, "images": [{"path": f"im/{i}.png", "prompt": "a nurse"} for i in range(4)]}),
            ),
            ("a.csv", f'images,prompt\n"{[f"im/{i}.png" for i in range(4)]}",a nurse\n'),
            (
                "a.jsonl",
                json.dumps({"prompt": "a nurse", "images": [{"path": f"im/{i}.png", "seed": i} for i in range(4)]}),
            ),
            ("a.json", json.dumps({f"im/{i}.png": {"p": "a nurse", "se": i} for i in range(4)})),
            ("a.json", json.dumps({f"im/{i}.png": "a nurse" for i in range(4)})),
            ("a.jsonl", json.dumps({"images": [f"im/{i}.png" for i in range(4)], "prompt": "a nurse"})),
        ],
    )
    def test_read(self, tmp_path: Path, name: str, text: str) -> None:
        items, notes = manifest(tmp_path, name, text)
        assert prompts(items) == {"a nurse": 4}
        assert [item.data for item in items] == PICTURES[:4]
        assert "not there" not in notes

    @pytest.mark.parametrize("words", ["['a', 'b']", "{'a': 'b'}", '{"a": 1}', "[\"a's\", 'b']"])
    def test_lists_and_objects_are_no_prompts(self, tmp_path: Path, words: str) -> None:
        items, notes = manifest(
            tmp_path,
            "a.tsv",
            f"path\tprompt\nim/0.png\ta nurse\nim/1.png\t'{words}'\n".replace("'" + words + "'", words),
        )
        assert prompts(items) == {"a nurse": 1}
        assert "1 of 2 rows have no prompt" in notes

    @pytest.mark.parametrize("words", ["[nurse], {smiling}", "(a nurse:1.2), [blurry]", "{nurse|doctor}"])
    def test_brackets_stand_in_prompts(self, tmp_path: Path, words: str) -> None:
        assert prompts(manifest(tmp_path, "a.tsv", f"path\tprompt\nim/0.png\t{words}\n")[0]) == {words: 1}

    def test_images_that_stand_there_as_text(self, tmp_path: Path) -> None:
        text = base64.b64encode(PICTURES[0]).decode()
        for column in (text, f"data:image/png;base64,{text}"):
            with pytest.raises(ArchiveError, match="line 2 has an image itself, as text, in image"):
                manifest(tmp_path, "a.csv", f'image,prompt\n"{column}",a nurse\n')

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
        assert "5 of 6 rows have no prompt: the column holds a word for nothing" in notes

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
        (tmp_path / "list.json").write_text('[{"path": "x", "prompt": "a"}, 7]')
        with pytest.raises(ArchiveError, match="entry 2 is no JSON object"):
            open_source(tmp_path / "list.json").summary()
        (tmp_path / "list.json").write_text('{"info": 1}')
        with pytest.raises(ArchiveError, match="holds no list of objects"):
            open_source(tmp_path / "list.json").summary()

    def test_prompts_in_paths(self, tmp_path: Path) -> None:
        write_tree(
            tmp_path,
            {f"sd2/a_nurse/{i}.png": data for i, data in enumerate(PICTURES[:4])} | {"elsewhere.png": PICTURES[4]},
        )
        (tmp_path / "a.csv").write_text("path\n" + table(4, "sd2\\a_nurse\\#.png") + "elsewhere.png\n")
        options = ArchiveOptions(prompt_from="path", path_pattern="{model}/{prompt}/{seed}")
        source = open_source(tmp_path / "a.csv", options=options)
        items = check_contract(source)
        assert prompts(items) == {"a nurse": 4}
        assert [(item.image.seed, dict(item.image.extra)) for item in items[:2]] == [
            (0, {"model": "sd2"}),
            (1, {"model": "sd2"}),
        ]
        assert "path does not match" in str(items[-1].error) + "\n".join(source.summary().notes)
        (tmp_path / "b.csv").write_text("path\n" + table(4, "sd2/a_nurse/#.png"))
        assert {
            item.image.prompt
            for item in items_of(open_source(tmp_path / "b.csv", options=ArchiveOptions(prompt_from="name")))
        } == {""}
        for way in ("caption", "metadata", "table"):
            with pytest.raises(ArchiveError, match="a manifest's prompts come from its column"):
                open_source(tmp_path / "b.csv", options=ArchiveOptions(prompt_from=way))  # type: ignore[arg-type]


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

    def test_other_ways_are_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"image": list(PICTURES[:1]), "prompt": ["a"]})
        with pytest.raises(ArchiveError, match="folder is for files and folders"):
            open_source(path, options=ArchiveOptions(prompt_from="folder"))
        with pytest.raises(ArchiveError, match="holds paths and not the images' bytes"):
            open_source(self.write(tmp_path, {"image": [{"bytes": None, "path": "0.png"}], "prompt": ["a"]})).summary()

    def test_a_table_of_paths_is_a_manifest(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {f"{i}.png": PICTURES[i] for i in range(4)})
        names = {"file_name": [f"{i}.png" for i in range(5)], "prompt": ["a", "a", None, "A", "b"], "seed": range(5)}
        items = check_contract(source := open_source(self.write(tmp_path, names), options=ArchiveOptions(shard_size=2)))
        assert prompts(items) == {"a": 2, "A": 1}
        assert [item.image.seed for item in items] == [0, 1, 2, 3, 4]
        notes = "\n".join(source.summary().notes)
        assert "1 of 5 rows name files that are not there" in notes and "1 prompt is spelled in several ways" in notes


class TestSavedDatasets:
    """As `datasets.save_to_disk` writes them: record batches in the format for streams."""

    def write(self, folder: Path, *, form: str = "stream", numbers: range = range(8)) -> Path:
        folder.mkdir(parents=True)
        rows = [{"image": {"bytes": PICTURES[i], "path": None}, "prompt": f"p{i // 4}", "seed": i} for i in numbers]
        data = pa.Table.from_pylist(rows)
        new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with new(folder / "data-00000-of-00001.arrow", data.schema) as writer:
            for batch in data.to_batches(max_chunksize=3):
                writer.write_batch(batch)
        (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
        (folder / "dataset_info.json").write_text("{}")
        return folder

    @pytest.mark.parametrize("form", ["stream", "file"])
    def test_read_and_shown_again(self, tmp_path: Path, form: str) -> None:
        folder = self.write(tmp_path / "saved", form=form)
        (folder / "cache-0123456789abcdef.arrow").write_bytes(b"of the package's own")
        source = open_source(folder, options=ArchiveOptions(shard_size=4))
        items = check_contract(source)
        assert [item.data for item in items] == PICTURES and prompts(items) == {"p0": 4, "p1": 4}
        assert [item.image.seed for item in items] == list(range(8))
        assert len(list(source.shards())) == 3
        assert dict(fetch([item.image.path for item in items])) == {item.image.path: item.data for item in items}
        assert open_source(folder / "data-00000-of-00001.arrow").summary().images == 8

    def test_splits(self, tmp_path: Path) -> None:
        self.write(tmp_path / "d" / "train", numbers=range(4))
        self.write(tmp_path / "d" / "test", numbers=range(4, 8))
        (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        assert prompts(check_contract(open_source(tmp_path / "d"))) == {"p0": 4, "p1": 4}

    def test_damaged(self, tmp_path: Path) -> None:
        write_tree(tmp_path / "saved", {"data-00000-of-00001.arrow": b"ARROW", "state.json": b"{}"})
        with pytest.raises(ArchiveError, match="no arrow file, or is damaged"):
            open_source(tmp_path / "saved").summary()
        good = (self.write(tmp_path / "good") / "data-00000-of-00001.arrow").read_bytes()
        for number in range(60):
            broken = bytearray(good[: len(good) - 500 * (number % 3)])
            for at in range(number, 2_000, 97):
                broken[at] ^= 1 << number % 8
            path = tmp_path / f"{number}.arrow"
            path.write_bytes(broken)
            with suppress(ArchiveError):
                for item in items_of(open_source(path)):
                    assert item.data is not None or item.error


class TestTars:
    def read(self, path: Path | str) -> tuple[list[ArchiveItem], str]:
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

    def test_prompts_in_paths(self, tmp_path: Path) -> None:
        members = [(f"sd2/x/a_nurse/{i}.png", PICTURES[i]) for i in range(4)] + [("b.png", PICTURES[4])]
        path = write_tar(tmp_path / "x.tar", members)
        options = ArchiveOptions(prompt_from="path", path_pattern="{model}/{group}/{prompt}/{seed}")
        source = open_source(path, options=options)
        items = check_contract(source)
        assert prompts(items) == {"a nurse": 4}
        assert [(i.image.seed, i.image.group, dict(i.image.extra)) for i in items[:2]] == [
            (n, "x", {"model": "sd2"}) for n in range(2)
        ]
        assert str(items[-1].error).startswith("no prompt: its path does not match")
        with pytest.raises(ArchiveError, match="prompt_from: table is not for tars at an address"):
            open_source("memory://x.tar", options=ArchiveOptions(prompt_from="table"))

    @pytest.mark.parametrize("mode", ["w", "w:gz"])
    def test_a_table_inside(self, tmp_path: Path, mode: str) -> None:
        """A packed imagefolder: its table says the prompts, wherever in the tar it stands."""
        lines = [json.dumps({"file_name": f"{i}.png", "text": f"a nurse {i % 2}"}) for i in (0, 1, 2, 3, 9)]
        members = [(f"train/{i}.png", PICTURES[i]) for i in range(5)]
        members.insert(3, ("train/metadata.jsonl", "\n".join(lines).encode()))
        items, notes = self.read(write_tar(tmp_path / "x.tar", members, mode=mode))
        assert prompts([item for item in items if item.data]) == {"a nurse 0": 2, "a nurse 1": 2}
        assert [item.error for item in items if item.error] == ["no prompt: no table inside has its prompt"]
        assert "1 file of the 5 that metadata.jsonl names, such as train/9.png, is missing" in notes
        assert "1 of 5 images are in no table inside" in notes

    def test_prompts_in_names(self, tmp_path: Path) -> None:
        members = [(f"x/DALL·E 2022-12-05 10.15.3{i} - a photo of a nurse.png", PICTURES[i]) for i in range(4)]
        assert prompts(self.read(write_tar(tmp_path / "x.tar", members))[0]) == {"a photo of a nurse": 4}

    @pytest.mark.parametrize("mode", ["w", "w:gz"])
    def test_several_images_of_a_key_are_read_and_said(self, tmp_path: Path, mode: str) -> None:
        members = [
            (f"{i}.{which}", data)
            for i in range(2)
            for which, data in (("a.png", PICTURES[i]), ("b.png", PICTURES[4 + i]), ("txt", b"a nurse"))
        ]
        items, notes = self.read(write_tar(tmp_path / "x.tar", members, mode=mode))
        assert prompts(items) == {"a nurse": 4}
        assert "4 images share their key" in notes

    @pytest.mark.parametrize("where", ["plain", "gzipped", "at an address"])
    def test_no_samples(self, tmp_path: Path, where: str) -> None:
        """Masks beside their pictures and grids are in no set."""
        members = [(f"a maid/{i}{what}.png", PICTURES[i]) for i in range(4) for what in ("", "_mask")]
        members.append(("a maid/grid-0001.png", PICTURES[5]))
        path: Path | str = write_tar(tmp_path / "x.tar", members, mode="w:gz" if where == "gzipped" else "w")
        if where == "at an address":
            fsspec.filesystem("memory").pipe("/aside/x.tar", Path(path).read_bytes())
            path = "memory://aside/x.tar"
        items, notes = self.read(path)
        assert prompts(items) == {"a maid": 4} and len(items) == 9
        assert (
            "4 without a prompt, not scored: not a sample: by its name the mask of another picture beside it" in notes
        )
        assert "1 without a prompt, not scored: not a sample: by its name a grid" in notes

    def test_what_is_in_reach_is_said(self, tmp_path: Path) -> None:
        info = PngInfo()
        info.add_text("parameters", "a photo of a nurse\nSteps: 20, Sampler: Euler, Seed: 1")
        buffer = io.BytesIO()
        picture(1).save(buffer, "PNG", pnginfo=info)
        source = open_source(
            write_tar(tmp_path / "x.tar", [(f"portraits/{i}.png", buffer.getvalue()) for i in range(4)])
        )
        summary = source.summary()
        assert summary.probed == {
            "images": 4,
            "with_prompt": 4,
            "distinct": 1,
            "in_metadata": 4,
            "copies": 3,
            "likely_grids": 0,
            "missing": 0,
        }
        assert isinstance(source, HasDoubts)
        for notes in (summary.notes, source.doubts()):
            assert any("4 of 4 of the images looked at hold a prompt in their metadata" in note for note in notes)
        assert len(summary.examples) == 4

    def test_doubles_are_said(self, tmp_path: Path) -> None:
        members = [("a.png", PICTURES[0]), ("a.txt", b"a nurse"), ("a.png", PICTURES[1])]
        items, notes = self.read(write_tar(tmp_path / "x.tar", members))
        assert prompts(items) == {"a nurse": 2} and "1 images of a name that an earlier one" in notes
