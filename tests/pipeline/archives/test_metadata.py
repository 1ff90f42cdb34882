"""Prompts found inside images and in caption files, on files made here as the programs make them."""

from __future__ import annotations

import io
import json
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from allfour.pipeline.archives.captions import caption_in_file
from allfour.pipeline.archives.carriers import texts_in_image
from allfour.pipeline.archives.comfy import prompt_in_graph
from allfour.pipeline.archives.dialects import prompt_in_parameters
from allfour.pipeline.archives.metadata import prompt_in_image
from tests.hostile_images import bombs, damaged_files, encoded, picture, png_chunk

WEB_UI = (
    "photo of a nurse, (portrait:1.2), caf\u00e9\nsecond line\nNegative prompt: blurry, text\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model: v1-5"
)
PROMPT = "photo of a nurse, (portrait:1.2), caf\u00e9\nsecond line"

GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "positive": ["10", 0], "negative": ["7", 0], "model": ["4", 0]},
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["12", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry, bad hands, a very long negative text"}},
    "10": {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["6", 0]}},
    "12": {"class_type": "PrimitiveString", "inputs": {"value": "a nurse in the rain"}},
}


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def png(**texts: str) -> bytes:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)
    return encoded(picture(0), "png", pnginfo=info)


def exif(tags: dict[int, object] | None = None, comment: bytes | None = None) -> bytes:
    block = Image.Exif()
    for tag, value in (tags or {}).items():
        block[tag] = value
    if comment is not None:
        block.get_ifd(0x8769)[0x9286] = comment
    return block.tobytes()


def xmp(description: str) -> bytes:
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


class TestPng:
    def test_web_ui_parameters(self) -> None:
        assert prompt_in_image(png(parameters=WEB_UI)) == PROMPT
        info = PngInfo()
        info.add_text("parameters", WEB_UI.replace("\u00e9", "e"), zip=True)
        assert prompt_in_image(encoded(picture(0), "png", pnginfo=info)) == PROMPT.replace("\u00e9", "e")
        info = PngInfo()
        info.add_itxt("parameters", WEB_UI, zip=True)
        assert prompt_in_image(encoded(picture(0), "png", pnginfo=info)) == PROMPT

    def test_utf8_where_the_format_says_latin1(self) -> None:
        data = encoded(picture(0), "png")
        chunk = png_chunk(b"tEXt", b"parameters\0" + "caf\u00e9".encode())
        assert prompt_in_image(data[:33] + chunk + data[33:]) == "caf\u00e9"

    @pytest.mark.parametrize(
        ("text", "prompt"),
        [
            ("a nurse", "a nurse"),
            ("a nurse\nSteps: 20, Sampler: x", "a nurse"),
            ("a nurse who climbs steps: 20 of them", "a nurse who climbs steps: 20 of them"),
            ("Negative prompt: x\nSteps: 20, Sampler: x", None),
            ("", None),
        ],
    )
    def test_parameters(self, text: str, prompt: str | None) -> None:
        assert prompt_in_parameters(text) == prompt

    def test_comfyui(self) -> None:
        assert prompt_in_image(png(prompt=json.dumps(GRAPH), workflow='{"nodes": []}')) == "a nurse in the rain"

    def test_comfyui_without_a_sampler_that_can_be_followed(self) -> None:
        graph = {key: dict(node) for key, node in GRAPH.items() if key in ("6", "7")}
        graph["6"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a nurse"}}
        graph["8"] = {"class_type": "Strange", "inputs": {"negative": ["7", 0]}}
        assert prompt_in_graph(json.dumps(graph)) == "a nurse"

    def test_comfyui_loops_and_depth(self) -> None:
        loop = {"1": {"class_type": "KSampler", "inputs": {"positive": ["1", 0]}}}
        assert prompt_in_graph(json.dumps(loop)) is None
        chain = {str(i): {"class_type": "Reroute", "inputs": {"value": [str(i + 1), 0]}} for i in range(5_000)}
        chain["a"] = {"class_type": "KSampler", "inputs": {"positive": ["0", 0]}}
        assert prompt_in_graph(json.dumps(chain)) is None
        assert prompt_in_graph("[" * 100_000) is None

    def test_invokeai_and_novelai(self) -> None:
        assert prompt_in_image(png(invokeai_metadata='{"positive_prompt": "a nurse", "seed": 1}')) == "a nurse"
        old = {"image": {"prompt": [{"prompt": "a nurse", "weight": 1}]}}
        assert prompt_in_image(png(**{"sd-metadata": json.dumps(old)})) == "a nurse"
        assert prompt_in_image(png(Comment='{"prompt": "a nurse", "steps": 28}', Software="NovelAI")) == "a nurse"

    def test_plain_description(self) -> None:
        assert prompt_in_image(png(Description="a nurse")) == "a nurse"
        assert prompt_in_image(png(Software="gimp")) is None


class TestExif:
    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif", "tiff"])
    def test_image_description(self, kind: str) -> None:
        data = encoded(picture(0), kind, exif=exif({0x010E: "a nurse"}))
        assert prompt_in_image(data) == "a nurse"

    @pytest.mark.parametrize(
        "comment",
        [
            b"UNICODE\0" + WEB_UI.encode("utf-16-be"),
            b"UNICODE\0" + WEB_UI.encode("utf-16-le"),
            b"ASCII\0\0\0" + WEB_UI.encode(),
            b"\0" * 8 + WEB_UI.encode(),
        ],
    )
    @pytest.mark.parametrize("kind", ["jpeg", "webp"])
    def test_user_comment(self, kind: str, comment: bytes) -> None:
        assert prompt_in_image(encoded(picture(0), kind, exif=exif(comment=comment))) == PROMPT

    def test_graph_in_a_comment(self) -> None:
        data = encoded(picture(0), "webp", exif=exif(comment=b"ASCII\0\0\0" + json.dumps(GRAPH).encode()))
        assert prompt_in_image(data) == "a nurse in the rain"

    def test_none(self) -> None:
        assert prompt_in_image(encoded(picture(0), "jpeg", exif=exif({0x0112: 6}))) is None
        assert prompt_in_image(encoded(picture(0), "jpeg")) is None


class TestXmp:
    @pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
    def test_description(self, kind: str) -> None:
        data = encoded(picture(0), kind, xmp=xmp("a nurse &amp; a &#x63;aptain &lt;3"))
        assert prompt_in_image(data) == "a nurse & a captain <3"

    def test_in_png(self) -> None:
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp("a nurse").decode())
        assert prompt_in_image(encoded(picture(0), "png", pnginfo=info)) == "a nurse"

    def test_as_attribute(self) -> None:
        packet = b"<x:xmpmeta><rdf:Description dc:description='a nurse'/></x:xmpmeta>"
        assert prompt_in_image(encoded(picture(0), "jpeg", xmp=packet)) == "a nurse"


