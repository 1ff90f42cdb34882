"""`web-ui` and `comfyui` against servers that behave as documented, and misbehave on order."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from allfour.errors import BackendError
from allfour.models.generators._local import http
from allfour.models.generators.base import Failed, Generated, Generator, Refused
from allfour.models.generators.comfyui import ComfyUI, ComfyUIConfig
from allfour.models.generators.web_ui import WebUI, WebUIConfig
from tests.dripping_server import BODY, HEADERS, Answer, served
from tests.local_servers import LocalServers
from tests.loopback_image_server import png
from tests.models.generators.hosted_helpers import by_key, kinds, requests
from tests.places import REPOSITORY

WORKFLOW = REPOSITORY / "configs/workflows/comfyui-checkpoint.json"


@pytest.fixture(scope="module")
def running() -> Iterator[LocalServers]:
    with LocalServers() as server:
        yield server


@pytest.fixture
def server(running: LocalServers, monkeypatch: pytest.MonkeyPatch) -> LocalServers:
    running.fault, running.auth, running.looks = (lambda path, body: None), None, 0
    running.drawn.clear()
    running.jobs.clear()
    monkeypatch.setattr(http, "wait", lambda seconds: None)
    return running


def web_ui(server: LocalServers, **settings: Any) -> WebUI:
    return WebUI(WebUIConfig(backend="web-ui", base_url=server.base_url, **settings))


def comfyui(server: LocalServers, **settings: Any) -> ComfyUI:
    settings = {
        "workflow": str(WORKFLOW),
        "inputs": {"prompt": "Prompt.text", "seed": "sampler.seed", "width": "Size.width", "height": "Size.height"},
        "values": {"Checkpoint.ckpt_name": "model.safetensors"},
    } | settings
    return ComfyUI(ComfyUIConfig(backend="comfyui", base_url=server.base_url, **settings))


MAKERS = {"web-ui": web_ui, "comfyui": comfyui}


@pytest.mark.parametrize("name", MAKERS)
def test_every_request_gets_its_own_image(server: LocalServers, name: str) -> None:
    generator = MAKERS[name](server)
    assert isinstance(generator, Generator)
    found = by_key(generator.generate(requests(3, 2)))
    assert kinds(found.values()) == {"Generated": 6}
    assert len({o.data for o in found.values() if isinstance(o, Generated)}) == 6
    assert len(server.drawn) == 6
    json.dumps(dict(generator.identity()))


def test_the_web_ui_is_asked_as_documented(server: LocalServers) -> None:
    (request,) = requests(["a nurse"], 1)
    generator = web_ui(
        server, checkpoint="other", sampler="Euler a", steps=20, guidance_scale=7, width=512, height=768, negative_prompt="text",
        extra_body={"clip_skip": 2},
    )  # fmt: skip
    (outcome,) = generator.generate([request])
    assert isinstance(outcome, Generated)
    assert outcome.data == png(f"a nurse\0{request.seed % 2**32}", 16)
    assert server.drawn == [
        {"prompt": "a nurse", "seed": request.seed % 2**32, "negative_prompt": "text", "steps": 20, "cfg_scale": 7.0, "width": 512,
         "height": 768, "sampler_name": "Euler a", "batch_size": 1, "n_iter": 1, "clip_skip": 2,
         "override_settings": {"sd_model_checkpoint": "other.safetensors"}, "override_settings_restore_afterwards": False}
    ]  # fmt: skip


def test_the_loaded_checkpoint_is_named_in_the_identity(server: LocalServers) -> None:
    identity = web_ui(server).identity()
    assert (identity["model"], str(identity["weights_sha256"])[:10]) == ("base", "aaaa000001")
    assert identity != web_ui(server, steps=5).identity()
    assert server.base_url not in str(identity)


def test_a_server_that_draws_with_another_checkpoint_is_found_out(server: LocalServers) -> None:
    image = base64.b64encode(png("x", 8)).decode()
    wrong = {"images": [image], "info": json.dumps({"sd_model_hash": "ffff"})}
    server.fault = lambda path, body: (200, wrong) if path.endswith("txt2img") else None
    (outcome,) = web_ui(server).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "used the checkpoint ffff, but aaaa000001" in outcome.error


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"checkpoint": "missing"}, "'missing' is not among the checkpoints"),
        ({"sampler": "Nope"}, "has no 'Nope'. It has: DPM++ 2M, Euler a"),
        ({"scheduler": "Nope"}, "It has: Karras, karras"),
    ],
)
def test_the_web_ui_says_what_it_lacks(server: LocalServers, settings: dict[str, Any], expected: str) -> None:
    found = web_ui(server, **settings).check()
    assert not found.ok
    assert expected in found.message


@pytest.mark.parametrize(("name", "wrong"), [("web-ui", {"sampler": "Nope"}), ("comfyui", {"values": None})])
def test_an_audit_stops_at_what_doctor_says(server: LocalServers, name: str, wrong: dict[str, Any]) -> None:
    found = MAKERS[name](server, **wrong).check()
    assert not found.ok
    with pytest.raises(BackendError) as caught:
        list(MAKERS[name](server, **wrong).generate(requests(1, 1)))
    assert str(caught.value).startswith(found.message)
    assert not server.drawn


def test_a_web_ui_without_its_api(server: LocalServers) -> None:
    server.fault = lambda path, body: (404, {"detail": "Not Found"})
    found = web_ui(server).check()
    assert not found.ok
    assert "Start it with --api" in found.message


def test_a_password_comes_from_the_environment_and_is_not_shown(
    server: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.auth = "Basic " + base64.b64encode(b"me:secret-word").decode()
    assert "generator.auth_env" in web_ui(server).check().message
    monkeypatch.setenv("UI_LOGIN", "me:secret-word")
    assert web_ui(server, auth_env="UI_LOGIN").check().ok
    server.fault = lambda path, body: (500, {"detail": "me:secret-word"}) if path.endswith("txt2img") else None
    (outcome,) = web_ui(server, auth_env="UI_LOGIN").generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "secret" not in outcome.error
    monkeypatch.delenv("UI_LOGIN")
    with pytest.raises(BackendError, match="UI_LOGIN is not set"):
        web_ui(server, auth_env="UI_LOGIN")


@pytest.mark.parametrize("name", MAKERS)
def test_what_passes_is_tried_again(server: LocalServers, name: str) -> None:
    left = [503, 502]
    draws = ("/sdapi/v1/txt2img", "/prompt")
    server.fault = lambda path, body: (left.pop(), {"detail": "busy"}) if path in draws and left else None
    (outcome,) = MAKERS[name](server).generate(requests(1, 1))
    assert isinstance(outcome, Generated)


@pytest.mark.parametrize("name", MAKERS)
def test_out_of_memory_is_a_failure_of_one_image(server: LocalServers, name: str) -> None:
    oom = (500, {"error": "OutOfMemoryError", "detail": "", "errors": "CUDA out of memory"})
    server.fault = lambda path, body: (
        oom if path in ("/sdapi/v1/txt2img", "/prompt") and "0" in json.dumps(body) else None
    )
    (outcome,) = MAKERS[name](server).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "HTTP 500: OutOfMemoryError" in outcome.error


@pytest.mark.parametrize("name", MAKERS)
def test_a_black_image_is_a_failure_with_a_reason(server: LocalServers, name: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    black = base64.b64encode(buffer.getvalue()).decode()
    server.fault = lambda path, body: (
        (200, {"images": [black], "info": "{}"})
        if path.endswith("txt2img")
        else (200, buffer.getvalue())
        if path == "/view"
        else None
    )
    (outcome,) = MAKERS[name](server).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "all black" in outcome.error


@pytest.mark.parametrize("name", MAKERS)
def test_a_server_that_is_not_there(name: str, server: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = MAKERS[name]
    monkeypatch.setattr(type(server), "base_url", "http://127.0.0.1:9")
    found = maker(server).check()
    assert not found.ok
    assert "no connection to http://127.0.0.1:9: the connection was refused" in found.message


@pytest.mark.parametrize("address", ["127.0.0.1:7860", "ftp://x", "http://u:p@x", "http://x:port", "http://x/?a=1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(BackendError, match=r"generator\.base_url"):
        WebUI(WebUIConfig(backend="web-ui", base_url=address))


# --- ComfyUI ---------------------------------------------------------------------------------------------------------


def test_named_inputs_are_set(server: LocalServers) -> None:
    (request,) = requests(["a nurse"], 1)
    list(comfyui(server, width=512, height=640).generate([request]))
    (drawn,) = server.drawn
    assert drawn["positive"]["inputs"]["text"] == "a nurse"
    assert drawn["sampler"]["inputs"]["seed"] == request.seed
    assert (drawn["size"]["inputs"]["width"], drawn["size"]["inputs"]["height"]) == (512, 640)
    assert drawn["model"]["inputs"]["ckpt_name"] == "model.safetensors"
    assert drawn["negative"]["inputs"]["text"] == ""


def test_identity_is_the_workflow_less_prompt_and_seed(server: LocalServers, tmp_path: Path) -> None:
    same = comfyui(server).identity()
    assert same == comfyui(server).identity()
    assert same["workflow_sha256"] != comfyui(server, width=512).identity()["workflow_sha256"]
    nodes = json.loads(WORKFLOW.read_text())
    nodes["sampler"]["inputs"]["seed"] = 7
    other = tmp_path / "comfyui-checkpoint.json"
    other.write_text(json.dumps(nodes))
    assert same == comfyui(server, workflow=str(other)).identity()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"inputs": {"prompt": "Prompt.text"}}, "seed must be given, to say which field"),
        ({"inputs": {"prompt": "Nobody.text", "seed": "sampler.seed"}}, "no node 'Nobody'. Nodes: model (Checkpoint)"),
        ({"inputs": {"prompt": "Prompt.words", "seed": "sampler.seed"}}, "has no field 'words'. It has: clip, text"),
        ({"inputs": {"prompt": "text", "seed": "sampler.seed"}}, "is not of the form NODE.field"),
        ({"negative_prompt": "x"}, "generator.inputs.negative_prompt"),
        ({"output": "nobody"}, "generator.output"),
        ({"workflow": "absent.json"}, "cannot be read"),
    ],
)
def test_workflows_and_fields_that_cannot_be(server: LocalServers, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(BackendError) as caught:
        comfyui(server, **settings)
    assert expected in str(caught.value)


def test_a_workflow_saved_for_the_editor(server: LocalServers, tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text('{"nodes": [], "links": []}')
    with pytest.raises(BackendError, match=r"Export \(API\)"):
        comfyui(server, workflow=str(path))


def test_nodes_and_files_that_the_server_lacks(server: LocalServers) -> None:
    assert comfyui(server).check().ok
    found = comfyui(server, values=None).check()
    assert (
        "names ckpt_name 'sd_xl_base_1.0.safetensors', which the server does not have. It has: model.safetensors"
        in found.message
    )
    assert "node 'Checkpoint' (CheckpointLoaderSimple)" in found.message
    server.fault = lambda path, body: (200, {}) if path == "/object_info/KSampler" else None
    assert "no node 'KSampler'" in comfyui(server).check().message


@pytest.mark.parametrize("address", ["Checkpoint.ckpt_name", "model.ckpt_name"])
def test_the_mend_names_a_field_as_the_config_does_and_keeps_its_other_values(
    server: LocalServers, address: str
) -> None:
    values = {"Sampler.steps": 20, address: "missing.safetensors"}
    found = comfyui(server, values=values).check()
    message = found.mend.removeprefix("Set it: --set 'generator.values=").removesuffix("'")
    assert json.loads(message) == {"Sampler.steps": 20, address: "NAME"}
    assert comfyui(server, values=json.loads(message.replace("NAME", "model.safetensors"))).check().ok


def test_a_workflow_that_the_server_does_not_take_ends_the_run(server: LocalServers) -> None:
    body = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"},
        "node_errors": {
            "sampler": {"class_type": "KSampler", "errors": [{"message": "Value not in list", "details": "steps: 0"}]}
        },
    }
    server.fault = lambda path, asked: (400, body) if path == "/prompt" else None
    with pytest.raises(BackendError, match=r"node 'Sampler' \(KSampler\): steps: 0"):
        list(comfyui(server).generate(requests(2, 1)))


@pytest.mark.parametrize(
    ("message", "kind", "expected"),
    [
        ("CUDA out of memory", Failed, "KSampler: OutOfMemoryError: CUDA out of memory"),
        ("The request was rejected by content moderation", Refused, "content moderation"),
    ],
)
def test_what_goes_wrong_in_a_workflow(server: LocalServers, message: str, kind: type[Any], expected: str) -> None:
    status = {
        "status_str": "error",
        "messages": [
            [
                "execution_error",
                {"node_type": "KSampler", "exception_type": "OutOfMemoryError", "exception_message": message},
            ]
        ],
    }
    server.fault = lambda path, body: (
        (200, {path.rpartition("/")[2]: {"outputs": {}, "status": status}}) if path.startswith("/history/") else None
    )
    (outcome,) = comfyui(server).generate(requests(1, 1))
    assert isinstance(outcome, kind)
    assert expected in (outcome.error if isinstance(outcome, Failed) else outcome.reason)


def test_a_job_that_the_server_forgot_is_asked_for_again(server: LocalServers) -> None:
    lost = {"job-1"}
    server.fault = lambda path, body: (
        (200, {})
        if path == "/history/job-1"
        else (200, {"queue_running": [], "queue_pending": []})
        if path == "/queue" and lost
        else None
    )
    (outcome,) = comfyui(server).generate(requests(1, 1))
    assert isinstance(outcome, Generated)
    assert len(server.drawn) == 2


def test_a_job_that_does_not_end(server: LocalServers) -> None:
    server.fault = lambda path, body: (200, {}) if path.startswith("/history/") else None
    (outcome,) = comfyui(server, timeout=0.2).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "no image within 0.2 s" in outcome.error


@pytest.mark.parametrize("answer", [HEADERS, BODY], ids=["headers", "body"])
@pytest.mark.parametrize("name", MAKERS)
def test_a_server_that_drips_is_given_up(server: LocalServers, name: str, answer: Answer) -> None:
    generator = MAKERS[name](server, timeout=0.6, max_retries=0)
    list(generator.generate(requests(1, 1)))  # what is asked once
    with served(answer) as port:
        generator._server._port = port
        started = time.monotonic()
        outcomes = list(generator.generate(requests(1, 1)))
    assert isinstance(outcomes[0], Failed)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "entry", [{"outputs": [1]}, {"outputs": {"save": {"images": {}}}}, {"status": []}, {"outputs": 3}]
)
def test_a_history_of_another_shape_is_a_failure(server: LocalServers, entry: Any) -> None:
    server.fault = lambda path, body: (200, {"job-1": entry}) if path == "/history/job-1" else None
    (outcome,) = comfyui(server, max_retries=0).generate(requests(1, 1))
    assert isinstance(outcome, Failed)


@pytest.mark.parametrize("name", MAKERS)
def test_answers_of_any_shape_are_told_and_no_fault(server: LocalServers, name: str) -> None:
    """Every question, answered with every wrong shape."""
    shapes = [
        None,
        3,
        "x",
        [3],
        [[]],
        {},
        {"title": []},
        [{"title": [], "hash": {}}],
        {"prompt_id": {}},
        {"images": "x"},
    ]
    shapes += [
        {"images": [3]},
        {"images": ["%"], "info": "[" * 9000},
        {"job-1": {"status": {"status_str": "error", "messages": 3}}},
    ]
    paths = {"web-ui": ("/sdapi/v1/sd-models", "/sdapi/v1/options", "/sdapi/v1/samplers", "/sdapi/v1/txt2img"),
             "comfyui": ("/system_stats", "/object_info/KSampler", "/prompt", "/history/job-1", "/queue", "/view")}[name]  # fmt: skip
    more = {"sampler": "Euler a"} if name == "web-ui" else {}
    for path in paths:
        for shape in [*shapes, {"KSampler": {"input": 3}}, {"KSampler": {"input": {"required": [3]}}}]:
            server.fault = lambda asked, body, path=path, shape=shape: (200, shape) if asked == path else None
            server.drawn.clear()
            generator = MAKERS[name](server, timeout=0.05, max_retries=0, **more)
            assert generator.check().message
            try:
                (outcome,) = generator.generate(requests(1, 1))
            except BackendError:
                continue
            assert isinstance(outcome, Generated | Failed), (path, shape)


# --- answers that are not what was asked for --------------------------------------------------------------------------


def _answering(server: LocalServers, **told: Any) -> None:
    """From now on images come with this report of the server's."""
    image = base64.b64encode(png("a picture", 16)).decode()
    sheet = base64.b64encode(png("a sheet", 16)).decode()
    images = [sheet, image] if "index_of_first_image" in told else [image]
    server.fault = lambda path, body: (
        (200, {"images": images, "info": json.dumps(told)}) if path.endswith("txt2img") else None
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"seed": 1}, "used the seed 1, but"),
        ({"steps": 1}, "used steps 1, but 20 was asked for"),
        ({"cfg_scale": 1.5}, "used guidance 1.5, but 7.0 was asked for"),
    ],
)
def test_a_web_ui_that_draws_with_something_else_is_found_out(
    server: LocalServers, told: dict[str, Any], expected: str
) -> None:
    _answering(server, **told)
    (outcome,) = web_ui(server, steps=20, guidance_scale=7).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert expected in outcome.error


