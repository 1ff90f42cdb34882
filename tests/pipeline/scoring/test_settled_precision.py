"""`classifier.dtype: auto` takes half precision where that gains, once for a run, and whoever goes on with the run takes the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allfour.errors import ClassifierError
from allfour.models.classifiers._clip import encoder as encoder_module
from allfour.models.classifiers._clip import half as half_module
from allfour.models.classifiers._clip.encoder import ClipEncoder, auto_precision
from allfour.models.classifiers.base import NO_UNITS, TWICE, ByteArray, FloatArray
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.classifiers.clip_weights import resolve, tower_size_of
from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.base import ArchiveItem, Shard
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.commands import build
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.relabel import relabel
from allfour.pipeline.commands.rescore import rescore, rescore_rank
from allfour.pipeline.config import RunConfig, load_attributes
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.header import PICKED_KIND
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.scoring import precision, settled_precision
from allfour.pipeline.scoring.engines.base import Worker
from allfour.pipeline.scoring.groups import Ahead
from allfour.pipeline.scoring.settled_precision import settle_precision, settled_in_half, take_up_precision
from tests.pipeline.scoring.halves import IMAGES, SANDBOX, SHARD, decisions, in_precision, made_in_half

Settled = Callable[..., tuple[str | None, ClipClassifier]]


real_build = build.build_classifier


@pytest.fixture(scope="module")
def auto(half_config: RunConfig, loaded_once: None) -> Iterator[RunConfig]:
    """As if the sandbox's CLIP and its few pictures were large enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half_module, "SMALLEST", 0)
        patch.setattr(settled_precision, "FEWEST", 48)
        yield in_precision(half_config, "auto")


@pytest.fixture(scope="module")
def settled_run(auto: RunConfig, drawn_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("auto") / "run")
    rescore(auto, str(drawn_archive), run, Reporter(quiet=True))
    return run


