"""Which runs may be set side by side, and what to do about those that may not."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allfour.errors import RunFolderError
from allfour.models.attributes import AttributeSet
from allfour.pipeline.config import validate
from allfour.pipeline.run.documents import ReportError, read_header, read_metrics
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.identities import differing, flat
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.words import clean, quantity

_SHOWN = 5
"""Prompts or keys named in one message."""


class ComparisonError(RunFolderError):
    """The runs cannot be compared. Says every reason, and the mend of each."""


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """One run as a comparison reads it."""

    name: str
    """The folder's name, or as much of its path as tells it from the others."""
    path: Path
    header: Header
    metrics: Metrics
    attributes: AttributeSet | None
    """Questions, wording and margins; None where the header holds none."""

    @property
    def prompts(self) -> dict[str, Prompt]:
        return {prompt.id: prompt for prompt in self.metrics.prompts}


def load_runs(paths: Sequence[Path]) -> list[LoadedRun]:
    """Read headers and metrics.

    Raises
    ------
    ComparisonError
        A folder holds no measured run, or one is named twice.
    """
    resolved = [path.resolve() for path in paths]
    if twice := [path for number, path in enumerate(resolved) if path in resolved[:number]]:
        raise ComparisonError(f"{twice[0]} is named twice: a run differs from itself in nothing. Name another run")
    runs = []
    for path, name in zip(paths, _names(resolved), strict=True):
        try:
            header, metrics = read_header(path), read_metrics(path)
        except ReportError as error:
            raise ComparisonError(f"{path}: no measured run: {error}") from None
        folder = RunFolder(path)
        folder.check_measured()
        # metrics.json alone is enough for most of it; tables that stand are counted again, and shown image by image
        folder.check_tables(*(table for table in (folder.images_path, folder.scores_path) if table.exists()))
        wording = header.attributes
        where = f"{path / 'run.json'}: attributes"
        attributes = validate(AttributeSet, wording, where=where) if wording else None
        runs.append(LoadedRun(name, path, header, metrics, attributes))
    return runs