def test_a_prompt_that_the_web_ui_changed_is_a_rewritten_one(server: LocalServers) -> None:
    _answering(server, prompt="a nurse, masterpiece", steps=20)
    (outcome,) = web_ui(server).generate(requests(["a nurse"], 1))
    assert isinstance(outcome, Generated)
    assert outcome.revised_prompt == "a nurse, masterpiece"
    _answering(server, prompt="a nurse ")
    (outcome,) = web_ui(server).generate(requests(["a nurse"], 1))
    assert isinstance(outcome, Generated)
    assert outcome.revised_prompt is None


def test_a_sheet_of_images_is_no_image(server: LocalServers) -> None:
    _answering(server, index_of_first_image=1)
    (outcome,) = web_ui(server).generate(requests(1, 1))
    assert isinstance(outcome, Generated)
    assert outcome.data == png("a picture", 16)


def test_what_servers_list_is_shown_without_control_characters(server: LocalServers) -> None:
    evil = "\x1b]0;gone\x07 \u202e name" * 1000
    server.fault = lambda path, body: (200, [{"name": evil}]) if path.endswith("/samplers") else None
    said = [web_ui(server, sampler="Nope").check().message]
    spec = {"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [[evil]]}}}}
    server.fault = lambda path, body: (200, spec) if path.endswith("/CheckpointLoaderSimple") else None
    said.append(MAKERS["comfyui"](server).check().message)
    for text in said:
        assert "name" in text
        assert len(text) < 1000
        assert text.isprintable()


@pytest.mark.parametrize("job", ["", "../queue", "a\r\nb c?d"])
def test_a_job_by_any_name_ends(server: LocalServers, job: str) -> None:
    server.fault = lambda path, body: (200, {"prompt_id": job}) if path == "/prompt" else None
    (outcome,) = MAKERS["comfyui"](server, timeout=5, max_retries=0).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
