"""`comfyui`: a ComfyUI that runs already, with a workflow of yours.

The workflow is a file in ComfyUI's API format; `inputs` says which of its fields take the prompt, the seed and the size. How to
save one: docs/local-servers.md.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field

from allfour.border import read_json
from allfour.errors import BackendError
from allfour.files import read_regular
from allfour.models._hosted.moderation import moderation_code
from allfour.models.generators._local import http
from allfour.models.generators._local.http import LocalServer, ServerError
from allfour.models.generators._local.images import attempt, ensure_ready, outcome_of
from allfour.models.generators.base import Failed, GenerationRequest, GeneratorSettings, Outcome, Refused
from allfour.models.settings import LocalPath, Readiness, on_disk

_QUICK = 15.0
_FORGOTTEN = 3
"""Looks at a queue that does not hold a job, nor a history that tells of it, before it counts as lost."""


class ComfyUIConfig(GeneratorSettings):
    """A ComfyUI that runs already, with a workflow."""

    hosted = True

    backend: Literal["comfyui"]
    workflow: LocalPath
    """A file in ComfyUI's API format."""
    inputs: dict[Literal["prompt", "seed", "negative_prompt", "width", "height"], str | list[str]]
    """Where each goes: NODE.field, with a node's id or title; `prompt` and `seed` are needed."""
    values: dict[str, Any] | None = None
    """Other fields to set, by NODE.field, such as the name of a checkpoint."""
    output: str | None = None
    """Node whose image is taken, by id or title; otherwise the only one that saves images."""
    base_url: str = "http://127.0.0.1:8188"
    auth_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable with USER:PASSWORD, where a proxy before the server asks for one."""
    negative_prompt: str | None = None
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    timeout: float = Field(default=900.0, gt=0)
    """Seconds for one image, the server's queue included."""
    poll_seconds: float = Field(default=0.5, gt=0, le=60)
    max_retries: int = Field(default=2, ge=0, le=20)

    def build(self, *, ledger: Path | None = None) -> ComfyUI:
        return ComfyUI(self)

    def check(self) -> Readiness:
        """Whether the server answers and has every node and every file that the workflow names."""
        return self.build().check()


class Workflow:
    """A workflow and the fields that are set in it.

    Raises
    ------
    BackendError
        The file is no workflow in API format, or a field is not in it.
    """

    def __init__(self, settings: ComfyUIConfig) -> None:
        self._name = settings.workflow
        self.nodes: dict[str, Any] = self._load()
        self._values = dict(settings.values or {})
        self._written: dict[tuple[str, str], str] = {}
        for address, value in self._values.items():
            node, name = self._field("values", address)
            self._written[node, name] = address
            self.nodes[node]["inputs"][name] = value
        missing = [name for name in ("prompt", "seed") if name not in settings.inputs]
        if missing:
            raise BackendError(
                f"generator.inputs: {' and '.join(missing)} must be given, to say which field of the workflow takes {'each' if len(missing) > 1 else 'it'}"
            )
        self._places: dict[str, list[tuple[str, str]]] = {
            name: [self._field(f"inputs.{name}", a) for a in ([places] if isinstance(places, str) else places)]
            for name, places in settings.inputs.items()
        }
        for name in ("negative_prompt", "width", "height"):
            value = getattr(settings, name)
            if value is not None:
                if name not in self._places:
                    raise BackendError(
                        f"generator.{name}: set generator.inputs.{name} too, to say which field of the workflow takes it"
                    )
                self._put(self.nodes, name, value)
        self.output = self._output(settings.output)

    def filled(self, request: GenerationRequest) -> dict[str, Any]:
        """The workflow for one image."""
        nodes = copy.deepcopy(self.nodes)
        self._put(nodes, "prompt", request.prompt)
        self._put(nodes, "seed", request.seed)
        return nodes

    def sha256(self) -> str:
        """Of all that is the same for every image."""
        nodes = copy.deepcopy(self.nodes)
        for name in ("prompt", "seed"):
            self._put(nodes, name, None)
        return hashlib.sha256(json.dumps(nodes, sort_keys=True).encode()).hexdigest()

    def name_of(self, node: str) -> str:
        """A node's title, where that tells it from the others; otherwise its id."""
        title = _title(self.nodes[node])
        if not isinstance(title, str) or not title or title in self.nodes:
            return node
        return title if [_title(n) for n in self.nodes.values()].count(title) == 1 else node

    def setting(self, node: str, field: str) -> str:
        """How a field is set from the command line: by the address that the config has for it, beside the config's other values."""
        address = self._written.get((node, field), f"{self.name_of(node)}.{field}")
        values = {**self._values, address: "NAME"}
        return f"--set {shlex.quote(f'generator.values={json.dumps(values)}')}"

    def _load(self) -> dict[str, Any]:
        try:
            parsed = read_json(read_regular(Path(on_disk(self._name))))
        except (OSError, ValueError, RecursionError) as error:
            raise BackendError(
                f"generator.workflow: {self._name} cannot be read: {type(error).__name__}: {error}"
            ) from None
        if isinstance(parsed, dict) and "nodes" in parsed and "links" in parsed:
            raise BackendError(
                f"generator.workflow: {self._name} was saved for the editor. Save it again in API format: in ComfyUI, Workflow > Export (API)"
            )
        good = isinstance(parsed, dict) and bool(parsed)
        if not good or not all(
            isinstance(n, dict) and "class_type" in n and isinstance(n.get("inputs"), dict) for n in parsed.values()
        ):
            raise BackendError(f"generator.workflow: {self._name} is not a workflow in ComfyUI's API format")
        return dict(parsed)

    def _node(self, key: str, name: str) -> str:
        titled = [i for i, n in self.nodes.items() if _title(n) == name]
        found = [name] if name in self.nodes else titled
        if len(found) != 1:
            known = ", ".join(f"{i} ({_title(n) or n['class_type']})" for i, n in self.nodes.items())
            why = "several nodes have the title" if found else "the workflow has no node"
            raise BackendError(f"generator.{key}: {why} {name!r}. Nodes: {known}")
        return found[0]

    def _field(self, key: str, address: str) -> tuple[str, str]:
        name, dot, field = address.rpartition(".")
        if not dot:
            raise BackendError(f"generator.{key}: {address!r} is not of the form NODE.field")
        node = self._node(key, name)
        if field not in self.nodes[node]["inputs"]:
            raise BackendError(
                f"generator.{key}: node {name} has no field {field!r}. It has: {', '.join(self.nodes[node]['inputs'])}"
            )
        return node, field

    def _put(self, nodes: dict[str, Any], name: str, value: Any) -> None:
        for node, field in self._places[name]:
            nodes[node]["inputs"][field] = value

    def _output(self, named: str | None) -> str:
        if named is not None:
            return self._node("output", named)
        savers = [
            i for i, n in self.nodes.items() if n["class_type"] in ("SaveImage", "PreviewImage", "SaveImageWebsocket")
        ]
        if len(savers) != 1:
            raise BackendError(
                f"generator.output: name the node whose image is to be used, because {len(savers)} nodes save images"
            )
        return savers[0]