@pytest.fixture
def no_units(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The machine has no bfloat16 units from then on."""
    return lambda: monkeypatch.setattr(encoder_module, "has_bfloat16_units", lambda: False)


def dtype_of(run: RunFolder) -> object:
    return (run.header().classifier or {})["encoder"]["dtype"]


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_a_run_that_gains_is_that_of_the_written_precision(
    auto: RunConfig, half_config: RunConfig, settled_run: RunFolder, full: RunFolder, drawn_archive: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    written = RunFolder(tmp_path / "written")
    rescore(half_config, str(drawn_archive), written, Reporter(quiet=True))
    assert settled_run.scores_path.read_bytes() == written.scores_path.read_bytes()
    assert settled_run.header().classifier == written.header().classifier
    assert settled_run.header().block("classifier")["dtype"] == "auto"  # a GPU may relabel it
    assert decisions(settled_run) == decisions(full)
    assert 0 < sum(made_in_half(settled_run)) < IMAGES
    rescore(auto, str(drawn_archive), settled_run, Reporter())
    assert "scores already exist" in (said := capsys.readouterr().err) and "classifier.dtype=auto" not in said


def test_what_was_encoded_to_settle_it_is_not_encoded_again(
    auto: RunConfig, settled_run: RunFolder, drawn_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    in_half = ClipClassifier.encode_in_half

    def counted(clip: ClipClassifier, batch: ByteArray) -> FloatArray:
        encoded.append(len(batch))
        return in_half(clip, batch)

    monkeypatch.setattr(ClipClassifier, "encode_in_half", counted)
    runs = [RunFolder(tmp_path / name) for name in ("ahead", "in_turn")]
    for run in runs:
        rescore(auto, str(drawn_archive), run, Reporter(quiet=True))
        encoded.append(0)
        monkeypatch.setattr(Ahead, "take", lambda ahead, listed: None)
    first = encoded.index(0)
    assert sum(encoded[:first]) == IMAGES < sum(encoded[first:])
    ahead, in_turn = (
        {path.name: path.read_bytes() for path in (run.scores_path, *run.embeddings_folder.iterdir())} for run in runs
    )
    assert ahead == in_turn and len(ahead) > 2


@pytest.fixture
def settled(auto: RunConfig, drawn_archive: Path, tmp_path: Path) -> Settled:
    """A run folder's precision, settled, without a run."""

    def settle(run: RunFolder | None = None, **options: object) -> tuple[str | None, ClipClassifier]:
        clip = build.build_classifier(auto, load_attributes(auto.attributes.file))
        assert isinstance(clip, ClipClassifier)
        source = open_source(str(drawn_archive), options=ArchiveOptions(shard_size=SHARD))
        run = run or RunFolder(tmp_path / "run")
        found = settle_precision(run, source, list(source.shards()), clip, config=auto.scoring, **options)  # type: ignore[arg-type]
        return found.said, clip

    return settle


def test_what_gains_nothing_stays_float32(
    settled: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_units: Callable[[], None]
) -> None:
    for number, (module, name, value, why) in enumerate(
        (
            (half_module, "SMALLEST", 20_000_000, "its image tower has 3.0 million parameters"),
            (settled_precision, "FEWEST", IMAGES + 2, f"for fewer than {IMAGES + 2} images"),
            (precision, "FEWEST", IMAGES + 2, "too few images can be read"),
            (precision, "WORTH", 0.0, "images would be encoded twice"),
        )
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            said, clip = settled(RunFolder(tmp_path / str(number)))
        assert said is not None and said.startswith("classifier.dtype=auto: float32 (") and why in said
        assert clip.encoder_identity()["dtype"] == "float32" and not settled_in_half(clip)
    said, _ = settled(elsewhere=True)
    assert said == "classifier.dtype=auto: float32 (workers may sit on other machines)"
    no_units()
    assert settled(RunFolder(tmp_path / "without"))[0] == f"classifier.dtype=auto: float32 ({NO_UNITS})"


def test_a_tower_that_does_not_run_in_bfloat16_stays_float32(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise ClassifierError("no")

    monkeypatch.setattr(ClipClassifier, "encode_in_half", refuses)
    said, clip = settled()
    assert said == "classifier.dtype=auto: float32 (this image tower does not run in bfloat16)"
    assert not clip.encodes_in_half


def test_images_are_counted_as_far_as_it_takes() -> None:
    class Source:
        read_items = 0

        def read(self, shard: Shard) -> Iterator[ArchiveItem]:
            for number in range(10):
                self.read_items += 1
                yield ArchiveItem(image=None, data=b"" if number else None)  # type: ignore[arg-type]

    def holds(images: list[int | None], count: int) -> tuple[bool, int]:
        source = Source()
        shards = [Shard(id=str(n), ordinal=n, fingerprint="", images=found) for n, found in enumerate(images)]
        return settled_precision._holds(source, shards, count), source.read_items  # type: ignore[arg-type]

    assert holds([30, 30], 60) == (True, 0)
    assert holds([30, 30], 61) == (False, 0)
    assert holds([30, None, None], 36) == (True, 7)
    assert holds([None, None], 18) == (True, 20)
    assert holds([None, None], 19) == (False, 20)


# --- whoever goes on -------------------------------------------------------------------------------------------------


def killed(config: RunConfig, archive: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends after its first shard."""
    whole = Worker.score

    def score(self: Worker, shard: Shard, advance: Callable[[int], None]) -> int:
        if shard.ordinal:
            raise KeyboardInterrupt
        return whole(self, shard, advance)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "score", score)
        with pytest.raises(KeyboardInterrupt):
            rescore(config, str(archive), run, Reporter(quiet=True))


def test_a_killed_run_has_the_tables_of_one_that_was_not(
    auto: RunConfig, settled_run: RunFolder, drawn_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    killed(auto, drawn_archive, run, monkeypatch)
    monkeypatch.setattr(settled_precision, "FEWEST", IMAGES + 2)  # what would be chosen now is not asked
    rescore(auto, str(drawn_archive), run, Reporter(quiet=True))
    assert run.scores_path.read_bytes() == settled_run.scores_path.read_bytes()


def test_a_machine_without_units_goes_on_in_the_same_identity(
    auto: RunConfig, settled_run: RunFolder, full: RunFolder, drawn_archive: Path, tmp_path: Path, no_units: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = RunFolder(tmp_path / "run")
    killed(auto, drawn_archive, run, monkeypatch)
    (first,) = run.embeddings_folder.glob("part-*.arrow")
    before = first.stat().st_mtime_ns
    no_units()
    rescore(auto, str(drawn_archive), run, Reporter())
    assert f"{TWICE} (as it was begun; {NO_UNITS} and encodes in float32)" in capsys.readouterr().err
    assert first.stat().st_mtime_ns == before
    assert run.header().classifier == settled_run.header().classifier
    assert decisions(run) == decisions(full)
    facts = run.header().stages["scores"].precision
    assert facts is not None and 0 < facts["half"] == sum(made_in_half(run)) < SHARD and facts["shards_in_full"] > 0


def test_what_was_begun_in_float32_stays_so(
    auto: RunConfig, full: RunFolder, drawn_archive: Path, tmp_path: Path, no_units: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    spread, old = RunFolder(tmp_path / "spread"), RunFolder(tmp_path / "old")
    with monkeypatch.context() as patch:
        patch.setattr(encoder_module, "has_bfloat16_units", lambda: False)
        rescore_rank(auto, str(drawn_archive), spread, Reporter(quiet=True), rank=0, world_size=2)
    rescore_rank(auto, str(drawn_archive), spread, Reporter(quiet=True), rank=1, world_size=2)
    assert dtype_of(spread) == "float32"
    assert spread.scores_path.read_bytes() == full.scores_path.read_bytes()
    # ranks of an earlier version left parts and no record
    shutil.copytree(spread.path, old.path)
    for path in [old.header_path, old.scores_path, *old.embeddings_folder.glob("dtype-*")]:
        path.unlink()
    rescore(auto, str(drawn_archive), old, Reporter(quiet=True))
    assert dtype_of(old) == "float32"


def test_ranks_take_what_the_first_of_them_took(
    auto: RunConfig, full: RunFolder, settled_run: RunFolder, drawn_archive: Path, tmp_path: Path, no_units: Callable[[], None],
) -> None:  # fmt: skip
    run = RunFolder(tmp_path / "run")
    rescore_rank(auto, str(drawn_archive), run, Reporter(quiet=True), rank=1, world_size=2)
    (record,) = run.embeddings_folder.glob("dtype-*.json")
    no_units()
    rescore_rank(auto, str(drawn_archive), run, Reporter(quiet=True), rank=0, world_size=2)
    assert run.header().classifier == settled_run.header().classifier
    assert decisions(run) == decisions(full)
    assert 0 < sum(made_in_half(run)) < sum(made_in_half(settled_run))
    assert TWICE in record.read_text()


def test_a_rank_that_settles_while_another_looks_is_not_of_an_earlier_version(
    settled: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other writes its record and its first part between the looks for them."""
    run, read = RunFolder(tmp_path / "run"), settled_precision._read

    def as_another_begins(path: Path) -> str | None:
        found = read(path)
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(sealed({"dtype": TWICE, "because": "it gains"})))
            run.parts_folder.mkdir()
            (run.parts_folder / "part-0.json").touch()
        return found

    monkeypatch.setattr(settled_precision, "_read", as_another_begins)
    _, clip = settled(run)
    assert clip.encodes_in_half


def test_what_a_rank_takes_up_without_the_run_is_written_nowhere(
    auto: RunConfig, settled: Settled, settled_run: RunFolder, tmp_path: Path
) -> None:
    clip = build.build_classifier(auto, load_attributes(auto.attributes.file))
    assert isinstance(clip, ClipClassifier)
    empty = RunFolder(tmp_path / "empty")
    assert not take_up_precision(empty, clip)
    assert not clip.encodes_in_half and not empty.path.exists()
    assert take_up_precision(settled_run, clip)
    assert clip.encodes_in_half


def test_a_record_that_is_none_is_written_anew(settled: Settled, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    settled(run)
    (record,) = run.embeddings_folder.glob("dtype-*.json")
    whole = record.read_text()
    record.write_text(whole.replace(TWICE, "float32"))
    said, clip = settled(run)
    assert clip.encodes_in_half and said is not None
    assert said.startswith(f"classifier.dtype=auto: {TWICE} (this CPU multiplies bfloat16 in hardware, and ")
    assert record.read_text() == whole


def test_workers_elsewhere_and_images_beside_a_run_take_what_it_took(
    auto: RunConfig,
    settled: Settled,
    settled_run: RunFolder,
    full: RunFolder,
    tmp_path: Path,
    no_units: Callable[[], None],
) -> None:
    assert settled(settled_run, elsewhere=True)[1].encodes_in_half
    worker = real_build(auto, load_attributes(auto.attributes.file), half=True)
    assert worker.identity() == settled_run.header().classifier
    beside = RunFolder(tmp_path / "each")
    beside.update_header(kind=PICKED_KIND)
    assert not settled(beside, as_in=full)[1].encodes_in_half
    no_units()
    _, clip = settled(beside, as_in=settled_run)
    assert clip.identity() == settled_run.header().classifier and not clip.gains_by_half


def test_a_precision_that_is_written_is_obeyed(
    half_config: RunConfig, settled_run: RunFolder, full: RunFolder, drawn_archive: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(settled_run.path, run.path)
    rescore(in_precision(half_config, "float32"), str(drawn_archive), run, Reporter(quiet=True))
    assert run.scores_path.read_bytes() == full.scores_path.read_bytes()
    clip = real_build(in_precision(half_config, "float32"), load_attributes(half_config.attributes.file))
    assert isinstance(clip, ClipClassifier) and not clip.precision_open
    with pytest.raises(ClassifierError, match=r"Set classifier\.device=cpu, or score them into another folder"):
        clip.settle(half=True)


def test_relabelling_needs_no_units(
    auto: RunConfig, settled_run: RunFolder, tmp_path: Path, no_units: Callable[[], None]
) -> None:
    no_units()
    out = RunFolder(tmp_path / "out")
    relabel(settled_run, auto.attributes.file, out, Reporter(quiet=True))
    assert dtype_of(out) == TWICE
    facts = out.header().stages["scores"].precision
    assert facts is not None and facts["half"] == sum(made_in_half(settled_run)) and facts["in_doubt"] <= 2


# --- what the doctor says --------------------------------------------------------------------------------------------


def test_the_doctor_s_size_of_a_tower_is_that_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = resolve(model=None, pretrained=str(SANDBOX))
    size = tower_size_of(weights.weights)
    assert size == ClipEncoder(weights=weights, device="cpu")._size
    assert tower_size_of(SANDBOX / "open_clip_config.json") is None
    monkeypatch.setattr(encoder_module, "has_bfloat16_units", lambda: True)
    monkeypatch.setattr(half_module, "SMALLEST", 20_000_000)
    assert auto_precision("cpu", size=size, views=False).startswith("float32 (its image tower has 3.0 million")
    assert auto_precision("cpu", size=90_000_000, views=False).startswith(f"{TWICE}, if there are enough images")
    assert auto_precision("cpu", size=None, views=True) == "float32 (`stability` asks for several views of an image)"
    monkeypatch.setattr(encoder_module, "has_bfloat16_units", lambda: False)
    assert auto_precision("cpu", size=90_000_000, views=False) == f"float32 ({NO_UNITS})"
