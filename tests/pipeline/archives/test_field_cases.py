"""Archives as people have them, one test for each kind: what is right is what a user means by them, or nothing without a word.

Every input is made here. Where the small archives of ../shared/data/field-cases lie beside the repository, they are read too.
"""

from __future__ import annotations

import base64
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from allfour.errors import ArchiveError
from allfour.pipeline.archives import ArchiveOptions, open_source
from tests.conftest import shared_data
from tests.hostile_images import encoded, picture
from tests.pipeline.archives.helpers import items_of, write_tar, write_tree

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

NURSE, CEO = "a photo of a nurse", "a photo of a CEO"
PLAIN = [encoded(picture(number), "png") for number in range(8)]
METADATA = ArchiveOptions(prompt_from="metadata")
SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"


def found(path: Path, options: ArchiveOptions | None = None) -> tuple[dict[str, int], str]:
    """Images with bytes by their prompt, and everything that is said before a run."""
    source = open_source(path, options=options)
    counts = Counter(item.image.prompt for item in items_of(source) if item.data is not None)
    return dict(counts), "\n".join(source.summary().notes)


def png(number: int = 0, **texts: str) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def with_exif(kind: str, tags: Mapping[int, str], comment: bytes | None = None) -> bytes:
    exif = Image.Exif()
    for tag, text in tags.items():
        exif[tag] = text
    if comment is not None:
        exif.get_ifd(0x8769)[0x9286] = comment
    buffer = io.BytesIO()
    picture(0).save(buffer, kind, exif=exif.tobytes())
    return buffer.getvalue()


def graph(**changes: tuple[str, dict[str, object]]) -> str:
    """A ComfyUI graph of one sampler, some of its nodes in another way."""
    nodes: dict[str, tuple[str, dict[str, object]]] = {
        "latent": ("EmptyLatentImage", {"width": 64, "height": 64}),
        "pos": ("CLIPTextEncode", {"text": NURSE}),
        "neg": ("CLIPTextEncode", {"text": "blurry"}),
        "sampler": (
            "KSampler",
            {"seed": 1, "steps": 9, "positive": ["pos", 0], "negative": ["neg", 0], "latent_image": ["latent", 0]},
        ),
        "decode": ("VAEDecode", {"samples": ["sampler", 0]}),
        "save": ("SaveImage", {"images": ["decode", 0]}),
    }
    return json.dumps(
        {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in (nodes | changes).items()}
    )


def four(**texts: str) -> dict[str, bytes]:
    return {f"{number}.png": png(number, **texts) for number in range(4)}


WRITERS = {
    "01 swarmui": {"parameters": json.dumps({"sui_image_params": {"prompt": NURSE, "negativeprompt": "x", "seed": 1}})},
    "02 fooocus": {
        "parameters": json.dumps({"prompt": NURSE, "full_prompt": ["other"], "negative_prompt": "x", "steps": 30})
    },
    "03 invokeai": {"Dream": f'"{NURSE} [blurry]" -s 50 -S 123 -W 512 -H 512 -C 7.5 -A k_lms'},
}


@pytest.mark.parametrize("texts", WRITERS.values(), ids=WRITERS)
def test_01_to_03_writers(tmp_path: Path, texts: dict[str, str]) -> None:
    assert found(write_tree(tmp_path, four(**texts)), METADATA)[0] == {NURSE: 4}


def test_04_a_job_of_midjourneys(tmp_path: Path) -> None:
    jobs = [f"{number}f8fad5b-d9cb-469f-a165-70867728950e" for number in range(4)]
    files = {f"{n}.png": png(n, Description=f"{NURSE} --ar 1:1 --v 6.0 Job ID: {job}") for n, job in enumerate(jobs)}
    assert found(write_tree(tmp_path, files), METADATA)[0] == {f"{NURSE} --ar 1:1 --v 6.0": 4}