class ComfyUI:
    """Generator that gives a ComfyUI one image at a time to make. See `ComfyUIConfig`. Raises BackendError where that cannot be."""

    def __init__(self, settings: ComfyUIConfig) -> None:
        self._settings = settings
        self._server = LocalServer(settings.base_url, auth_env=settings.auth_env, timeout=settings.timeout)
        self._workflow = Workflow(settings)
        self._ready = False

    @cached_property
    def _sha256(self) -> str:
        return self._workflow.sha256()

    def identity(self) -> Mapping[str, Any]:
        """See `Generator.identity`: the workflow with all that is set in it, less prompt and seed. The files that it names are the
        server's: their names are in it and their contents are not."""
        return {
            "backend": "comfyui",
            "model": Path(self._settings.workflow).stem,
            "workflow_sha256": self._sha256,
            "output": self._workflow.output,
        }

    def check(self) -> Readiness:
        """Whether a run can start. Never raises."""
        quick = min(_QUICK, self._settings.timeout)
        try:
            self._server.get("/system_stats", timeout=quick)
        except ServerError as error:
            return Readiness(False, f"comfyui: {error}", "Start ComfyUI, and set generator.base_url to its address.")
        for number, node in self._workflow.nodes.items():
            try:
                known = self._server.get(f"/object_info/{node['class_type']}", timeout=quick)
            except ServerError as error:
                return Readiness(False, f"comfyui: {error}", "Look at the server's log.")
            if (why := self._unmet(number, node, known)) is not None:
                return Readiness(False, f"comfyui: {why[0]}", why[1])
        return Readiness(True, f"{len(self._workflow.nodes)} nodes at {self._server.base_url}")

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        """One outcome per request, one request at a time.

        Raises
        ------
        BackendError
            The server lacks something that the workflow names, or does not take it.
        """
        for request in requests:
            self._ready = self._ready or ensure_ready(self.check())
            yield attempt(request, lambda r=request: self._one(r), retries=self._settings.max_retries)  # type: ignore[misc]

    def _one(self, request: GenerationRequest) -> Outcome:
        deadline = time.monotonic() + self._settings.timeout  # of the whole attempt, whatever its parts take
        try:
            answer = self._server.post("/prompt", {"prompt": self._workflow.filled(request)}, timeout=_left(deadline))
        except ServerError as error:
            if error.status in (400, 401, 404, 405, 422):
                raise BackendError(
                    f"comfyui: the server rejects the workflow: {self._server.scrub(self._node_errors(error), limit=500)}"
                ) from None
            raise
        job = answer.get("prompt_id") if isinstance(answer, dict) else None
        if not isinstance(job, str) or not job:
            return Failed(request, "the server accepted the workflow but gave no job id")
        entry = self._wait_for(job, deadline)
        if (broken := _execution_error(entry)) is not None:
            detail = self._server.scrub(broken)
            code = moderation_code(400, (), broken)
            return Refused(request, reason=detail, code=code) if code else Failed(request, detail)
        files = _inside(entry, "outputs", self._workflow.output, "images")
        if not isinstance(files, list) or not files or not isinstance(files[0], dict):
            return Failed(request, f"the node {self._workflow.name_of(self._workflow.output)!r} gave no image")
        query = {k: str(files[0].get(k) or "") for k in ("filename", "subfolder", "type")}
        return outcome_of(
            request, self._server.fetch("/view", query, timeout=_left(deadline)), {"seed_sent": request.seed}
        )

    def _wait_for(self, job: str, deadline: float) -> Mapping[str, Any]:
        """What the history tells of a job that ended. Raises ServerError where it does not end."""
        absent = 0
        while time.monotonic() < deadline:
            history = self._server.get(f"/history/{quote(job, safe='')}", timeout=_left(deadline))
            if isinstance(history, dict) and isinstance(entry := history.get(job), dict):
                return entry
            queue = self._server.get("/queue", timeout=_left(deadline))
            absent = 0 if job in json.dumps(queue) else absent + 1
            if absent >= _FORGOTTEN:
                raise ServerError("the server no longer knows the job: it was restarted, or its queue was cleared")
            http.wait(self._settings.poll_seconds)
        self._server.post("/queue", {"delete": [job]}, timeout=_QUICK)
        raise ServerError(f"no image within {self._settings.timeout:g} s", status=200)

    def _unmet(self, number: str, node: Mapping[str, Any], known: Any) -> tuple[str, str] | None:
        """What a node needs that the server does not have, and the mend."""
        kind, name = str(node["class_type"]), self._workflow.name_of(number)
        info = known.get(kind) if isinstance(known, dict) else None
        if not isinstance(info, dict):
            return (
                f"the server has no node {kind!r} (node {name!r} of the workflow)",
                "Install the custom node that provides it.",
            )
        takes = {**(_mapping(info, "input", "required")), **(_mapping(info, "input", "optional"))}
        for field, value in node["inputs"].items():
            options = _options(takes.get(field))
            if options is not None and isinstance(value, str) and value not in options:
                has = self._server.scrub(", ".join(map(str, options[:12]))) or "none"
                return (
                    f"node {name!r} ({kind}) names {field} {value!r}, which the server does not have. It has: {has}",
                    f"Set it: {self._workflow.setting(number, field)}",
                )
        return None

    def _node_errors(self, error: ServerError) -> str:
        """What ComfyUI says of a workflow that it does not take."""
        try:
            parsed = read_json(error.body)
            found = [
                f"node {self._named(number)!r} ({e.get('class_type')}): "
                + ", ".join(str(x.get("details") or x.get("message")) for x in e.get("errors", []))
                for number, e in (parsed.get("node_errors") or {}).items()
            ]
        except (ValueError, AttributeError, TypeError, RecursionError):
            found = []
        return "; ".join(found[:5])[:500] or str(error)

    def _named(self, number: str) -> str:
        return self._workflow.name_of(number) if number in self._workflow.nodes else number


