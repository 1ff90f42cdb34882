"""From a location to the source that reads it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import ArchiveSource, NoImagesError
from allfour.pipeline.archives.entries import leads_to_file, leads_to_folder
from allfour.pipeline.archives.folder import LocalTree
from allfour.pipeline.archives.json_pictures import holds_pictures, pictures_of_folder
from allfour.pipeline.archives.kinds import Kind, is_hidden, kind_of
from allfour.pipeline.archives.listing import Tree
from allfour.pipeline.archives.manifest import ManifestSource
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.parquet import ParquetSource
from allfour.pipeline.archives.parquet_columns import names_files
from allfour.pipeline.archives.probed import ProbedSource
from allfour.pipeline.archives.remote import RemoteTree, address_path, expand, scheme_of, show_address
from allfour.pipeline.archives.run_images import RunImages, is_run_folder, run_inside
from allfour.pipeline.archives.tar import TarSource
from allfour.pipeline.archives.text import natural_key
from allfour.pipeline.archives.tiles import TiledSource
from allfour.pipeline.archives.tree import TreeSource
from allfour.pipeline.archives.zip import ZipSource


def open_source(location: str | os.PathLike[str], *, options: ArchiveOptions | None = None) -> ArchiveSource:
    """The archive at a path, pattern or URL, with its grids cut, or looked for, as the options say. See `open_plain`."""
    options = options or ArchiveOptions()
    source = open_plain(location, options)
    if isinstance(source, RunImages):
        return ProbedSource(source)  # a generator made its images, one by one
    looks_itself = isinstance(source, TreeSource | ZipSource)
    return TiledSource(source if looks_itself else ProbedSource(source), options.tiles)


def open_plain(location: str | os.PathLike[str], options: ArchiveOptions) -> ArchiveSource:
    """The archive at a path, pattern or URL.

    Parameters
    ----------
    location
        A folder, a manifest, tar, zip or parquet file, several of them (`*`, `{0000..0012}`), a run folder,
        or an s3://, gs:// or https:// address of the same.
    options
        Reading options; the defaults fit the customary layouts.

    Raises
    ------
    ArchiveError
        If there is nothing there, or nothing that can be read; says how to mend it.
    """
    text = os.fspath(location)
    if scheme_of(text) is None:
        text = str(Path(text).expanduser())
    files = expand(text)
    if options.layout == "auto" and len(files) == 1 and scheme_of(files[0]) is None and Path(files[0]).is_dir():
        files = [pictures_of_folder(Path(files[0])) or files[0]]
    layout = _layout(text, files, options)
    if layout in ("folder", "run") and len(files) > 1:
        raise ArchiveError(f"{show_address(text)} matches {len(files)} folders or images; give the folder above them")
    if layout == "run":
        run = RunImages(text, shard_size=options.shard_size, max_image_bytes=options.max_image_bytes)
        if (why := run.why_no_run) is not None:
            raise ArchiveError(f"{show_address(text)}: no archive, but {why}")
        if (where := run.elsewhere) is not None:
            raise ArchiveError(
                f"{show_address(text)}: a run that read images which lie elsewhere, and holds none itself. Name what it read: {show_address(where)}"
            )
        # An audit of which every prompt was refused is read as a run too, by its layout, and has its report.
        if options.layout == "auto" and not run.summary().images:
            raise NoImagesError(f"no images in {show_address(text)}: no image of this run was made")
        return run
    if layout == "folder":
        tree: Tree = LocalTree(files[0]) if scheme_of(files[0]) is None else RemoteTree(files[0])
        shown = str(Path(files[0]).resolve()) if scheme_of(files[0]) is None else files[0]
        return TreeSource(tree, options, location=show_address(shown))
    files = [file for each in files for file in _inside(each, layout)]
    if layout == "manifest":
        if len(files) > 1:
            raise ArchiveError(f"{show_address(text)} matches {len(files)} manifests; give one")
        return ManifestSource(files[0], options)
    if layout == "tar":
        return TarSource(files, options, location=text)
    if layout == "parquet" and len(files) == 1 and names_files(files[0], options):
        return ManifestSource(files[0], options)
    return (ZipSource if layout == "zip" else ParquetSource)(files, options, location=text)


_SUFFIXES = {
    "manifest": (".csv", ".tsv", ".jsonl", ".ndjson", ".json"),
    "tar": (".tar", ".tar.gz", ".tgz"),
    "zip": (".zip",),
    "parquet": (".parquet", ".arrow"),
}


def _layout(location: str, files: Sequence[str], options: ArchiveOptions) -> str:
    """What lies at a location: as the options say, else by names, else by looking in.

    Raises
    ------
    ArchiveError
        If it is nothing that is read, or a mixture.
    """
    if options.layout != "auto":
        return options.layout
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise ArchiveError(
            f"{show_address(location)} matches {' and '.join(sorted(kinds))}; give a pattern for one kind"
        )
    return kinds.pop()


_ONE_IMAGE = "it is one image: give the folder that it lies in"


def _kind(file: str) -> str:
    name = address_path(file).lower()
    if scheme_of(file) is None and not Path(file).exists():
        raise ArchiveError(
            f"nothing at {show_address(file)}, looked for at {show_address(str(Path(file).absolute()))}; name a folder, "
            "an archive, a manifest, a run or an address"
        )
    is_folder = scheme_of(file) is None and Path(file).is_dir()
    if not is_folder:
        for kind, suffixes in _SUFFIXES.items():
            if name.endswith(suffixes):
                return "parquet" if scheme_of(file) is None and holds_pictures(file) else kind
    if scheme_of(file) is not None:
        return _remote_kind(file)
    path = Path(file)
    if not is_folder:
        what = _ONE_IMAGE if kind_of(path.name) is Kind.IMAGE else _expected(name)
        raise ArchiveError(f"cannot read {show_address(file)}: {what}")
    if is_run_folder(path):
        return "run"
    if (run := run_inside(path)) is not None:
        raise ArchiveError(
            f"{show_address(file)} holds runs of allfour, such as {show_address(str(run))}, and several runs cannot be read as one archive. Name one of the runs; "
            "to read all images as those of one folder, set archive.layout=folder"
        )
    if (path / "dataset_dict.json").is_file():
        return "parquet"  # splits of a saved dataset
    entries = list(os.scandir(path))
    folders = any(leads_to_folder(entry) and not is_hidden(entry.name) for entry in entries)
    kind = _folder_kind([entry.name for entry in entries if not leads_to_folder(entry)], folders=folders)
    return _folder_kind(_containers_below(path), folders=False) if kind == "folder" and folders else kind


_MOST_ENTRIES = 100_000
"""Files of a tree among which containers are looked for."""


def _containers_below(folder: Path) -> list[str]:
    """Paths of the containers in a tree that holds no image beside them, as a repository of a data set does; nothing for any other tree."""
    found: list[str] = []
    seen = 0
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        seen += len(names)
        if seen > _MOST_ENTRIES or any(kind_of(name) is Kind.IMAGE for name in names):
            return []
        below = os.path.relpath(where, folder)
        found += [
            name if below == "." else f"{below}/{name}"
            for name in names
            if kind_of(name) is Kind.CONTAINER and name.lower().endswith(_CONTAINERS)
        ]
    return found


_CONTAINERS = tuple(suffix for kind in ("tar", "zip", "parquet") for suffix in _SUFFIXES[kind])
_EXPECTED = (
    "expected a folder of images, a manifest (.csv, .tsv, .jsonl, .json), .tar, .tar.gz, .zip, .parquet or .arrow. If it is one of "
    "these under another name, set archive.layout"
)


_PACKED = (".7z", ".rar", ".zst", ".xz", ".bz2", ".lzma", ".lz4", ".tzst", ".txz", ".tbz2", ".tbz")
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def _expected(name: str) -> str:
    """What to do about a file that is nothing that is read, by its name."""
    if name.endswith(_PACKED) or re.search(r"\.z?\d\d+$", name):
        return "it is packed in a way that is not read: unpack it, and give the folder (or the .tar)"
    if name.endswith(_SHEETS):
        return "it is a spreadsheet: save the sheet as CSV (UTF-8), with the columns path and prompt, and give that"
    return _EXPECTED


def _folder_kind(names: Sequence[str], *, folders: bool) -> str:
    """A folder of containers alone is read as those, any other as a tree of images."""
    if folders:
        return "folder"
    counts: Counter[str] = Counter()
    for name in names:
        if not is_hidden(name):
            counts["image"] += kind_of(name) is Kind.IMAGE
            for kind in ("tar", "zip", "parquet"):
                counts[kind] += name.lower().endswith(_SUFFIXES[kind])
    found = [kind for kind in ("tar", "zip", "parquet") if counts[kind]]
    stems = {
        kind: {name.partition(".")[0] for name in names if name.lower().endswith(_SUFFIXES[kind])} for kind in found
    }
    if found == ["tar", "parquet"] and stems["parquet"] <= stems["tar"]:
        return "tar"  # img2dataset writes a table of the same name beside every tar
    return found[0] if len(found) == 1 and not counts["image"] else "folder"


def _remote_kind(file: str) -> str:
    if scheme_of(file) in ("http", "https"):
        raise ArchiveError(
            f"cannot read {show_address(file)}: over https only files are read (tar, zip, parquet, manifest), whose "
            "address ends as their names do; for another name set archive.layout"
        )
    names, folders = RemoteTree(file).top()
    own = address_path(file).rpartition("/")[2]
    if names == [own] and not folders and kind_of(own) is Kind.IMAGE:  # a key is listed as what it holds
        raise ArchiveError(f"cannot read {show_address(file)}: {_ONE_IMAGE}")
    return _folder_kind(names, folders=folders)


_CACHED = re.compile(r"(^|/)(cache|indices)-?[^/]*\.arrow$")
"""What the package `datasets` leaves in a saved dataset for itself."""


def _is_dead_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not leads_to_folder(entry)


def _inside(file: str, layout: str) -> list[str]:
    """The containers in a folder of containers; a file is itself."""
    suffixes = _SUFFIXES[layout]
    if scheme_of(file) is None and Path(file).is_dir():
        # links that lead nowhere too: whoever opens them says so
        names = [entry.name for entry in os.scandir(file) if leads_to_file(entry) or _is_dead_link(entry)]
        if layout == "parquet" and "dataset_dict.json" in names:
            names = [
                f"{split.name}/{each.name}"
                for split in os.scandir(file)
                if leads_to_folder(split)
                for each in os.scandir(split.path)
            ]
        elif not any(name.lower().endswith(suffixes) for name in names):
            names = _containers_below(Path(file))
        base = str(Path(file).resolve())
    elif scheme_of(file) is None:
        return [str(Path(file).resolve())]
    elif scheme_of(file) in ("http", "https") or address_path(file).lower().endswith(suffixes):
        return [file]
    else:
        names = RemoteTree(file).top()[0]
        base = file.rstrip("/")
    chosen = [name for name in names if name.lower().endswith(suffixes) and not is_hidden(name.rpartition("/")[2])]
    chosen = [name for name in chosen if not _CACHED.search(name)]
    if not chosen:
        raise ArchiveError(f"no {' or '.join(suffixes)} file in {show_address(file)}")
    return [f"{base}/{name}" for name in sorted(chosen, key=lambda name: (natural_key(name), name))]
