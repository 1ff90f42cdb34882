"""Trees as people have them: what their names, captions and tables say, and which pictures are no samples."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.archives import NO_PROMPT_ID, ArchiveError, ArchiveItem, ArchiveOptions, open_source
from allfour.pipeline.archives.naming import PathPattern, names_no_prompt, no_samples, prompt_in_name
from allfour.pipeline.archives.text import PromptBook
from tests.hostile_images import encoded, good_file, picture
from tests.pipeline.archives.helpers import check_contract, write_tree
from tests.pipeline.archives.test_metadata import png

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PNG = good_file(0, "png")
PICTURES = [encoded(picture(number), "png") for number in range(8)]


def prompts(items: list[ArchiveItem]) -> Counter[str]:
    return Counter(item.image.prompt for item in items)


def tree(tmp_path: Path, files: dict[str, bytes], **options: str) -> tuple[list[ArchiveItem], str]:
    source = open_source(write_tree(tmp_path, files), options=ArchiveOptions(**options))  # type: ignore[arg-type]
    return check_contract(source), "\n".join(source.summary().notes)


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["2023-05-01", "20230501", "2023-05-01_10-15-30", "00012", "7", "samples", "src", "Content", "train", "images", "txt2img-images",
         "part-000001", "seed_3", "outputs", "New folder (2)", "5f0c1a2b-0000-4000-8000-000000000000", "validation_images", "sdxl_outputs",
         "checkpoint-1000", "cfg7.5", "512x512", "0-99", "rank0", "dall-e 2", "epoch=3", " ", "\u200b", "\u2028", "\u3164"],
    )  # fmt: skip
    def test_none(self, name: str) -> None:
        assert names_no_prompt(name)

    @pytest.mark.parametrize(
        "name",
        [
            "a_nurse",
            "nurse",
            "train driver",
            "sample nurse",
            "image of a doctor",
            "p0",
            "test pilot",
            "real estate agent",
            "media worker",
        ],
    )
    def test_some(self, name: str) -> None:
        assert not names_no_prompt(name)

    def test_only_names_that_say_nothing(self, tmp_path: Path) -> None:
        files = {f"train/{i}.png": PICTURES[i] for i in range(4)}
        with pytest.raises(ArchiveError, match=r"which prompt.*'train'.*prompt_from: folder"):
            list(open_source(write_tree(tmp_path, files)).shards())
        items, _ = tree(tmp_path, {}, prompt_from="folder")
        assert prompts(items) == {"train": 4}

    def test_some_names_that_say_nothing(self, tmp_path: Path) -> None:
        files = {f"{folder}/{i}.png": PICTURES[i] for folder in ("a_nurse", "samples") for i in range(2)}
        items, notes = tree(tmp_path, files)
        assert prompts(items) == {"a nurse": 2, "": 2}
        assert "2 images lie in folders such as 'samples'" in notes
        assert items[-1].error and "'samples' names no prompt" in items[-1].error

    def test_a_known_prompt_may_be_called_so(self, tmp_path: Path) -> None:
        source = open_source(
            write_tree(tmp_path, {"train/0.png": PNG}), options=ArchiveOptions(prompts={"train": ("a train", None)})
        )
        assert prompts(check_contract(source)) == {"a train": 1}

    def test_an_output_folder_by_date(self, tmp_path: Path) -> None:
        files = {
            f"txt2img-images/2023-05-01/{i:05d}-1.png": png(parameters="a nurse\nSteps: 20, Seed: 1") for i in range(4)
        }
        files |= {
            f"txt2img-grids/2023-05-01/grid-000{i}.png": png(parameters="a nurse\nSteps: 20, Seed: 1") for i in range(2)
        }
        items, notes = tree(tmp_path, files)
        assert prompts(items) == {"a nurse": 4, "": 2}
        assert "4 of the 4 images looked at hold one" in notes

    def test_one_name_in_two_forms(self, tmp_path: Path) -> None:
        forms = [unicodedata.normalize(form, "caf\u00e9 worker") for form in ("NFC", "NFD")]
        items, notes = tree(tmp_path, {f"{name}/{i}.png": PNG for i, name in enumerate([*forms, "Caf\u00e9  Worker"])})
        assert len({item.image.prompt_id for item in items}) == 1
        assert "spelled in several ways" in notes

    def test_one_identity_in_every_reader(self) -> None:
        book = PromptBook()
        same = ["A photo of a  caf\u00e9", "a photo of a cafe\u0301", "a photo\nof a CAF\u00c9 "]
        assert len({book.from_text(text).id for text in same}) == 1
        assert book.from_text("a nurse").id == book.from_name("A  nurse").id
        known = PromptBook({"ceo": ("a photo of a CEO", "x")})
        assert known.from_text("A photo of a ceo").id == known.from_name("a photo of a CEO").id == "ceo"

    def test_models_side_by_side(self, tmp_path: Path) -> None:
        files = {f"{model}/a_nurse/{i}.png": PICTURES[i] for model in ("sd14", "sd2", "dalle2") for i in range(4)}
        items, notes = tree(tmp_path, files)
        assert prompts(items) == {"a nurse": 12}
        assert "'a_nurse' under dalle2, sd14, sd2" in notes
        assert "copies" in notes
        items, notes = tree(tmp_path, {}, prompt_from="path", path_pattern="{model}/{prompt}/{seed}")
        assert Counter(item.image.extra["model"] for item in items) == dict.fromkeys(("sd14", "sd2", "dalle2"), 4)
        assert {item.image.seed for item in items} == {0, 1, 2, 3}

    def test_download_names(self, tmp_path: Path) -> None:
        files = {
            f"DALL\u00b7E 2022-12-05 10.15.3{i} - a photo of a {who}.png": PNG
            for i in range(4)
            for who in ("nurse", "CEO")
        }
        items, _ = tree(tmp_path, files)
        assert prompts(items) == {"a photo of a nurse": 4, "a photo of a CEO": 4}
        assert prompt_in_name("a_nurse_0001.png") == "a_nurse"

    def test_path_patterns(self) -> None:
        pattern = PathPattern("{model}/{prompt}_{seed}")
        assert pattern.fields("x/sd2/a_nurse_7.png") == {"model": "sd2", "prompt": "a_nurse", "seed": "7"}
        assert pattern.fields("a_nurse_7.png") is None
        for wrong in ("{model}", "{prompt}/{prompt}", "{prompt}{seed}"):
            with pytest.raises(ArchiveError, match="path_pattern"):
                PathPattern(wrong)
        with pytest.raises(ArchiveError, match="path_pattern"):
            ArchiveOptions(prompt_from="path")

    def test_paths_that_do_not_match(self, tmp_path: Path) -> None:
        items, _ = tree(tmp_path, {"a/0.png": PNG, "0.png": PNG}, prompt_from="path", path_pattern="{prompt}/{index}")
        assert prompts(items) == {"a": 1, "": 1}


class TestNoSamples:
    @pytest.mark.parametrize(
        "name",
        ["0_mask.png", "0-depth.png", "mask_0.png", "0_thumb.jpg", "grid-0000.png", "grid.png", "grid_12.png", "0_upscaled.png",
         "0-before-face-restoration.png", "contact_sheet.png", "nurse_collage.png"],
    )  # fmt: skip
    def test_by_name(self, name: str) -> None:
        assert list(no_samples("a_nurse", ["0.jpg", "1.jpg", name])) == [name]

    @pytest.mark.parametrize("name", ["9_mask.png", "masked nurse.png", "gridlock.png", "small.png"])
    def test_only_beside_what_it_was_made_of(self, name: str) -> None:
        assert no_samples("a_nurse", ["0.jpg", name]) == {}

    def test_masks_are_in_no_set(self, tmp_path: Path) -> None:
        files = {f"a_maid/{i}{what}.png": PICTURES[i] for i in range(4) for what in ("", "_mask")}
        items, notes = tree(tmp_path, files)
        assert prompts(items) == {"a maid": 4, "": 4}
        assert [item.image.index for item in items if item.image.prompt] == [0, 1, 2, 3]
        assert "4 without a prompt, not scored: not a sample: by its name the mask" in notes
        assert all(item.error for item in items if item.image.prompt_id == NO_PROMPT_ID)

    def test_folders_of_masks(self, tmp_path: Path) -> None:
        files = {f"{folder}/{i}.png": PICTURES[i] for folder in ("a_maid", "masks") for i in range(2)}
        assert prompts(tree(tmp_path, files)[0]) == {"a maid": 2, "": 2}


class TestBeside:
    def both(self) -> dict[str, bytes]:
        return {f"part-000001/{i}.png": PICTURES[i] for i in range(4)}

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("part-000001/part-000001.json", json.dumps({f"{i}.png": {"p": "ab"[i // 2], "se": i} for i in range(4)})),
            ("part-000001/metadata.csv", "file_name,text\n0.png,a\n1.png,a\n2.png,b\n3.png,b\n"),
            ("part-000001/metadata.jsonl", "".join(json.dumps({"file_name": f"{i}.png", "text": "ab"[i // 2]}) + "\n" for i in range(4))),
            ("metadata.csv", "file_name,prompt\n" + "".join(f"part-000001\\{i}.png,{'ab'[i // 2]}\n" for i in range(4))),
            ("captions.json", json.dumps({f"part-000001/{i}.png": "ab"[i // 2] for i in range(4)})),
            ("metadata.jsonl", "".join(json.dumps({"file_name": f"{i}.png", "text": "ab"[i // 2]}) + "\n" for i in range(4))),
            ("prompts.csv", "id,prompt\n" + "".join(f"000{i},{'ab'[i // 2]}\n" for i in range(4))),
            ("captions_val.json", json.dumps({"images": [{"id": i, "file_name": f"{i}.png"} for i in range(4)],
                                              "annotations": [{"image_id": i, "caption": "ab"[i // 2]} for i in range(4)]})),
            ("list.json", json.dumps([{"image": f"part-000001/{i}.png", "caption": "ab"[i // 2]} for i in range(4)])),
        ],
    )  # fmt: skip
    def test_tables(self, tmp_path: Path, name: str, content: str) -> None:
        items, notes = tree(tmp_path, {**self.both(), name: content.encode()})
        assert prompts(items) == {"a": 2, "b": 2}
        assert f"from {name.rpartition('/')[2]} beside the images" in notes

    def test_one_object_for_a_folder(self, tmp_path: Path) -> None:
        files = {f"0000{n}/samples/{i}.png": PICTURES[i] for n in range(2) for i in range(4)}
        files |= {f"0000{n}/grid.png": PNG for n in range(2)}
        files |= {
            f"0000{n}/metadata.jsonl": json.dumps({"prompt": who, "tag": "x"}).encode() for n, who in enumerate("ab")
        }
        items, _ = tree(tmp_path, files)
        assert prompts(items) == {"a": 4, "b": 4, "": 2}

    def test_a_table_of_names_that_several_images_have_says_nothing_of_them(self, tmp_path: Path) -> None:
        files = {f"{folder}/{i}.png": PICTURES[i] for folder in ("a", "b") for i in range(2)}
        items, _ = tree(tmp_path, {**files, "metadata.csv": b"file_name,text\n0.png,a nurse\n1.png,a nurse\n"})
        assert prompts(items) == {"a": 2, "b": 2}

    def test_a_table_in_parquet(self, tmp_path: Path) -> None:
        write_tree(tmp_path, self.both())
        names = [f"part-000001/{i}.png" for i in range(4)]
        pq.write_table(pa.table({"file_name": names, "text": ["a", "a", "b", "b"]}), tmp_path / "metadata.parquet")
        assert prompts(tree(tmp_path, {})[0]) == {"a": 2, "b": 2}

    def test_one_text_for_a_folder(self, tmp_path: Path) -> None:
        files = {f"000{n}/{i}.png": PICTURES[i] for n in range(2) for i in range(2)}
        assert prompts(tree(tmp_path, {**files, "0000/prompt.txt": b"a nurse", "0001/prompt.txt": b"a pilot"})[0]) == {
            "a nurse": 2, "a pilot": 2,
        }  # fmt: skip

    def test_images_in_no_table(self, tmp_path: Path) -> None:
        items, notes = tree(tmp_path, {**self.both(), "metadata.csv": b"file_name,text\npart-000001/0.png,a\npart-000001/1.png,nan\n"
                                                                      b"part-000001/2.png,b\npart-000001/3.png,b\n"})  # fmt: skip
        assert prompts(items) == {"a": 1, "b": 2, "": 1}
        assert "1 of 4 images are in no table" in notes

    def test_names_stand_and_the_table_is_said(self, tmp_path: Path) -> None:
        files = {"a_nurse/0.png": PNG, "images.csv": b"path,prompt\na_nurse/0.png,a photo of a nurse\n"}
        items, notes = tree(tmp_path, files)
        assert prompts(items) == {"a nurse": 1}
        assert "images.csv beside the images has prompts for 1 of them" in notes
        assert prompts(tree(tmp_path, {}, prompt_from="table")[0]) == {"a photo of a nurse": 1}

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b'{"a": 1}', b"[" * 5000, b"path,prompt\n", b"[1, 2]"])
    def test_what_is_no_table(self, tmp_path: Path, content: bytes) -> None:
        assert prompts(tree(tmp_path, {"a_nurse/0.png": PNG, "metadata.json": content, "x.csv": content})[0]) == {
            "a nurse": 1
        }


class TestCaptions:
    def test_behind_the_whole_name(self, tmp_path: Path) -> None:
        files = {
            f"out/{i}.png{ending}": PICTURES[i] if not ending else b"a nurse"
            for i in range(2)
            for ending in ("", ".txt")
        }
        assert prompts(tree(tmp_path, files)[0]) == {"a nurse": 2}

    def test_texts_and_names_that_may_hold_prompts_are_said(self, tmp_path: Path) -> None:
        """Where folders' names are taken."""
        files = {
            f"{who}_{i:04}.png": PICTURES[i] for who in ("a_photo_of_a_nurse", "a_photo_of_a_pilot") for i in range(2)
        }
        _, notes = tree(tmp_path, {**files, "all_prompts.md": b"a photo of a nurse\na photo of a pilot\n"})
        assert "all_prompts.md may hold prompts" in notes
        assert "the files' names, such as 'a_photo_of_a_nurse_0000.png', may hold prompts" in notes
        _, notes = tree(tmp_path / "b", {f"a nurse/{i:04}.png": PICTURES[i] for i in range(2)})
        assert "may hold prompts" not in notes
        with pytest.raises(ArchiveError, match="name to take them from files' names such as 'a_photo"):
            tree(tmp_path / "c", {f"samples/{name}": data for name, data in files.items()})

    def test_a_majority(self, tmp_path: Path) -> None:
        files = {f"A_{i}.png": PICTURES[i] for i in range(8)} | {f"A_{i}.txt": b"a nurse" for i in range(7)}
        items, notes = tree(tmp_path, files)
        assert prompts(items) == {"a nurse": 7, "": 1}
        assert "1 of 8 images have no caption file" in notes

    def test_numbered_folders(self, tmp_path: Path) -> None:
        files = {
            f"0000{n}/{i}.{ext}": data
            for n in range(2)
            for i in range(2)
            for ext, data in (("png", PICTURES[i]), ("txt", b"a nurse"))
        }
        assert prompts(tree(tmp_path, files)[0]) == {"a nurse": 4}

    def test_prompts_in_reach_are_said(self, tmp_path: Path) -> None:
        files = {f"a_nurse/{i}.png": png(parameters="a photo of a nurse\nSteps: 20, Seed: 1") for i in range(2)}
        source = open_source(write_tree(tmp_path, files))
        summary = source.summary()
        assert any(
            "2 of the 2 images looked at hold a prompt" in note and "'a photo of a nurse'" in note
            for note in summary.notes
        )
        assert summary.probed["in_metadata"] == 2 and summary.probed["distinct"] == 1
