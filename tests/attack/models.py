"""Model folders, adapters, probes, calibrations and configs of somebody who means harm: no code of theirs runs, and nothing is a fault.

Every folder holds Python files and pickles that would leave a file behind, at a place that is looked at after each command.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.attack import ground as grounds
from tests.attack.ground import Ground
from tests.attack.process import command, forked
from tests.attack.tally import Tally

_EVIL = 'open({canary!r}, "w").write("run")\nclass Evil:\n    def __init__(self, *a, **k): open({canary!r}, "w")\n'
_CODE_NAMES = ("evil.py", "modeling_evil.py", "tokenization_evil.py", "configuration_evil.py", "__init__.py", "pipeline.py", "conftest.py",
               "open_clip.py", "transformers.py", "sitecustomize.py", "unet/evil.py", "scheduler/evil.py", "text_encoder/evil.py")  # fmt: skip
_CODE_KEYS: dict[str, Any] = {
    "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"],
                 "AutoImageProcessor": "evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"},
    "trust_remote_code": True,
    "tokenizer_kwargs": {"trust_remote_code": True},
    "custom_pipeline": "pipeline",
    "_class_name": ["pipeline", "Evil"],
    "_module": "evil",
    "architectures": ["Evil"],
    "model_type": "evil",
    "tokenizer_class": "Evil",
    "hf_model_name": "./evil",
    "hf_tokenizer_name": "../",
    "timm_model_name": "local-dir:.",
    "_name_or_path": "../../evil",
    "quantization_config": {"quant_method": "evil", "modules": ["evil"]},
    "scheduler": ["evil", "Evil"],
    "unet": ["evil", "Evil"],
    "vae": ["pipeline", "Evil"],
    "text_encoder": ["os", "system"],
    "tokenizer": ["subprocess", "Popen"],
    "feature_extractor": ["builtins", "eval"],
}  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    10**30,
    "x" * 1000,
    "\ud800",
    [],
    [[[]]],
    {},
    {"a": {"b": {}}},
    "../../etc/passwd",
    "/dev/zero",
)


class _Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self._canary}'",)


def _dirty(folder: Path, canary: Path) -> None:
    for name in _CODE_NAMES:
        if (folder / name).parent.is_dir() or "/" not in name:
            (folder / name).write_text(_EVIL.format(canary=str(canary)))
    for name in ("pytorch_model.bin", "open_clip_pytorch_model.bin", "model.ckpt", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(_Bomb(canary)))


def _in_config(folder: Path, rng: random.Random, canary: Path) -> str:
    """A key that asks for code, or a value of another kind, somewhere in one of the folder's JSON files."""
    path = rng.choice(sorted(p for p in folder.rglob("*.json") if p.stat().st_size < 200_000))
    document = json.loads(path.read_text())
    node, where = document, path.name
    while (
        isinstance(node, dict)
        and (inner := [k for k, v in node.items() if isinstance(v, dict) and v])
        and rng.random() < 0.6
    ):
        key = rng.choice(inner)
        node, where = node[key], f"{where}/{key}"
    if isinstance(node, dict) and (rng.random() < 0.6 or not node):
        key = rng.choice(list(_CODE_KEYS))
        node[key] = _CODE_KEYS[key]
    elif isinstance(node, dict):
        key = rng.choice(list(node))
        node[key] = rng.choice(_VALUES)
    else:
        document, key = rng.choice(_VALUES), ""
    path.write_text(json.dumps(document))
    return f"{where}/{key}"


