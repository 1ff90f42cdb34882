"""Folders as strangers have them: downloads of services, exports of photo programs, sidecars that say more than a prompt."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections import Counter
from pathlib import Path

import pytest

from allfour.pipeline.archives import ArchiveError, ArchiveOptions, open_source
from allfour.pipeline.archives.captions import caption_in_file
from allfour.pipeline.archives.naming import names_no_prompt, prompt_in_name
from tests.hostile_images import encoded, picture
from tests.pipeline.archives.helpers import check_contract, write_tree

PICTURES = [encoded(picture(number), "png") for number in range(8)]
NURSE, DOCTOR = "a nurse treating a patient", "a doctor treating a patient"
UUID = "5f0c1a2b-0000-4000-8000-00000000000"


def read(tmp_path: Path, files: dict[str, bytes], **options: str) -> tuple[Counter[str], str]:
    """Prompts of an archive's images, and what is said of it."""
    source = open_source(write_tree(tmp_path, files), options=ArchiveOptions(**options))  # type: ignore[arg-type]
    items = check_contract(source)
    return Counter(item.image.prompt for item in items), "\n".join(source.summary().notes)


def named(names: list[str]) -> dict[str, bytes]:
    return dict(zip(names, PICTURES, strict=False))


class TestServices:
    @pytest.mark.parametrize(
        "form",
        ["DALL·E 2022-12-01 12.34.5{n} - {p}.png", "DALL·E 2022-12-01 12:34:5{n} - {p} (1).png", "DALL_E 2022-12-01 12_34_5{n} - {p}.webp",
         "DALL·E 2022-12-01 12.34.5{n} - {p} - Copy.png", f"alice_{{p}}_{UUID}{{n}}_0.png", "Firefly {p} 5123{n}.jpg",
         f"Default_{{p}}_{{n}}_{UUID}{{n}}_0.jpg"],
    )  # fmt: skip
    def test_downloads_of_several_prompts_in_one_folder(self, tmp_path: Path, form: str) -> None:
        names = [form.format(n=n, p=NURSE if n < 4 else DOCTOR) for n in range(8)]
        found, notes = read(tmp_path, named(names))
        assert found == {NURSE: 4, DOCTOR: 4}
        assert "file name" in notes

    @pytest.mark.parametrize("folder", ["mj", "2024-05-01"])
    def test_and_in_one_folder_below_or_one_that_says_nothing(self, tmp_path: Path, folder: str) -> None:
        names = [f"{folder}/alice_{NURSE if n < 4 else DOCTOR}_{UUID}{n}_0.png" for n in range(8)]
        assert read(tmp_path, named(names))[0] == {NURSE: 4, DOCTOR: 4}

    def test_downloads_of_one_prompt_keep_the_name_of_their_folder(self, tmp_path: Path) -> None:
        names = [f"nurses/alice_a_nurse_smiling_{UUID}{n}_{n}.png" for n in range(4)]
        found, notes = read(tmp_path, named(names))
        assert found == {"nurses": 4}
        assert "prompt_from: name" in notes

    @pytest.mark.parametrize(
        ("name", "prompt"),
        [("00012_a_nurse.png", "a_nurse"), ("00000-123456-a nurse.png", "a nurse"), ("12 angry men.png", "12 angry men"), ("1920_nurse.png", "1920_nurse"),
         ("Gemini_Generated_Image_x1y2z3.png", None), ("_3fa9b2c4d5e6f7a8.jfif", None), ("Copilot_20250101_101010.png", None)],
    )  # fmt: skip
    def test_prompts_in_names(self, name: str, prompt: str | None) -> None:
        assert prompt_in_name(name) == prompt

    @pytest.mark.parametrize(
        "name",
        [
            "Photos from 2023",
            "Google Photos",
            "camera roll",
            "model_a",
            "download (3)",
            "images - Copy",
            "drive-download-20240101T101010Z-001",
            "Photos-001 (1)",
            "OneDrive_1_12-3-2023",
            "Imágenes",
            "album 3",
        ],
    )
    def test_folders_that_name_no_prompt(self, name: str) -> None:
        assert names_no_prompt(name)

    @pytest.mark.parametrize(
        "name",
        [
            "sd-15-" * 40 + "nurse",
            "00000-" * 40,
            "(1)" * 20_000 + "x",
            "-" * 100_000,
            "1" * 100_000 + "x",
            "a" + "0" * 100_000 + ".",
        ],
    )
    def test_time_for_a_name_is_linear(self, name: str) -> None:
        start = time.process_time()
        assert not names_no_prompt(name)
        prompt_in_name(f"{name}.png")
        assert time.process_time() - start < 1


