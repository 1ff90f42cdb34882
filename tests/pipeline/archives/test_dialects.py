"""Every writer in every carrier that it writes to, on files made here as the programs make them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from allfour.pipeline.archives.captions import caption_in_file
from allfour.pipeline.archives.comfy import UNFOLLOWED
from allfour.pipeline.archives.dialects import prompt_in_parameters, without_brackets
from allfour.pipeline.archives.metadata import LACKING, find_prompt, prompt_in_image
from tests.hostile_images import encoded, picture, png_chunk
from tests.pipeline.archives.test_metadata import exif, png, xmp

NURSE = "a photo of a nurse"
WEB_UI = f"{NURSE}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
SWARM = json.dumps({"sui_image_params": {"prompt": NURSE, "negativeprompt": "ugly", "seed": 1, "swarm_version": "0.9"}})
FOOOCUS = json.dumps(
    {"full_prompt": ["cinematic still"], "full_negative_prompt": ["ugly"], "prompt": NURSE, "negative_prompt": "ugly",
     "version": "Fooocus v2.5.0"}
)  # fmt: skip
INVOKE = json.dumps({"generation_mode": "txt2img", "positive_prompt": NURSE, "negative_prompt": "ugly"})
INVOKE_2 = json.dumps({"model": "sd", "image": {"prompt": [{"prompt": f"{NURSE} [ugly]", "weight": 1}], "seed": 1}})
GRAPH = json.dumps(
    {"3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "negative": ["7", 0]}},
     "6": {"class_type": "CLIPTextEncode", "inputs": {"text": NURSE}},
     "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly, and a longer text than the other one"}}}
)  # fmt: skip
LOST = GRAPH.replace('"6", 0', '"9", 0')
DRAWN = json.dumps({"c": NURSE, "uc": "ugly", "seed": 1, "steps": 20})
JOB = "Job ID: 5f0c1a2b-0000-4000-8000-000000000000"

Carrier = Callable[[str], bytes]


def in_exif(kind: str, comment: Callable[[str], bytes]) -> Carrier:
    return lambda text: encoded(picture(0), kind, exif=exif(comment=comment(text)))


def ascii_comment(text: str) -> bytes:
    return b"ASCII\0\0\0" + text.encode()


COMMENTS: dict[str, Callable[[str], bytes]] = {
    "ascii": ascii_comment,
    "utf-16 be": lambda text: b"UNICODE\0" + text.encode("utf-16-be"),
    "utf-16 le": lambda text: b"UNICODE\0" + text.encode("utf-16-le"),
    "utf-16 marked": lambda text: b"UNICODE\0" + b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16 marked be": lambda text: b"UNICODE\0" + b"\xfe\xff" + text.encode("utf-16-be"),
}


def jpeg_comment(text: str) -> bytes:
    data, content = encoded(picture(0), "jpeg"), text.encode()
    return data[:2] + b"\xff\xfe" + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif"])
@pytest.mark.parametrize("comment", COMMENTS.values(), ids=COMMENTS)
@pytest.mark.parametrize("text", [WEB_UI, SWARM, FOOOCUS, GRAPH], ids=["web ui", "swarm", "fooocus", "comfy"])
def test_user_comments(kind: str, comment: Callable[[str], bytes], text: str) -> None:
    assert prompt_in_image(in_exif(kind, comment)(text)) == NURSE


@pytest.mark.parametrize(
    ("texts", "prompt"),
    [
        ({"parameters": WEB_UI}, NURSE),
        ({"parameters": SWARM}, NURSE),
        ({"parameters": FOOOCUS, "fooocus_scheme": "fooocus"}, NURSE),
        ({"Comment": FOOOCUS}, NURSE),
        ({"invokeai_metadata": INVOKE}, NURSE),
        ({"sd-metadata": INVOKE_2, "Dream": f"{NURSE} [ugly] -s50 -S1"}, NURSE),
        ({"Dream": f'"{NURSE}" -s 50 -S 3000 -W 512 -H 512 -C 7.5 -A k_lms'}, NURSE),
        ({"Dream": f"{NURSE} [ugly] -s50 -W512 -H512 -C7.5 -Ak_lms -S0"}, NURSE),
        ({"Dream": '"a well-known nurse - portrait" -s 50'}, "a well-known nurse - portrait"),
        ({"Software": "NovelAI", "Comment": json.dumps({"prompt": NURSE, "uc": "ugly", "steps": 28})}, NURSE),
        ({"Software": "NovelAI", "Title": "AI generated image", "Description": NURSE,
          "Comment": json.dumps({"steps": 28, "uc": "ugly"})}, NURSE),
        ({"Description": f"{NURSE} --ar 1:1 --v 6.0 {JOB}", "Author": "someone"}, f"{NURSE} --ar 1:1 --v 6.0"),
        ({"prompt": GRAPH, "workflow": "{}"}, NURSE),
        ({"prompt": NURSE, "negative_prompt": "ugly", "seed": "1"}, NURSE),
        ({"invokeai_metadata": json.dumps({"positive_conditioning": NURSE, "negative_conditioning": "ugly"})}, NURSE),
        ({"Note": WEB_UI}, NURSE),
        ({"parameters": f"{NURSE}\nNegative: ugly\nSteps: 20, Sampler: Euler, Seed: 1"}, NURSE),
        ({"parameters": "Negative prompt: ugly\nSteps: 20, Sampler: Euler, Seed: 1"}, None),
        ({"parameters": '{"settings": {"a": 1}}'}, None),
        ({"Description": '{"nodes": 1}'}, None),
        ({"Comment": "Created with GIMP"}, None),
        ({"Title": "nurse_01.psd", "Software": "Adobe Photoshop"}, None),
        ({"Description": "The ward at night", "Software": "Adobe Photoshop 24.0"}, None),
        ({"Description": "Screenshot"}, None),
        ({"Comment": "Processed by eBay with ImageMagick, z1.1.0"}, None),
    ],
)  # fmt: skip
def test_png_texts(texts: dict[str, str], prompt: str | None) -> None:
    assert prompt_in_image(png(**texts)) == prompt


@pytest.mark.parametrize(
    ("tags", "prompt"),
    [
        ({0x010E: 'Workflow: {"nodes": []}', 0x010F: f"Prompt: {GRAPH}"}, NURSE),
        ({0x0110: f"prompt:{GRAPH}", 0x010F: "workflow:{}"}, NURSE),
        ({0x0110: SWARM}, NURSE),
        ({0x010E: f"{NURSE} {JOB}"}, NURSE),
        ({0x010E: WEB_UI}, NURSE),
        ({0x010E: "OLYMPUS DIGITAL CAMERA"}, None),
        ({0x010E: "a nurse at work", 0x8298: "2019, an agency"}, None),
        ({0x010E: "Image Creator from Microsoft Designer"}, None),
        ({0x010E: "DCIM\\100MEDIA\\DJI_0001.JPG"}, None),
        ({0x010E: "a ward", 0x0131: "Adobe Lightroom 6.0"}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_exif_tags(kind: str, tags: dict[int, object], prompt: str | None) -> None:
    assert prompt_in_image(encoded(picture(0), kind, exif=exif(tags))) == prompt


@pytest.mark.parametrize(
    "words", ["Screenshot", "Created with GIMP", "IMG_20230501_101010", "https://example.org/x", "oppo_0"]
)
def test_words_of_cameras_and_programs(words: str) -> None:
    assert prompt_in_image(in_exif("jpeg", ascii_comment)(words)) is None
    assert prompt_in_image(encoded(picture(0), "jpeg", xmp=xmp(words))) is None


def test_a_camera_writes_no_prompts() -> None:
    block = Image.Exif()
    block[0x010E] = "a nurse at work"
    assert prompt_in_image(encoded(picture(0), "jpeg", exif=block.tobytes())) == "a nurse at work"
    block.get_ifd(0x8769)[0x829A] = 0.01  # the exposure time
    assert prompt_in_image(encoded(picture(0), "jpeg", exif=block.tobytes())) is None


class TestXmp:
    def packet(self, *, comment: str | None) -> bytes:
        text = f"{NURSE}\n-ugly\nSteps: 20, Sampler: DPM++ 2M Karras, Guidance Scale: 7.0, Seed: 0"
        metadata = (
            ""
            if comment is None
            else f"<exif:UserComment><rdf:Alt><rdf:li>{comment}</rdf:li></rdf:Alt></exif:UserComment>"
        )
        return xmp(text).replace(
            b"</rdf:Description>",
            f"<xmp:CreatorTool>Draw Things</xmp:CreatorTool>{metadata}</rdf:Description>".encode(),
        )

    @pytest.mark.parametrize("comment", [None, DRAWN, DRAWN.replace('"', "&quot;")])
    @pytest.mark.parametrize("kind", ["jpeg", "webp"])
    def test_draw_things(self, kind: str, comment: str | None) -> None:
        assert prompt_in_image(encoded(picture(0), kind, xmp=self.packet(comment=comment))) == NURSE

    def test_utf16(self) -> None:
        assert prompt_in_image(encoded(picture(0), "webp", xmp=xmp(NURSE).decode().encode("utf-16-le"))) == NURSE


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_novelai_where_there_are_no_keys(kind: str) -> None:
    comment = json.dumps({"prompt": NURSE, "uc": "ugly", "steps": 28})
    text = json.dumps({"Software": "NovelAI", "Description": "of an earlier one", "Comment": comment})
    assert prompt_in_image(in_exif(kind, COMMENTS["utf-16 be"])(text)) == NURSE


def test_jpeg_comment() -> None:
    assert prompt_in_image(jpeg_comment(FOOOCUS)) == prompt_in_image(jpeg_comment(WEB_UI)) == NURSE
    assert prompt_in_image(jpeg_comment("CREATOR: gd-jpeg v1.0")) is None


class TestStealth:
    def hidden(self, content: bytes, mark: bytes = b"stealth_pngcomp", *, size: int = 96, alpha: bool = True) -> bytes:
        packed = gzip.compress(content) if mark.endswith(b"comp") else content
        bits = np.unpackbits(np.frombuffer(mark + (8 * len(packed)).to_bytes(4, "big") + packed, np.uint8))
        pixels = np.asarray(picture(0).resize((size, size)).convert("RGBA" if alpha else "RGB")).copy()
        columns = pixels.swapaxes(0, 1)
        values = columns[..., 3].reshape(-1).copy() if alpha else columns[..., :3].reshape(-1).copy()
        values[: len(bits)] = values[: len(bits)] & 0xFE | bits
        if alpha:
            columns[..., 3] = values.reshape(size, size)
        else:
            columns[..., :3] = values.reshape(size, size, 3)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        return buffer.getvalue()

    def test_novelai(self) -> None:
        metadata = {"Software": "NovelAI", "Description": NURSE, "Comment": json.dumps({"prompt": NURSE, "uc": "ugly"})}
        assert prompt_in_image(self.hidden(json.dumps(metadata).encode())) == NURSE

    @pytest.mark.parametrize("mark", [b"stealth_pnginfo", b"stealth_pngcomp"])
    def test_web_ui(self, mark: bytes) -> None:
        assert prompt_in_image(self.hidden(WEB_UI.encode(), mark)) == NURSE
        assert prompt_in_image(self.hidden(WEB_UI.encode(), mark, size=256)) == NURSE

    def test_in_the_colours(self) -> None:
        assert prompt_in_image(self.hidden(WEB_UI.encode(), b"stealth_rgbcomp", alpha=False)) == NURSE

    def test_damaged(self) -> None:
        data = self.hidden(b"\xff" * 40, b"stealth_pnginfo")
        assert prompt_in_image(data[:-40]) is None
        assert prompt_in_image(self.hidden(WEB_UI.encode(), b"stealth_pngnone")) is None


def test_what_is_lacking_is_said() -> None:
    assert find_prompt(png(prompt=LOST)).lacks == UNFOLLOWED
    assert find_prompt(png(workflow='{"nodes": [{"id": 1}], "links": []}')).lacks == UNFOLLOWED
    assert find_prompt(encoded(picture(0), "jpeg")).lacks == LACKING


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("a nurse Negative prompt: blurry Steps: 20, Sampler: Euler, Seed: 1", "a nurse"),
        ("a nurse Steps: 20, Sampler: Euler, Seed: 1", "a nurse"),
        ("a poster that says\nSteps: 3, wash hands\nof a nurse\nNegative prompt: x\nSteps: 20, Sampler: Euler, Seed: 1",
         "a poster that says\nSteps: 3, wash hands\nof a nurse"),
        ("Steps: 3, wash hands", "Steps: 3, wash hands"),
        (f"{WEB_UI}\nTemplate: a photo of a __job__\nNegative Template: blurry", NURSE),
        (f"{WEB_UI}, Hires prompt: \"another one\", Version: v1.9", NURSE),
        ("a nurse\r\nNegative prompt: x\r\nSteps: 20, Sampler: Euler", "a nurse"),
    ],
)  # fmt: skip
def test_parameters(text: str, prompt: str) -> None:
    assert prompt_in_parameters(text) == prompt


def test_brackets() -> None:
    assert without_brackets("a nurse [blurry], in the rain [ugly, (bad)]") == "a nurse , in the rain"
    assert without_brackets("[blurry]") is None


@pytest.mark.parametrize(
    ("name", "data", "prompt"),
    [
        ("a.txt", WEB_UI.encode(), NURSE),
        ("a.txt", b"nan", None),
        ("a.cap", NURSE.encode(), NURSE),
        ("a.txt", NURSE.encode("utf-16"), NURSE),
        ("a.txt", b'{"caption": "a photo of a nurse"}', NURSE),
        ("a.txt", b'{"boxes": [1, 2]}', None),
        ("a.json", SWARM.encode(), NURSE),
        ("a.json", b'{"params": {"prompt": "a photo of a nurse"}}', NURSE),
        ("a.json", b'{"caption": "None"}', None),
    ],
)
def test_caption_files(name: str, data: bytes, prompt: str | None) -> None:
    assert caption_in_file(name, data)[0] == prompt


def test_a_text_behind_the_pixels() -> None:
    data = encoded(picture(0), "png")
    assert prompt_in_image(data[:-12] + png_chunk(b"tEXt", b"parameters\0" + WEB_UI.encode()) + data[-12:]) == NURSE
