"""Names in a tar: the key that images and captions share, the folder, and the tar's own."""

from __future__ import annotations

from collections.abc import Mapping

from allfour.pipeline.archives.captions import CAPTION_EXTENSIONS, caption_in_file
from allfour.pipeline.archives.kinds import extension
from allfour.pipeline.archives.remote import address_path


def stem_of(file: str) -> str:
    name = address_path(file).rpartition("/")[2]
    return name.partition(".")[0] or "tar"


def folder_of(name: str) -> str:
    """The folder that a member lies in, as text; empty for none."""
    parts = [part for part in name.split("/")[:-1] if part not in ("", ".", "..")]
    return parts[-1] if parts else ""


def key_of(name: str) -> str:
    """WebDataset's key: the path up to the first dot of its last part."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def keep_caption(captions: dict[str, bytes], name: str, data: bytes) -> None:
    """Hold a caption by its name, and for images of its key that are named otherwise (`x.input.jpg`, `x.outputs.txt`)."""
    captions[name] = data
    captions.setdefault(f"{key_of(name)}.{extension(name)}", data)


def caption_of(name: str, captions: Mapping[str, bytes]) -> tuple[str | None, dict[str, str]]:
    for stem in dict.fromkeys((name.rpartition(".")[0], key_of(name))):
        for ext in CAPTION_EXTENSIONS:
            data = captions.get(f"{stem}.{ext}")
            if data is not None:
                text, extra = caption_in_file(f"x.{ext}", data)
                if text is not None:
                    return text, extra
    return None, {}