GRAPHS = {
    "styler": (graph(pos=("CLIPTextEncode", {"text": ["styler", 0]}), styler=("SDXLPromptStyler", {"text_positive": NURSE, "text_negative": "x", "style": "film"})), NURSE),
    "concatenated": (graph(pos=("ConditioningConcat", {"conditioning_to": ["a", 0], "conditioning_from": ["b", 0]}), a=("CLIPTextEncode", {"text": NURSE}), b=("CLIPTextEncode", {"text": "film"})), f"{NURSE}, film"),
    "combined": (graph(pos=("ConditioningCombine", {"conditioning_1": ["a", 0], "conditioning_2": ["b", 0]}), a=("CLIPTextEncode", {"text": NURSE}), b=("CLIPTextEncode", {"text": "film"})), f"{NURSE}, film"),
    "wildcard drawn": (graph(pos=("ImpactWildcardEncode", {"wildcard_text": "a photo of a __job__", "populated_text": NURSE, "seed": 1})), NURSE),
    "wildcard not drawn": (graph(pos=("ImpactWildcardEncode", {"wildcard_text": "a photo of a __job__", "populated_text": "", "seed": 1})), None),
    "line drawn": (graph(pos=("CLIPTextEncode", {"text": ["drawn", 0]}), drawn=("RandomPromptLine", {"text": f"{NURSE}\n{CEO}"})), None),
    "partner": (json.dumps({"1": {"class_type": "OpenAIDalle3", "inputs": {"prompt": NURSE, "seed": 0}}, "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}), NURSE),
    "regions": (graph(pos=("GLIGENTextBoxApply", {"conditioning_to": ["a", 0], "text": "sun", "x": 0}), a=("CLIPTextEncode", {"text": NURSE})), NURSE),
}  # fmt: skip


@pytest.mark.parametrize(("text", "prompt"), GRAPHS.values(), ids=GRAPHS)
def test_05_graphs(tmp_path: Path, text: str, prompt: str | None) -> None:
    path = write_tree(tmp_path, {"0.png": png(prompt=text)})
    items = items_of(open_source(path, options=METADATA))
    assert items[0].image.prompt == (prompt or "")
    assert prompt or items[0].error == "no prompt: a ComfyUI graph whose prompt could not be followed"


def test_05_a_graph_in_make_and_model(tmp_path: Path) -> None:
    data = with_exif("WEBP", {0x0110: f"prompt:{graph()}", 0x010F: 'workflow:{"nodes": [], "links": []}'})
    assert found(write_tree(tmp_path, {"0.webp": data}), METADATA)[0] == {NURSE: 1}


def test_06_words_of_cameras_and_programs(tmp_path: Path) -> None:
    camera = with_exif("JPEG", {0x010E: "OLYMPUS DIGITAL CAMERA", 0x010F: "OLYMPUS"})
    shot = with_exif("JPEG", {}, b"ASCII\0\0\0Screenshot")
    files = {
        "0.jpg": camera,
        "1.jpg": shot,
        "2.png": png(Comment="Created with GIMP"),
        "3.png": png(Software="gnome-screenshot"),
    }
    assert found(write_tree(tmp_path, files), METADATA)[0] == {}


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_07_save_image_nodes(tmp_path: Path, kind: str) -> None:
    data = with_exif(kind, {0x010E: 'Workflow: {"nodes": [], "links": []}', 0x010F: f"Prompt: {graph()}"})
    assert found(write_tree(tmp_path, {f"0.{kind.lower()}": data}), METADATA)[0] == {NURSE: 1}


def test_08_texts(tmp_path: Path) -> None:
    notes = f"a poster that says Steps: 3, wash hands\nNegative prompt: blurry\n{SETTINGS}"
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><exif:UserComment><rdf:Alt><rdf:li>{{"c":"{NURSE}","uc":"blurry"}}</rdf:li></rdf:Alt></exif:UserComment></x:xmpmeta>'
    files = {
        "0.png": png(0, parameters=notes),
        "1.png": png(1, parameters=f"{NURSE} Negative prompt: blurry {SETTINGS}"),
        "2.png": png(2, Dream=f'"{NURSE} [blurry, ugly]" -s 50 -S 1'),
        "3.png": png(3, **{"XML:com.adobe.xmp": xmp}),
        "4.jpg": with_exif("JPEG", {}, b"UNICODE\0\xff\xfe" + f"{NURSE}\n{SETTINGS}".encode("utf-16-le")),
    }
    assert found(write_tree(tmp_path, files), METADATA)[0] == {"a poster that says Steps: 3, wash hands": 1, NURSE: 4}


def test_09_an_output_folder_of_a_web_ui(tmp_path: Path) -> None:
    files = {
        f"txt2img-images/2023-05-01/{n:05d}-1.png": png(n, parameters=f"{(NURSE, CEO)[n // 4]}\n{SETTINGS}")
        for n in range(8)
    }
    files["txt2img-grids/2023-05-01/grid-0000.png"] = png(9, parameters=f"{NURSE}\n{SETTINGS}")
    counts, notes = found(write_tree(tmp_path, files))
    assert counts == {NURSE: 4, CEO: 4}
    assert "by its name a grid" in notes and "8 of the 8 images looked at hold one" in notes


def test_10_a_part_of_diffusiondb(tmp_path: Path) -> None:
    part = {
        f"{n}0000000-0000-4000-8000-000000000000.png": {"p": (NURSE, CEO)[n // 4], "se": n, "c": 7.0} for n in range(8)
    }
    files = {f"part-000001/{name}": PLAIN[n] for n, name in enumerate(part)}
    assert found(write_tree(tmp_path, files | {"part-000001/part-000001.json": json.dumps(part).encode()}))[0] == {
        NURSE: 4,
        CEO: 4,
    }


def test_12_tars_of_img2dataset(tmp_path: Path) -> None:
    for shard in range(2):
        stem = tmp_path / f"{shard:05d}"
        members = [
            (f"{shard:05d}{n:04d}.{ext}", data)
            for n in range(4)
            for ext, data in (("jpg", PLAIN[n]), ("json", b'{"url": "u"}'), ("txt", NURSE.encode()))
        ]
        write_tar(stem.with_suffix(".tar"), members)
        pq.write_table(pa.table({"url": ["u"], "caption": [NURSE]}), stem.with_suffix(".parquet"))
        (tmp_path / f"{shard:05d}_stats.json").write_text("{}")
    assert found(tmp_path)[0] == {NURSE: 8}


def test_13_files_of_img2dataset(tmp_path: Path) -> None:
    files = {
        f"{n // 4:05d}/{n:09d}.{ext}": data
        for n in range(8)
        for ext, data in (("png", PLAIN[n]), ("txt", NURSE.encode()), ("json", b'{"url": "u"}'))
    }
    assert found(write_tree(tmp_path, files))[0] == {NURSE: 8}


def test_14_tars(tmp_path: Path) -> None:
    def tar(name: str, members: list[tuple[str, bytes]]) -> tuple[dict[str, int], str]:
        return found(write_tar(tmp_path / f"{name}.tar", members))

    captioned = [(f"{n:03d}.jpg", PLAIN[n % 8]) for n in range(10)] + [(f"{n:03d}.txt", b"a nurse") for n in range(4)]
    counts, notes = tar("cap40", sorted(captioned))
    assert counts == {"a nurse": 4} and "6 of 10 images have no caption of their key" in notes
    counts, notes = tar(
        "cls", [(f"{n:04d}.{ext}", data) for n in range(4) for ext, data in (("jpg", PLAIN[n]), ("cls", b"3"))]
    )
    assert counts == {"cls": 4} and "the tar's own name is taken for their prompt" in notes
    assert tar(
        "cr14",
        [(f"{n:04d}.{ext}", data) for n in range(4) for ext, data in (("img", PLAIN[n]), ("cap", NURSE.encode()))],
    )[0] == {NURSE: 4}
    counts, notes = tar(
        "dup",
        [("a.jpg", PLAIN[0]), ("a.txt", b"a nurse"), ("b.jpg", PLAIN[1]), ("b.txt", b"a nurse"), ("a.jpg", PLAIN[2])],
    )
    assert counts == {"a nurse": 3} and "of a name that an earlier one in the tar has" in notes
    assert tar(
        "oc480",
        [
            (f"s{n}.{ext}", data)
            for n in range(4)
            for ext, data in (("input.jpg", PLAIN[n]), ("outputs.txt", NURSE.encode()))
        ],
    )[0] == {NURSE: 4}


def test_15_columns_of_images(tmp_path: Path) -> None:
    structs = [{"bytes": data, "path": None} for data in PLAIN]
    tables = {
        "b64": {"image": [base64.b64encode(data).decode() for data in PLAIN[:4]], "prompt": ["a nurse"] * 4},
        "img0123": {f"image_{n}": [structs[n]] for n in range(4)} | {"prompt": ["a nurse"]},
        "imglist": {"images": [structs[:4]], "prompt": ["a nurse"]},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        assert found(tmp_path / f"{name}.parquet")[0] == {"a nurse": 4}, name


def test_16_the_layout_of_geneval(tmp_path: Path) -> None:
    files = {f"{at:05d}/samples/{n:04d}.png": PLAIN[4 * at + n] for at in range(2) for n in range(4)}
    files |= {
        f"{at:05d}/metadata.jsonl": json.dumps({"tag": "single_object", "prompt": ("a nurse", "a CEO")[at]}).encode()
        for at in range(2)
    }
    counts, notes = found(write_tree(tmp_path, files | {"00000/grid.png": PLAIN[0]}))
    assert counts == {"a nurse": 4, "a CEO": 4} and "by its name a grid" in notes


def test_18_models_side_by_side(tmp_path: Path) -> None:
    path = write_tree(
        tmp_path, {f"{model}/a_nurse/{n}.png": PLAIN[n] for model in ("dalle2", "sd14", "sd2") for n in range(4)}
    )
    assert "1 folder name occurs under several parents" in found(path)[1]
    options = ArchiveOptions(prompt_from="path", path_pattern="{model}/{prompt}/{index}")
    assert {item.image.extra["model"] for item in items_of(open_source(path, options=options))} == {
        "dalle2",
        "sd14",
        "sd2",
    }


def test_19_names_of_downloads(tmp_path: Path) -> None:
    files = {f"DALL·E 2022-12-05 10.{n // 4}5.3{n} - {(NURSE, CEO)[n // 4]}.png": PLAIN[n] for n in range(8)}
    assert found(write_tree(tmp_path, files))[0] == {NURSE: 4, CEO: 4}


TABLES: dict[str, tuple[str, Callable[[int], str], dict[str, int], str]] = {
    "dup": (
        "path,prompt",
        lambda n: f"im/{n % 2}.png,a nurse",
        {"a nurse": 4},
        "2 of 4 rows name a file that an earlier row names",
    ),
    "nan2": (
        "path,prompt",
        lambda n: f"im/{n}.png,{('a nurse', 'nan', 'NaN', 'None')[n]}",
        {"a nurse": 1},
        "3 of 4 rows have no prompt",
    ),
    "missing": ("path,prompt", lambda n: f"nope/{n}.png,a nurse", {}, "4 of 4 rows name files that are not there"),
    "win": ("path,prompt", lambda n: f"im\\{n}.png,a nurse", {"a nurse": 4}, ""),
    "fileurl": (
        "path,prompt",
        lambda n: f"file:///no/where/{n}.png,a nurse",
        {},
        "4 of 4 rows name files that are not there",
    ),
    "openclip": ("filepath\ttitle", lambda n: f"im/{n}.png\ta nurse", {"a nurse": 4}, "prompts from column title"),
    "openclip2": ("img_path,title", lambda n: f"im/{n}.png,a nurse", {"a nurse": 4}, "images from column img_path"),
    "excel_sep": ("sep=,\npath,prompt", lambda n: f"im/{n}.png,a nurse", {"a nurse": 4}, ""),
    "pandas_index": (",path,prompt", lambda n: f"{n},im/{n}.png,a nurse", {"a nurse": 4}, ""),
    "trailcomma": ("path,prompt,", lambda n: f"im/{n}.png,a nurse,", {"a nurse": 4}, ""),
}


@pytest.mark.parametrize("name", TABLES)
def test_22_tables(tmp_path: Path, name: str) -> None:
    head, line, counts, notes = TABLES[name]
    write_tree(tmp_path, {f"im/{n}.png": data for n, data in enumerate(PLAIN[:4])})
    (tmp_path / "a.csv").write_text("\n".join([head, *map(line, range(4))]) + "\n")
    assert found(tmp_path / "a.csv")[0] == counts
    assert notes in found(tmp_path / "a.csv")[1]


OBJECTS = {
    "imagelist.jsonl": json.dumps({"prompt": "a nurse", "images": [f"im/{n}.png" for n in range(4)]}),
    "nested.jsonl": "\n".join(json.dumps({"path": f"im/{n}.png", "params": {"prompt": "a nurse", "seed": n}}) for n in range(4)),
    "nested2.jsonl": "\n".join(json.dumps({"path": f"im/{n}.png", "prompt": {"text": "a nurse"}}) for n in range(4)),
    "trail.jsonl": "\n".join(json.dumps({"path": f"im/{n}.png", "prompt": "a nurse"}) + "," for n in range(4)),
    "train_anno.jsonl": "\n".join(json.dumps({"img_path": f"im/{n}.png", "prompt": "a nurse", "Task2": {"Caption": "x"}}) for n in range(4)),
    "list.json": json.dumps([{"path": f"im/{n}.png", "prompt": "a nurse"} for n in range(4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_23_objects(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path, {f"im/{n}.png": data for n, data in enumerate(PLAIN[:4])})
    (tmp_path / name).write_text(OBJECTS[name])
    assert found(tmp_path / name)[0] == {"a nurse": 4}


def test_24_names(tmp_path: Path) -> None:
    files = {
        f"{unicodedata.normalize(form, 'café worker')}/{n}.png": PLAIN[n]
        for form, numbers in (("NFC", (0, 1)), ("NFD", (2, 3)))
        for n in numbers
    }
    files |= {f"a_maid/{n}{what}.png": PLAIN[4 + n] for n in range(4) for what in ("", "_mask")}
    counts, notes = found(write_tree(tmp_path, files))
    assert counts == {"café worker": 4, "a maid": 4} and "the mask of another picture" in notes


def test_25_hidden_in_the_alpha_channel(tmp_path: Path) -> None:
    text = json.dumps(
        {"Description": NURSE, "Software": "NovelAI", "Comment": json.dumps({"prompt": NURSE, "uc": "x", "steps": 28})}
    ).encode()
    bits = np.unpackbits(np.frombuffer(b"stealth_pnginfo" + (8 * len(text)).to_bytes(4, "big") + text, np.uint8))
    pixels = np.full((64, 64, 4), 254, np.uint8)
    alpha = pixels[..., 3].T.ravel().copy()
    alpha[: len(bits)] |= bits
    pixels[..., 3] = alpha.reshape(64, 64).T
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG")
    assert found(write_tree(tmp_path, {"0.png": buffer.getvalue()}), METADATA)[0] == {NURSE: 1}


def test_27_a_saved_dataset(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist([{"image": {"bytes": data, "path": None}, "prompt": "a nurse"} for data in PLAIN[:4]])
    with pa.ipc.new_stream(tmp_path / "data-00000-of-00001.arrow", rows.schema) as writer:
        writer.write_table(rows)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    assert found(tmp_path)[0] == {"a nurse": 4}
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"ARROW")
    with pytest.raises(ArchiveError, match="no arrow file, or is damaged"):
        found(tmp_path)


def test_28_one_caption_missing(tmp_path: Path) -> None:
    files = {f"A_{n}.png": PLAIN[n] for n in range(8)} | {
        f"A_{n}.txt": (b"a nurse", b"a CEO")[n // 4] for n in range(7)
    }
    counts, notes = found(write_tree(tmp_path, files))
    assert counts == {"a nurse": 4, "a CEO": 3} and "1 of 8 images have no caption file beside them" in notes


SHARED = {
    "01_swarmui_png": {NURSE: 4}, "02_fooocus_png": {NURSE: 4}, "03_invokeai_dream": {NURSE: 4}, "06_boilerplate": {},
    "04_midjourney_jobid": {f"{NURSE} --ar 1:1 --v 6.0": 4}, "07_save_image_extended": {NURSE: 8}, "25_stealth": {NURSE: 4},
    "09_a1111_output_tree": {NURSE: 4, CEO: 4}, "10_diffusiondb_part": {NURSE: 4, CEO: 4}, "12_img2dataset_folder": {NURSE: 8},
    "13_img2dataset_files": {NURSE: 8}, "14_tars/cap40.tar": {"a nurse": 4}, "14_tars/cr14.tar": {NURSE: 4}, "14_tars/dup.tar": {"a nurse": 3},
    "14_tars/oc480.tar": {NURSE: 4}, "15_parquet/b64.parquet": {"a nurse": 4}, "15_parquet/img0123.parquet": {"a nurse": 4, "a CEO": 4},
    "15_parquet/imglist.parquet": {"a nurse": 4, "a CEO": 4}, "16_geneval_layout": {"a nurse": 4, "a CEO": 4},
    "19_dalle_web_names": {NURSE: 4, CEO: 4}, "22_csv/win.csv": {"a nurse": 4}, "22_csv/nan2.csv": {"a nurse": 3}, "22_csv/missing.csv": {},
    "22_csv/openclip2.csv": {"a nurse": 4}, "23_jsonl/imagelist.jsonl": {"a nurse": 8}, "23_jsonl/list.json": {"a nurse": 4},
    "24_names": {"café worker": 4, "a maid": 4}, "28_one_caption_missing": {"a nurse": 4, "a CEO": 3},
}  # fmt: skip


def test_the_archives_themselves() -> None:
    root = shared_data("field-cases")
    for name, counts in SHARED.items():
        options = METADATA if name[:2] in {"01", "02", "03", "04", "06", "07", "25"} else None
        assert found(root / name, options)[0] == counts, name