def _names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many parts as tell them apart."""
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def check_comparable(
    first: LoadedRun,
    second: LoadedRun,
    *,
    shared_only: bool = False,
    pair_by: str = "id",
    calibrated: bool = False,
    means: bool = False,
) -> None:
    """Refuse runs whose difference would not be one of what their images show.

    Parameters
    ----------
    shared_only
        Prompts that one run lacks are left out instead of refused.
    pair_by
        `id`, or `subject`: prompts of one subject are answers to one question, whatever their words.
    calibrated
        Both runs have a calibration, which takes out what another classifier, wording or margin does: those may differ then.
    means
        A subject may have several prompts in a run, whose mean is compared.

    Raises
    ------
    ComparisonError
        Names everything that differs, and the mend.
    """
    reasons = [
        *(_label_reasons(first, second) or ([] if calibrated else _reading_reasons(first, second))),
        *_scored_reasons(first, second),
        *_set_reasons(first, second),
        *_prompt_reasons(first, second, shared_only=shared_only, pair_by=pair_by, means=means),
    ]
    if reasons:
        pair = f"{first.name} and {second.name} cannot be compared"
        raise ComparisonError("\n".join([f"{pair}:", *(f"  - {reason}" for reason in reasons)]))


_RECORDS = "records_sha256"
"""By which labels that were recorded elsewhere are known."""


def _identity(run: LoadedRun) -> dict[str, Any]:
    """What decides over the probabilities, without the wording, which can be changed afterwards."""
    found = run.header.classifier if isinstance(run.header.classifier, Mapping) else {}
    return {key: value for key, value in flat(found) if key.rsplit(".", 1)[-1] != "wording_sha256"}


def _wording_hash(run: LoadedRun) -> str | None:
    found = run.header.classifier
    stated = found.get("wording_sha256") if isinstance(found, Mapping) else None
    return str(stated) if stated else (run.attributes.wording_sha256() if run.attributes else None)


def _classifier_reasons(first: LoadedRun, second: LoadedRun) -> list[str]:
    one, two = _identity(first), _identity(second)
    if not one or not two:
        lacking = first.name if not one else second.name
        return [
            f"{lacking} does not say which classifier read it: repeat its `allfour rescore` or `allfour audit`, which "
            "writes that into run.json"
        ]
    found = differing(one, two)
    if not found:
        return []
    text = "; ".join(f"{key} {_short(here)} and {_short(there)}" for key, here, there in found[:_SHOWN])
    if [key for key, _, _ in found] == [_RECORDS]:
        return [
            f"their labels were recorded in two files ({text}), so that one reader made both is not known. If it is so, put the lines of both "
            "into one file, and read either run's images with that: allfour rescore SOURCE --config CONFIG --run NEW"
        ]
    return [
        f"another classifier read them ({text}), so part of any difference would be the classifier's. Read the images of "
        f"one again with the configuration of the other: allfour rescore {second.header.to_reread(second.path)} --config CONFIG --run NEW, or give a calibration of "
        "either classifier: --calibration-a FILE --calibration-b FILE"
    ]


def same_classifier(first: LoadedRun, second: LoadedRun) -> bool:
    """Whether both runs were read by one classifier, in one wording, with one margin."""
    return not _reading_reasons(first, second)


def _reading_reasons(first: LoadedRun, second: LoadedRun) -> list[str]:
    return _classifier_reasons(first, second) or _question_reasons(first, second)


def _mend(first: LoadedRun, second: LoadedRun) -> str:
    return (
        f"Ask both the same: allfour relabel {shlex.quote(str(second.path))} --attributes FILE, with the attributes file of {first.name}, needs no "
        f"image; where a run keeps no embeddings, allfour rescore {second.header.to_reread(second.path)} --config CONFIG --run NEW"
    )


def _label_reasons(first: LoadedRun, second: LoadedRun) -> list[str]:
    """Headline and labels, without which there is nothing to compare."""
    mend, one, two = _mend(first, second), first.metrics, second.metrics
    if one.headline != two.headline:
        return [f"the headline is {clean(one.headline)} in one and {clean(two.headline)} in the other. {mend}"]
    if set(one.headline_labels) != set(two.headline_labels):
        labels = f"{_joined(one.headline_labels)} and {_joined(two.headline_labels)}"
        return [f"the labels of {clean(one.headline)} differ: {labels}. {mend}"]
    return []


def _question_reasons(first: LoadedRun, second: LoadedRun) -> list[str]:
    """Wording and margins: both can be changed without reading an image again."""
    mend = _mend(first, second)
    if _wording_hash(first) != _wording_hash(second):
        return [f"the classifier was asked in other words{_wording_detail(first, second)}. {mend}"]
    margins = _margins(first), _margins(second)
    differing = [key for key in dict.fromkeys([*margins[0], *margins[1]]) if margins[0].get(key) != margins[1].get(key)]
    if differing:
        text = "; ".join(f"{clean(key)} {margins[0].get(key)} and {margins[1].get(key)}" for key in differing)
        return [f"other margins decide what is unclear ({text}). {mend}"]
    return []


def _wording_detail(first: LoadedRun, second: LoadedRun) -> str:
    if first.attributes is None or second.attributes is None:
        return ""
    one, two = first.attributes, second.attributes
    other = sorted(set(one.questions) ^ set(two.questions))
    same = [name for name in one.questions if name in two.questions]
    reworded = [name for name in same if one.prompts(name) != two.prompts(name)]
    parts = [f"only one was asked about {_joined(other)}"] if other else []
    parts += [f"other words for {_joined(reworded)}"] if reworded else []
    return f" ({'; '.join(parts)})" if parts else ""


def _margins(run: LoadedRun) -> dict[str, float]:
    return {} if run.attributes is None else run.attributes.decided_by()


def _scored_reasons(first: LoadedRun, second: LoadedRun) -> list[str]:
    """A run of which nothing was read would seem to have no unanimous prompt, and so to be better than any other."""
    empty = [run for run in (first, second) if run.metrics.accounting.requested and not run.metrics.accounting.scored]
    return [
        f"no image of {run.name} could be read, so nothing can be said of it: its images.parquet says why in the column `error`. "
        "Repeat its command when that is mended"
        for run in empty
    ]


def _set_reasons(first: LoadedRun, second: LoadedRun) -> list[str]:
    one, two = first.metrics.summary.set_size, second.metrics.summary.set_size
    if one == two:
        return []
    return [
        f"a set has {one} images in one and {two} in the other, and larger sets are less often unanimous. Repeat the "
        f"command of {second.name} with --set prompts.set_size={one}: no image is read again"
    ]


def _prompt_reasons(first: LoadedRun, second: LoadedRun, *, shared_only: bool, pair_by: str, means: bool) -> list[str]:
    one, two = ({p.pairing(pair_by): p for p in run.metrics.prompts} for run in (first, second))
    reasons = []
    if pair_by == "subject" and not means:
        reasons += [
            _several(run, taken) for run, taken in ((first, one), (second, two)) if len(taken) < len(run.prompts)
        ]
    reworded = [key for key in one if key in two and one[key].text != two[key].text and pair_by == "id"]
    if reworded:
        key = reworded[0]
        reasons.append(
            f"{quantity(len(reworded), 'prompt')} {'has' if len(reworded) == 1 else 'have'} one id and two texts, such as {clean(key, 64)}: {clean(one[key].text, 80)!r} and "
            f"{clean(two[key].text, 80)!r}. Images of other words are answers to another question: generate one of them "
            "again, give the prompts other ids, or compare them as variants of one subject: --pair-by subject"
        )
    shared = [key for key in one if key in two]
    alone = [key for key in one if key not in two], [key for key in two if key not in one]
    if not shared:
        reasons.append(
            f"they have no prompt in common ({_joined(list(one)[:_SHOWN])} against {_joined(list(two)[:_SHOWN])}). Prompts "
            + (
                "are matched by subject, else by id: give those of one subject the same `subject` in their prompt sets"
                if pair_by == "subject"
                else "are matched by id: name the folders of an archive alike, use one prompt set, or give prompts a `subject` and pair by it: "
                "--pair-by subject"
            )
        )
    elif any(alone) and not shared_only:
        text = [
            f"{len(keys)} only in {run.name} ({_joined(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''})"
            for keys, run in zip(alone, (first, second), strict=True)
            if keys
        ]
        reasons.append(
            f"they hold other prompts: {'; '.join(text)}. Add --shared-prompts to compare the {len(shared)} that both have"
        )
    return reasons


def _several(run: LoadedRun, taken: Mapping[str, Prompt]) -> str:
    """That a subject has several prompts, of which a comparison could take but one."""
    found = Counter(prompt.pairing("subject") for prompt in run.metrics.prompts)
    subject, count = found.most_common(1)[0]
    return (
        f"{run.name} has {count} prompts of the subject {clean(subject, 60)}, and a comparison takes one of each. `allfour study` takes the mean "
        "of all prompts of a subject"
    )


def _short(value: Any) -> str:
    text = clean(value, 200) if value is not None else "nothing"
    return f"{text[:12]}..." if len(text) > 40 and " " not in text else clean(text, 60)


def _joined(names: Sequence[str] | tuple[str, ...]) -> str:
    return ", ".join(clean(name, 40) for name in names)