def _in_weights(folder: Path, rng: random.Random, canary: Path) -> str:
    """Weights that are a pickle, cut, of a false header, not finite, a pipe, a device, or not there."""
    found = [p for p in sorted(folder.rglob("*.safetensors")) if p.is_file() and not p.is_symlink()]
    if not found or (path := rng.choice(found)).stat().st_size < 16:
        return "nothing more"
    data = path.read_bytes()
    if not data[8:].startswith(b'{"'):
        return "nothing more"
    (size,) = struct.unpack("<Q", data[:8])
    try:
        header = json.loads(data[8 : 8 + size])
    except ValueError:  # an earlier harm was in it
        return "nothing more"
    kind = rng.choice(
        (
            "pickle",
            "cut",
            "flip",
            "length",
            "shape",
            "offsets",
            "dtype",
            "list",
            "nan",
            "pipe",
            "device",
            "folder",
            "gone",
            "deep",
        )
    )
    path.unlink()
    name = rng.choice([key for key in header if key != "__metadata__"])
    new = data
    if kind == "pickle":
        new = pickle.dumps(_Bomb(canary))
    elif kind == "cut":
        new = data[: rng.randrange(len(data))]
    elif kind == "flip":
        at = rng.randrange(8, 8 + size)
        new = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    elif kind == "length":
        new = struct.pack("<Q", rng.choice((0, 2**63, 2**32, len(data) * 2))) + data[8:]
    elif kind == "nan":
        new = data[: 8 + size] + b"\xff" * (len(data) - 8 - size)
    elif kind == "deep":
        new = struct.pack("<Q", 100_000) + b"[" * 100_000
    elif kind in ("shape", "offsets", "dtype", "list"):
        header[name] = [] if kind == "list" else header[name] | {
            "shape": {"shape": rng.choice(([2**40, 2**40], [-1], "x", None, [0]))},
            "offsets": {"data_offsets": rng.choice(([0, 2**62], [-5, 3], [9, 1], "x"))},
            "dtype": {"dtype": rng.choice(("F4096", None, "__import__"))},
        }[kind]  # fmt: skip
        coded = json.dumps(header).encode()
        new = struct.pack("<Q", len(coded)) + coded + data[8 + size :]
    {
        "pipe": os.mkfifo,
        "device": lambda p: p.symlink_to("/dev/zero"),
        "folder": Path.mkdir,
        "gone": lambda p: None,
    }.get(kind, lambda p: p.write_bytes(new))(path)
    return f"{path.name}: {kind}"


_HARM: tuple[Callable[[Path, random.Random, Path], str], ...] = (_in_config, _in_config, _in_weights)


def save_clip_of_transformers(folder: Path) -> None:
    """A random CLIP in the format of transformers."""
    import transformers

    from tests.models.classifiers.test_clip_transformers import TEXT, VISION, save_clips_tokenizer

    text = {**TEXT, "projection_dim": 32, "hidden_act": "gelu", "eos_token_id": 49407}
    vision = {**VISION, "projection_dim": 32, "hidden_act": "gelu"}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32, use_fast=False).save_pretrained(folder)
    save_clips_tokenizer(folder)


