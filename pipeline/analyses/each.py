"""`--each`: what the images of a run, and those made beyond them for single prompts, say of each prompt's own question.

Such images lie with the others, but their tables stand apart, in RUN/each: no other figure of the run rests on them, since who got
them depends on what was seen. The account is made from the tables whenever it is asked for, so that a run that was read anew, under
another wording or by another classifier, says what that one reads.
"""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.border import read_json
from allfour.errors import RunFolderError, UsageError
from allfour.files import read_regular
from allfour.models.attributes import AttributeSet
from allfour.pipeline.analyses.base import BEYOND, OUTDATED
from allfour.pipeline.config import validate
from allfour.pipeline.metrics.each_prompt import EachQuestion, parse_question
from allfour.pipeline.run.columns import UNREADABLE, ImageStatus
from allfour.pipeline.run.each import FOLDER, Each, EachPrompt
from allfour.pipeline.run.folder import IMAGES_STAGE, RunFolder
from allfour.pipeline.run.header import PICKED_KIND
from allfour.pipeline.run.record import Note
from allfour.pipeline.run.seal import sealed, unsealed
from allfour.pipeline.run.tables import connect
from allfour.pipeline.run.writing import write_json
from allfour.pipeline.scoring.near_copies import near_copies
from allfour.pipeline.words import level, quantity

FILE = "each.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of each prompt of a run: RUN/each.json."""

    expression: str
    up_to: int
    prompts: int
    """Of which it is asked, fixed before any was looked at."""
    stopped: str | None = None

    def keep(self, run: RunFolder) -> None:
        """Write RUN/each.json."""
        document = {"format": FORMAT, **{name: getattr(self, name) for name in self.__dataclass_fields__}}
        write_json(run.path / FILE, sealed(document))


def more_of(run: RunFolder) -> RunFolder:
    """The tables of images beyond those of the run. What a classifier was asked and paid for is booked with the run's own."""
    found = RunFolder(run.path / FOLDER)
    found.answers_path = run.answers_path
    return found


def beyond(run: RunFolder) -> int:
    """Images that lie in a run's folder and are in none of its figures but each prompt's own: no review draws them, no export has them."""
    path = more_of(run).images_path
    with contextlib.suppress(pa.ArrowException, OSError):
        return int(pq.read_metadata(path).num_rows) if path.is_file() else 0
    return 0


def asked_of_each(run: RunFolder) -> Asked | None:
    """What was asked; None where nothing was.

    Raises
    ------
    RunFolderError
        RUN/each.json is damaged.
    """
    path = run.path / FILE
    try:
        found = unsealed(read_json(read_regular(path)))
        if found["format"] != FORMAT:
            raise ValueError("not of this version's format")
        asked = Asked(str(found["expression"]), int(found["up_to"]), int(found["prompts"]), found.get("stopped"))
        parse_question(asked.expression)
        return asked
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UsageError):
        again = f"allfour audit --each EXPR --run {shlex.quote(str(run.path))}"
        raise RunFolderError(
            f"{path}: not what was asked of each prompt, or damaged. Remove it, or repeat `{again}`"
        ) from None


def stands(run: RunFolder) -> bool:
    """Whether the tables of images beyond those of the run are of the same generator, classifier and wording, and whole."""
    more = more_of(run)
    ours, theirs = run.header(), more.header()
    same = all(getattr(ours, key) == getattr(theirs, key) for key in ("generator", "classifier", "attributes"))
    done = {"scores"} | ({IMAGES_STAGE} if IMAGES_STAGE in ours.stages else set())
    whole = all(path.is_file() and more.unchanged(path) for path in (more.images_path, more.scores_path))
    return (
        same
        and theirs.kind == PICKED_KIND
        and (ours.config or {}).get("seed") == (theirs.config or {}).get("seed")
        and done <= theirs.stages.keys()
        and whole
        and not _overlapping(run, more)
    )


def _overlapping(run: RunFolder, more: RunFolder) -> bool:
    """Whether the run has, by now, images of its own that are in the other table, or other texts for the same prompts."""
    own: dict[str, tuple[int, str]] = {}
    for prompt, text, index in _rows(run, "prompt_id", "prompt", "index"):
        own[prompt] = max(index, own[prompt][0]) if prompt in own else index, text
    return any(
        prompt not in own or index <= own[prompt][0] or text != own[prompt][1]
        for prompt, text, index in _rows(more, "prompt_id", "prompt", "index")
    )