class TestSidecars:
    @pytest.mark.parametrize(
        ("text", "prompt"),
        [(f"prompt: {NURSE}\nnegative_prompt: ugly, blurry\nseed: 3\n", NURSE), (f"seed=3\nPositive Prompt = {NURSE},\n smiling\ncfg = 7",
         f"{NURSE}, smiling"), (f"{NURSE}\nnegative_prompt: ugly", NURSE), ("a nurse: portrait", "a nurse: portrait"),
         ("negative_prompt: ugly\nseed: 3", None), ("prompt:\nnegative_prompt: ugly", None)],
    )  # fmt: skip
    def test_lines_with_keys(self, text: str, prompt: str | None) -> None:
        assert caption_in_file("0.txt", text.encode())[0] == prompt

    def test_photo_exports_hold_no_prompts(self, tmp_path: Path) -> None:
        taken = {"timestamp": "1700000000", "formatted": "14 Nov 2023"}
        files = {f"Photos from 2023/IMG_{n}.png": picture for n, picture in enumerate(PICTURES)}
        files |= {
            f"{name}.json": json.dumps({"title": name, "description": "Mum", "photoTakenTime": taken}).encode()
            for name in list(files)
        }
        files["Photos from 2023/metadata.json"] = json.dumps(
            {"title": "Photos from 2023", "access": "protected", "date": taken}
        ).encode()
        found, _ = read(tmp_path, files)
        assert found == {"": 8}

    def test_a_title_that_is_the_files_name_is_no_prompt(self) -> None:
        assert caption_in_file("0.json", b'{"title": "IMG_0.png"}')[0] is None
        assert caption_in_file("0.json", b'{"title": "a nurse"}')[0] == "a nurse"

    def test_a_table_beside_flat_images_is_taken_whatever_its_name(self, tmp_path: Path) -> None:
        files = named([f"image_{n}.png" for n in range(8)])
        rows = "".join(f"{n},image_{n}.png,{NURSE if n < 4 else DOCTOR},ugly\n" for n in range(8))
        files["my results.csv"] = f",file,Prompt,negative_prompt\n{rows}".encode()
        found, notes = read(tmp_path, files)
        assert found == {NURSE: 4, DOCTOR: 4}
        assert "my results.csv" in notes


ROWS = [(f"{n}.png", 'a nurse, "smiling"' if n < 4 else "une infirmière") for n in range(8)]


