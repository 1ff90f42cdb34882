"""What a file in an archive is, by its name: only a first guess, the content decides."""

from __future__ import annotations

import enum


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RAW_EXTENSIONS = _words("3fr arw cr2 cr3 crw dcr dng erf iiq kdc mrw nef nrw orf pef raf rw2 rwl sr2 srf srw x3f")
"""Raw files of cameras."""
UNDECODED_EXTENSIONS = RAW_EXTENSIONS | _words("heic heif hif jxl jp2 j2k jpf jpx ico tga ppm pgm pbm pnm")
"""Pictures in formats that are not decoded: they are images that cannot be read, and are counted as such."""
IMAGE_EXTENSIONS = UNDECODED_EXTENSIONS | _words("jpg jpeg jpe jfif jif png apng webp gif bmp dib tif tiff avif avifs")
"""Whatever is named like this gets a row, whether it can be read or not."""

EXTENSION_OF = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif"}
"""The decoder's name of a format -> the extension that its files are written with."""
DECODED_EXTENSIONS = frozenset({*EXTENSION_OF.values(), "jpeg", "tiff"})
"""What files that can be decoded are named in a run folder."""

OTHER_EXTENSIONS = _words(
    """txt text md rst json jsonl ndjson csv tsv xml yaml yml toml ini cfg conf log html htm css js pdf doc docx xls
    xlsx ppt pptx py ipynb sh bat ps1 npy npz pt pth ckpt safetensors bin pkl pickle h5 hdf5 onnx db sqlite sqlite3 lock
    mp4 mov avi mkv webm m4v mp3 wav flac ogg m4a svg psd ai eps caption captions cap cls xmp sha256 md5 sfv url"""
)

CONTAINER_EXTENSIONS = _words("tar tgz zip parquet gz bz2 xz 7z rar zst arrow")

_JUNK_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "lost+found", "@eadir", "icon\r"})


class Kind(enum.Enum):
    IMAGE = "image"
    OTHER = "other"
    CONTAINER = "container"
    HIDDEN = "hidden"
    UNKNOWN = "unknown"


def extension(name: str) -> str:
    """Lower-case extension without the dot; empty for none and for names such as '.hidden'."""
    stem, dot, ext = name.rpartition(".")
    return ext.lower() if dot and stem else ""


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK_NAMES


def kind_of(name: str) -> Kind:
    """Kind of a file by its last path component."""
    if is_hidden(name):
        return Kind.HIDDEN
    ext = extension(name)
    if ext in IMAGE_EXTENSIONS:
        return Kind.IMAGE
    if ext in CONTAINER_EXTENSIONS:
        return Kind.CONTAINER
    return Kind.OTHER if ext in OTHER_EXTENSIONS else Kind.UNKNOWN