def _rows(run: RunFolder, *columns: str) -> list[tuple[Any, ...]]:
    table = pq.read_table(run.images_path, columns=list(columns))
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def account(run: RunFolder, asked: Asked, *, with_more: bool = True) -> Each:
    """What is known of each prompt now.

    Parameters
    ----------
    with_more
        Whether there are images beyond those of the run.
    """
    header = run.header()
    headline = str((header.attributes or {}).get("headline", "gender"))
    labels = validate(AttributeSet, header.attributes, where=str(run.header_path)).labels(headline)
    confidence = float(header.block("statistics").get("confidence", 0.95))
    runs = [run, more_of(run)] if with_more else [run]
    copies = near_copies(*runs).images
    question = EachQuestion(parse_question(asked.expression), labels, asked.prompts, asked.up_to, confidence)
    counts: dict[str, Counter[str]] = {}
    left_out: Counter[str] = Counter()
    missing = 0
    for number, part in enumerate(runs):
        for prompt, index, label in _labels(part, headline):
            if number and label not in labels:
                missing += label in (None, UNREADABLE)
            if label in labels:
                if (prompt, index) in copies:
                    left_out[prompt] += 1
                else:
                    counts.setdefault(prompt, Counter())[label] += 1
    requested = [Counter(prompt for (prompt,) in _rows(part, "prompt_id")) for part in runs]
    beyond = requested[1] if with_more else Counter()
    own = requested[0]
    entries = []
    for prompt in own:
        if prompt in header.asking:
            continue
        found = {label: counts.get(prompt, Counter())[label] for label in labels}
        images = own[prompt] + beyond[prompt]
        entries.append(
            EachPrompt(
                id=prompt,
                state=question.state(found, requested=images),
                settled=question.settled(found),
                images=images,
                more=beyond[prompt],
                counts=found,
                copies=left_out[prompt],
                figures=question.figures(found),
            )
        )
    result = Each(
        expression=asked.expression,
        up_to=asked.up_to,
        confidence=confidence,
        level=question.level,
        asked=asked.prompts,
        settled=sum(entry.settled is not None for entry in entries),
        more=sum(beyond.values()),
        missing=missing,
        stopped=asked.stopped,
        prompts=entries,
    )
    return result.model_copy(update={"because": in_words(result)})


def _labels(run: RunFolder, attribute: str) -> list[tuple[str, int, str | None]]:
    """Every requested image with its label; None of one that is not there."""
    with connect(run) as connection:
        query = (
            'SELECT i.prompt_id, i."index", CASE WHEN i.status = ? THEN l.label END FROM images i LEFT JOIN labels l'
            ' ON i.prompt_id = l.prompt_id AND i."index" = l."index" AND l.attribute = ?'
        )
        return connection.execute(query, [ImageStatus.GENERATED.value, attribute]).fetchall()


def in_words(each: Each) -> str:
    """How many prompts are settled, why the others are not, and what it took."""
    states: Counter[str] = Counter(entry.state for entry in each.prompts)
    parts = [f"`{each.expression}` is settled for {each.settled} of {quantity(each.asked, 'prompt')}"]
    for state, text in (
        ("most", f"still open after {each.up_to} images or more"),
        ("out_of_reach", f"given up, because even {each.up_to} images could not settle them"),
        ("open", "open"),
    ):
        if states[state]:
            parts.append(f"{states[state]} {text}")
    why = "" if each.stopped is None or not states["open"] else f" ({each.stopped})"
    lost = f", {each.missing} of them without a reading" if each.missing else ""
    return (
        f"{', '.join(parts)}{why}; {quantity(each.more, 'extra image')} requested{lost}. Intervals hold at {level(each.confidence)} for all "
        f"prompts and all looks at once, for what the classifier reads."
    )


class _EachAnalysis:
    """As a kept analysis; only what was asked is kept, and the rest is read from the tables."""

    name = "each"
    file = FILE

    def summary(self, run: RunFolder) -> tuple[Each | None, Note | None]:
        """See `Analysis`."""
        asked = asked_of_each(run)
        if asked is None:
            return None, None
        begun = more_of(run).images_path.exists()
        if begun and not stands(run):
            text = (
                f"{FILE} is ignored: the extra images of single prompts are not all read yet, or were read in another way than those of the "
                "run. Repeat `allfour audit --each EXPR --run RUN`."
            )
            return None, Note(code=OUTDATED, text=text, about=self.name)
        found = account(run, asked, with_more=begun)
        text = found.because + (
            " The extra images count in no other figure, because which prompts got them depends on what the first images showed."
            if found.more
            else ""
        )
        return found, Note(code=BEYOND, text=text, about=self.name)


EACH = _EachAnalysis()
"""What a run says of each prompt's own question: a part of metrics.json, from RUN/each.json and the tables in RUN/each."""