class TestTables:
    def table(self, tmp_path: Path, content: bytes, name: str = "metadata.csv") -> tuple[Counter[str], str]:
        return read(tmp_path, named([f"images/{name}" for name, _ in ROWS]) | {f"images/{name}": content})

    def csv(self, mark: str, file: str = "file_name", prompt: str = "prompt") -> str:
        rows = "".join('{}{}"{}"\r\n'.format(name, mark, text.replace('"', '""')) for name, text in ROWS)
        return f"{file}{mark}{prompt}\r\n{rows}"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    @pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
    def test_as_spreadsheets_write_them(self, tmp_path: Path, mark: str, encoding: str) -> None:
        assert self.table(tmp_path, self.csv(mark).encode(encoding))[0] == {ROWS[0][1]: 4, ROWS[7][1]: 4}

    def test_lines_that_end_in_bare_returns(self, tmp_path: Path) -> None:
        text = self.csv(";", prompt="prompt;note").replace('"\r\n', '";"one, alone"\r').replace("\r\n", "\r")
        assert self.table(tmp_path, text.encode())[0] == {ROWS[0][1]: 4, ROWS[7][1]: 4}

    @pytest.mark.parametrize(
        ("file", "prompt"),
        [("Image Name", "Input Prompt"), ("image-path", "text prompt"), ("output_path", "PROMPT "), ("img", "prompts")],
    )
    def test_names_of_columns(self, tmp_path: Path, file: str, prompt: str) -> None:
        assert self.table(tmp_path, self.csv(",", file, prompt).encode())[0] == {ROWS[0][1]: 4, ROWS[7][1]: 4}

    @pytest.mark.parametrize(
        ("name", "content", "why"),
        [("metadata.csv", "file_name,prompt\n0.png,infirmi\xe8re\n".encode("latin-1"), "neither UTF-8 nor marked as UTF-16"),
         ("metadata.csv", b"image_id,prompt\n0,a\n", "no column of files (such as file_name). Its columns: image_id, prompt"),
         ("my prompts.csv", b"file_name,prompts used\n0.png,a\n", "no column of prompts (such as prompt)"),
         ("prompts.csv", b"file_name,prompt\n77.png,a\n78.png,b\n", "has prompts for files that are not here, such as 'images/77.png'"),
         ("captions.json", b"{}", "does not say which file"),
         ("prompts.txt", b"a nurse\na doctor\n", "its 2 prompts say of no image which is its own, and the images are not numbered as its rows are (0 to 1, or 1 to 2)"),
         ("prompts.md", b"a nurse\na doctor\n", "prompts.md may hold prompts, in a form that says of no image which is its own")],
    )  # fmt: skip
    def test_why_one_is_not_understood(self, tmp_path: Path, name: str, content: bytes, why: str) -> None:
        with pytest.raises(ArchiveError) as caught:
            self.table(tmp_path, content, name)
        assert why in str(caught.value)

    def test_the_folder_above_that_names_the_prompts_is_named(self, tmp_path: Path) -> None:
        files = named([f"a {who}/seed_{n}/0.png" for who in ("nurse", "doctor") for n in range(4)])
        with pytest.raises(ArchiveError) as caught:
            read(tmp_path, files)
        pattern = "{prompt}/{folder}/{image}"
        assert pattern in str(caught.value)
        assert read(tmp_path, files, prompt_from="path", path_pattern=pattern)[0] == {"a nurse": 4, "a doctor": 4}