def _options(spec: Any) -> list[Any] | None:
    """What a field may be set to, where the server lists it: in the form of old versions of ComfyUI or of new ones."""
    listed = spec[0] if isinstance(spec, list) and spec else None
    if listed == "COMBO" and len(spec) > 1 and isinstance(spec[1], dict):
        listed = spec[1].get("options")
    return listed if isinstance(listed, list) else None


def _left(deadline: float) -> float:
    """Seconds until a deadline, for one question, and not more than a minute."""
    return max(0.1, min(60.0, deadline - time.monotonic()))


def _inside(value: Any, *keys: str) -> Any:
    """What lies in nested mappings; None where there is none, or something else in between."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _mapping(value: Any, *keys: str) -> dict[str, Any]:
    found = _inside(value, *keys)
    return found if isinstance(found, dict) else {}


def _title(node: Mapping[str, Any]) -> Any:
    return _inside(node, "_meta", "title")


def _execution_error(entry: Mapping[str, Any]) -> str | None:
    status = entry.get("status")
    if not isinstance(status, dict) or status.get("status_str") != "error":
        return None
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if (
            isinstance(message, list)
            and len(message) == 2
            and message[0] == "execution_error"
            and isinstance(message[1], dict)
        ):
            detail = message[1]
            return f"{detail.get('node_type')}: {detail.get('exception_type')}: {detail.get('exception_message')}"
    return "the server says that the workflow failed"
