"""What benchmarks read and load: archives of made pictures, and weights that mean nothing. Imported by them."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ARCHIVES: dict[str, tuple[str, int, str, dict[str, Any]]] = {
    "png-1024": ("PNG", 1024, "folder", {}),
    "jpeg-512": ("JPEG", 512, "tar", {"quality": 90}),
}
"""Name -> (format, side in pixels, layout, options of saving)."""
_PNG = b"\x89PNG\r\n\x1a\n"


def picture(seed: int, side: int) -> Image.Image:
    """A picture that costs about as much to decode as a generated photograph: broad shapes, edges, and some grain."""
    random = np.random.default_rng(seed)
    broad = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    edges = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(Image.blend(broad, edges, 0.3), dtype=np.int16)
    grain = random.normal(0, 2.5, (side, side, 1))
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def picture_file(number: int, name: str) -> bytes:
    """A picture in the format of an archive."""
    kind, side, _, options = ARCHIVES[name]
    buffer = io.BytesIO()
    picture(number, side).save(buffer, kind, **options)
    return buffer.getvalue()


def _marked(data: bytes, number: int) -> bytes:
    """The same picture in a file of other bytes, at the same cost, by a comment: equal files would be read once."""
    words = f"{number:012d}".encode()
    if data.startswith(b"\xff\xd8"):
        return data[:2] + b"\xff\xfe" + (len(words) + 2).to_bytes(2, "big") + words + data[2:]
    chunk = b"tEXtComment\x00" + words
    header = len(_PNG) + 25
    comment = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return data[:header] + comment + data[header:]


def make_archive(root: Path, name: str, *, shards: int, per_shard: int, distinct: int | None = None) -> Path:
    """PROMPT/INDEX.png, or a folder of tars with a caption for each image; of so many different pictures (default: all)."""
    layout = ARCHIVES[name][2]
    folder = root / name
    folder.mkdir(parents=True)
    total = shards * per_shard
    with ThreadPoolExecutor() as pool:
        files = list(pool.map(lambda number: picture_file(number, name), range(min(distinct or total, total))))
    for shard in range(shards):
        tar = tarfile.open(folder / f"{shard:05d}.tar", "w") if layout == "tar" else None  # noqa: SIM115 (closed below)
        for number in range(per_shard):
            position = shard * per_shard + number
            image = _marked(files[position % len(files)], position)
            if tar is None:
                path = folder / f"prompt_{shard}" / f"{number}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(image)
                continue
            for extension, data in (("jpg", image), ("txt", b"a prompt")):
                member = tarfile.TarInfo(f"{number:06d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        if tar is not None:
            tar.close()
    return folder


def make_weights(root: Path, model: str) -> Path:
    """A folder in open_clip's own format with random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = root / f"random-{model}"
    folder.mkdir()
    torch.manual_seed(0)
    built = open_clip.create_model(model, pretrained=None)
    config = {"model_cfg": open_clip.get_model_config(model), "preprocess_cfg": dict(built.visual.preprocess_cfg)}
    (folder / "open_clip_config.json").write_text(json.dumps(config, default=list))
    save_file({k: v.contiguous() for k, v in built.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def make_tiny_weights(folder: Path) -> None:
    """A folder of the smallest CLIP, with random weights."""
    import open_clip
    from safetensors.torch import save_file

    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    built = open_clip.model.CLIP(
        embed_dim=512, vision_cfg=open_clip.CLIPVisionCfg(**vision), text_cfg=open_clip.CLIPTextCfg(**text)
    )
    folder.mkdir(parents=True)
    config = {"model_cfg": {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text},
              "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in built.state_dict().items()}, folder / "open_clip_model.safetensors")