class TestWhatIsSaid:
    def test_images_that_cannot_be_read(self, tmp_path: Path) -> None:
        files = {
            "a nurse/0.png": PICTURES[0],
            "a nurse/1.png": b"",
            "a nurse/2.heic": b"\0\0\0\x18ftypheic" + b"\0" * 40,
        }
        found, notes = read(tmp_path, files | {"a nurse/3.png": PICTURES[1][:90], "a nurse/4.png": b"<html>404</html>"})
        assert found == {"a nurse": 5}
        assert "1 images that cannot be read: the file is empty" in notes
        assert "1 images that cannot be read: named .heic, a format that is not decoded" in notes
        assert "4 of the 5 images looked at cannot be read (such as " in notes

    def test_negative_words_beside_captions_are_no_missing_images(self, tmp_path: Path) -> None:
        files = named([f"{n}.png" for n in range(4)])
        files |= {
            f"{n}{more}.txt": b"a nurse" if not more else b"ugly"
            for n in range(4)
            for more in ("", "_negative", ".negative")
        }
        found, notes = read(tmp_path, files)
        assert found == {"a nurse": 4}
        assert "no image beside" not in notes

    def test_a_caption_without_a_prompt(self, tmp_path: Path) -> None:
        files = named([f"{n}.png" for n in range(4)]) | {f"{n}.json": b'{"negative_prompt": "ugly"}' for n in range(4)}
        source = open_source(write_tree(tmp_path, files))
        assert {item.error for item in check_contract(source)} == {"no prompt: its caption file (.json) holds none"}

    def test_sidecars_that_are_not_read(self, tmp_path: Path) -> None:
        files = named([f"a nurse/{n}.png" for n in range(4)]) | {
            f"a nurse/{n}.yaml": b"prompt: a nurse" for n in range(4)
        }
        assert (
            "a nurse/0.yaml, and others named as images are, may hold prompts, in a form that is not read"
            in read(tmp_path, files)[1]
        )

    @pytest.mark.parametrize(
        ("path", "why"),
        [("/home/bob/project/p/{n}.png", "; p/0.png is there, so the paths are of another folder"),
         ("C:\\Users\\bob\\p\\{n}.png", "; p/0.png is there, so the paths are of another folder"),
         ("p/{n}", "; 0.png is there: write the paths with their endings"), ("{n}.png", "; it is in p: put the manifest there"),
         ("q/{n}.gif", ". q/0.gif was looked for at ")],
    )  # fmt: skip
    def test_paths_of_a_manifest_that_lead_nowhere(self, tmp_path: Path, path: str, why: str) -> None:
        rows = "".join(f"{path.format(n=n)},a nurse\n" for n in range(4))
        write_tree(tmp_path, named([f"p/{n}.png" for n in range(4)]) | {"m.csv": f"path,prompt\n{rows}".encode()})
        source = open_source(tmp_path / "m.csv")
        notes = "\n".join(source.summary().notes)
        assert "4 of 4 rows name files that are not there" in notes and why in notes
        assert {item.error for item in check_contract(source)} == {"the file is missing"}

    def test_the_name_of_a_flat_folder_is_said(self, tmp_path: Path) -> None:
        said = "all images lie in one folder, and its name, 'my downloads', is taken for their one prompt"
        found, notes = read(tmp_path / "my downloads", named(["x.png", "y.png"]))
        assert found == {"my downloads": 2} and said in notes
        assert said not in read(tmp_path / "my downloads", named(["x.png", "y.png"]), prompt_from="folder")[1]

    def test_why_a_table_in_a_tar_is_not_understood(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            for name, data in [
                *named(["images/0.png"]).items(),
                ("images/metadata.csv", b"image_id;prompt\n0;a nurse\n"),
                ("images/._0.png", b"x"),
            ]:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        notes = "\n".join(open_source(tmp_path / "a.tar").summary().notes)
        assert "it has no column of files (such as file_name). Its columns: image_id, prompt" in notes
        assert "1 hidden or system files, not taken for images" in notes

    def test_numbers_before_prompts(self, tmp_path: Path) -> None:
        files = named([f"00{k}_a_{who}/{n}.png" for k, who in enumerate(("nurse", "doctor")) for n in range(4)])
        found, notes = read(tmp_path, files)
        pattern = "{number}_{prompt}/{image}"
        assert found == {"000 a nurse": 4, "001 a doctor": 4} and pattern in notes
        assert read(tmp_path, files, prompt_from="path", path_pattern=pattern)[0] == {"a nurse": 4, "a doctor": 4}


class TestWhatIsNoPrompt:
    @pytest.mark.parametrize(
        "text", ["0 0.5 0.5 0.1 0.2\n1 0.4 0.4 0.3 0.3", "7", "https://example.org/img/0.png", "-1.5e"]
    )
    def test_classes_boxes_and_addresses(self, text: str) -> None:
        assert (caption_in_file("0.txt", text.encode())[0] is None) == (text != "-1.5e")

    def test_words_of_another_kind_in_a_table_of_any_name(self, tmp_path: Path) -> None:
        table = b"file,score,description\n" + b"".join(b"%d.png,0.5,blurry\n" % n for n in range(4))
        assert read(tmp_path / "a nurse", named([f"{n}.png" for n in range(4)]) | {"scores.csv": table})[0] == {
            "a nurse": 4
        }
        texts = table.replace(b"description", b"text")
        assert read(tmp_path / "a doctor", named([f"{n}.png" for n in range(4)]) | {"ocr.csv": texts})[0] == {
            "a doctor": 4
        }

    def test_of_several_tables_the_prompts_go_first(self, tmp_path: Path) -> None:
        rows = b"".join(b"%d.png,%%s\n" % n for n in range(4))
        tables = {
            "captions.csv": b"file_name,text\n" + rows.replace(b"%s", b"a woman"),
            "prompts.csv": b"file_name,prompt\n" + rows.replace(b"%s", b"a nurse"),
        }
        found, notes = read(tmp_path, named([f"{n}.png" for n in range(4)]) | tables)
        assert found == {"a nurse": 4}
        assert "4 rows of captions.csv have another prompt for an image than prompts.csv, which counts" in notes