class Models:
    """Whole model folders, and what is made of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.kinds: dict[str, Path] = {}

    def make(self) -> None:
        """Write a tiny model of each kind, in a process of its own."""
        root = self._root

        def body() -> None:
            from tests.conftest import write_tiny_clip
            from tests.tiny_diffusion import save_lora, save_stable_diffusion

            (root / "clip").mkdir(parents=True)
            write_tiny_clip(root / "clip")
            save_stable_diffusion(root / "diffusion")
            save_clip_of_transformers(root / "clip of transformers")
            (root / "lora").mkdir()
            save_lora(
                root / "lora" / "lora.safetensors", root / "diffusion" / "unet" / "diffusion_pytorch_model.safetensors"
            )
            (root / "lora" / "adapter_config.json").write_text(
                json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2})
            )

        ended = forked(body, deadline=300)
        if ended.code:
            raise RuntimeError(ended.err)
        self.kinds = {name: root / name for name in ("clip", "clip of transformers", "diffusion", "lora")}


def hostile_folders(ground: Ground, tally: Tally, *, count: int, seed: int) -> None:
    """So many hostile model folders, each asked by `doctor` and by the command that would load it."""
    models = Models(ground.path.parent / "models")
    models.make()
    canary = ground.path.parent / "canary"
    for kind, whole in models.kinds.items():  # an attack on what does not work anyway would find nothing
        where = ground.reset()
        shutil.copytree(whole, where / "model")
        for arguments in (["doctor"], [*_loading(where, kind), "--run", where / "new"]):
            ended = command(
                *arguments, "--config", _config_for(where, kind, where / "model", models), deadline=120, before=_real
            )
            if ended.code not in (0, 3):
                raise RuntimeError(f"{kind}, {arguments[0]}: {ended.err}")
    for number in range(count):
        rng = random.Random(seed * 1_000_003 + number)
        kind = rng.choice(("clip", "clip of transformers", "diffusion", "diffusion", "lora"))
        where = ground.reset()
        folder = where / "model"
        shutil.copytree(models.kinds[kind], folder)
        _dirty(folder, canary)
        harms = [rng.choice(_HARM)(folder, rng, canary) for _ in range(rng.choice((1, 1, 2)))]
        config = _config_for(where, kind, folder, models)
        run = _loading(where, kind)
        what = f"model folder {number} of seed {seed} ({kind}): {', '.join(harms)}"
        for arguments in (["doctor"], [*run, "--run", where / "new"]):
            ended = command(*arguments, "--config", config, deadline=120, before=_real)
            tally.ended(ended)
            if problem := ended.fault():
                tally.wrong(f"{what}, {arguments[0]}", problem)
            if canary.exists():
                tally.wrong(f"{what}, {arguments[0]}", "CODE OF THE FOLDER WAS RUN")
                canary.unlink()
        tally.count("hostile model folders")


def _loading(where: Path, kind: str) -> list[Any]:
    """The command that loads a folder of this kind."""
    return ["rescore", where / "archive"] if kind.startswith("clip") else ["audit"]


def _real() -> None:
    from allfour.pipeline.commands import build

    build.build_classifier = grounds.REAL_CLASSIFIER
    build.build_generator = grounds.REAL_GENERATOR


def _config_for(where: Path, kind: str, folder: Path, models: Models) -> Path:
    path = where / "hostile.yaml"
    shared = f"prompts: {{file: {where}/prompts.yaml, images_per_prompt: 2, set_size: 2}}\nattributes: {{file: {where}/attributes.yaml}}\n"
    if kind.startswith("clip"):
        path.write_text(f"{shared}classifier: {{backend: clip, pretrained: '{folder}', device: cpu}}\n")
        return path
    model = folder if kind == "diffusion" else models.kinds["diffusion"]
    lora = f", lora: {{path: {folder}/lora.safetensors}}" if kind == "lora" else ""
    path.write_text(
        f"{shared}classifier: {{backend: face}}\n"
        f"generator: {{backend: stable-diffusion, model: {model}, device: cpu, dtype: float32, steps: 1, height: 16, width: 16{lora}}}\n"
    )
    return path


# --- configs ---------------------------------------------------------------------------------------------------------

_TEXTS: Sequence[str] = (
    "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n"
    "d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e]\n",
    "seed: !!python/object/apply:os.system ['touch CANARY']\n",
    "seed: !!python/name:os.system\n",
    "seed: " + "9" * 100_000 + "\n",
    "seed: 0x" + "f" * 100_000 + "\n",
    "seed: 1e999999999\nname: .inf\n",
    "prompts: &p {file: *p}\n",
    "&a [*a]\n",
    "<<: &a {<<: *a}\n",
    "[" * 10_000,
    "{" * 10_000,
    "? " * 10_000,
    "- " * 10_000,
    "name: \ud800\n",
    "name: \x00\n",
    "",
    "null\n",
    "3\n",
    "- 1\n",
    'name: "\\ud800\\x00"\n',
    "prompts: {file: /dev/zero}\n",
    "prompts: {file: /dev/stdin}\n",
    "prompts: {file: PIPE}\n",
    "attributes: {file: PIPE}\n",
    "prompts: {file: /proc/self/mem}\n",
    "prompts: {file: ''}\n",
    "prompts: {file: .}\n",
    "classifier: {backend: __import__}\n",
    "classifier: {backend: ../../evil}\n",
    "classifier: {backend: face, model: [[[[[]]]]]}\n",
    "name: ../../../etc\n",
    "name: " + "x" * 1_000_000 + "\n",
    "%YAML 9.9\n---\nseed: 1\n",
    "seed: 2026-99-99\n",
    "seed: 12:30:45:99999999999999999999\n",
    "\ufeffseed: 1\n",
)


def hostile_configs(ground: Ground, tally: Tally) -> None:
    """Configs that ask for code, for all memory, for all time, or for files that never end."""
    where = ground.reset()
    canary, pipe = where / "canary", where / "pipe"
    os.mkfifo(pipe)
    path = where / "hostile.yaml"
    for number, text in enumerate(_TEXTS):
        filled = text.replace("CANARY", str(canary)).replace("PIPE", str(pipe))
        path.write_bytes(filled.encode("utf-8", "surrogatepass"))
        for arguments in (
            ["audit", "--config", path, "--run", where / "new"],
            ["report", where / "audited", "--calibration", path],
            ["relabel", where / "audited", "--attributes", path, "--run", where / "new"],
            ["relabel", where / "audited", "--grid", path],
        ):
            ended = command(*arguments, deadline=20)
            tally.ended(ended)
            what = f"config {number} ({text[:40]!r}), {arguments[0]}"
            if problem := ended.fault():
                tally.wrong(what, problem)
            if len(ended.err) > 3_000:
                tally.wrong(what, f"an error of {len(ended.err)} characters")
            if canary.exists():
                tally.wrong(what, "CODE OF THE CONFIG WAS RUN")
                canary.unlink()
        tally.count("hostile configs")