class TestHostile:
    @pytest.mark.parametrize(
        "text",
        [
            "<dc:description>" * 200_000,
            "<dc:description><rdf:li>" + "<" * 1_000_000 + "</rdf:li></dc:description>",
            "dc:description=" * 200_000,
            "\n" * 2_000_000 + "x",
            "&" * 1_000_000,
            "Steps: 1" + " " * 1_000_000,
        ],
    )
    def test_time_is_linear(self, text: str) -> None:
        webp = encoded(picture(0), "webp")
        chunk = b"XMP " + len(text).to_bytes(4, "little") + text.encode() + b"\0" * (len(text) % 2)
        start = time.process_time()
        prompt_in_image(webp + chunk)
        prompt_in_image(png(parameters=text[:900_000]))
        assert time.process_time() - start < 5

    def test_compressed_texts_are_capped(self) -> None:
        for data in bombs().values():
            found = prompt_in_image(data)
            assert found is None or len(found) <= 2**23
        data = encoded(picture(0), "png")
        bomb = png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 2**25))
        found = prompt_in_image(data[:33] + bomb + data[33:])
        assert found is not None and len(found) == 2**22

    def test_all_texts_of_a_picture_are_capped(self) -> None:
        packed = zlib.compress(b"a" * 2**22)
        chunks = b"".join(png_chunk(b"zTXt", f"key {at}\0\0".encode() + packed) for at in range(64))
        data = encoded(picture(0), "png")
        carried = texts_in_image(data[:33] + chunks + data[33:])
        assert sum(map(len, carried.texts.values())) == 2**24

    def test_damaged_files(self) -> None:
        for file in damaged_files(200, seed=5):
            prompt_in_image(file.data)

    @settings(max_examples=200)
    @given(st.sampled_from(["jpeg", "png", "webp", "tiff"]), st.binary(min_size=1, max_size=60), st.integers(0, 400))
    def test_never_raises(self, kind: str, noise: bytes, at: int) -> None:
        data = _with_everything(kind)
        prompt_in_image(data[:at] + noise + data[at + len(noise) :])


def _with_everything(kind: str) -> bytes:
    options: dict[str, object] = {"exif": exif({0x010E: "a nurse"}, b"UNICODE\0" + b"a\0b\0")}
    if kind == "png":
        info = PngInfo()
        info.add_text("parameters", WEB_UI)
        info.add_itxt("prompt", json.dumps(GRAPH), zip=True)
        options["pnginfo"] = info
    buffer = io.BytesIO()
    picture(0).save(buffer, kind, **options)
    return buffer.getvalue()


class TestCaptionFiles:
    @pytest.mark.parametrize(
        ("name", "data", "prompt", "extra"),
        [
            ("a.txt", b" a nurse\n", "a nurse", {}),
            ("a.txt", b"", None, {}),
            ("a.txt", "\ufeffcaf\u00e9".encode(), "caf\u00e9", {}),
            ("a.txt", b"caf\xe9", "caf\u00e9", {}),
            ("a.json", b'{"caption": "a nurse", "seed": 3, "nested": {"x": 1}}', "a nurse", {"seed": "3"}),
            ("a.json", b'{"prompt": "", "text": "a nurse"}', "a nurse", {"prompt": ""}),
            ("a.json", b'"a nurse"', "a nurse", {}),
            ("a.json", b'{"score": 1}', None, {}),
            ("a.json", b"[" * 100_000, None, {}),
            ("a.json", b'{"prompt": ', None, {}),
        ],
    )
    def test_captions(self, name: str, data: bytes, prompt: str | None, extra: dict[str, str]) -> None:
        assert caption_in_file(name, data) == (prompt, extra)
