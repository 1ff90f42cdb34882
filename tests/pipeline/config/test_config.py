"""A config is right, or there is one error that says where and how to mend it."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pytest

from allfour.errors import ConfigError
from allfour.pipeline.config import (
    load_attributes,
    load_config,
    load_prompts,
    load_reference,
    recorded_config,
    resolve_path,
)
from allfour.pipeline.config.loading import find_config
from tests.conftest import SHARED
from tests.places import REPOSITORY

CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


GOOD = "classifier: {backend: clip, model: ViT-L-14, pretrained: openai}\n"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_loads_with_its_files(path: Path) -> None:
    config = load_config(path)
    load_attributes(config.attributes.file)
    if config.prompts.file:
        load_prompts(config.prompts.file)


def test_the_twenty_occupations_are_ten_and_ten() -> None:
    prompts = load_prompts("configs/prompts/bolukbasi-extremes.yaml").prompts
    groups = [p.group for p in prompts]
    assert (len(prompts), groups.count("extreme-she"), groups.count("extreme-he")) == (20, 10, 10)


def test_the_long_list_is_the_published_one_with_its_crowd_scores() -> None:
    source = SHARED.parent / "facts" / "bolukbasi_professions.csv"
    if not source.is_file():
        pytest.skip("needs the file shared/facts/bolukbasi_professions.csv beside the repository")
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    prompts = load_prompts("configs/prompts/bolukbasi-all.yaml").prompts
    words = [re.sub(r"^a photo of an? ", "", prompt.text) for prompt in prompts]
    assert words == [row["occupation"].replace("_", " ") for row in rows]
    for prompt, row in zip(prompts, rows, strict=True):
        if prompt.group in {"she-leaning", "he-leaning"}:
            assert (float(row["stereotypical_score"]) > 0) == (prompt.group == "he-leaning")
            assert abs(float(row["definitional_score"])) < 0.5


def test_every_us_occupation_has_a_row_of_its_own_in_the_reference() -> None:
    known = load_reference("configs/references/us-labour-2019.yaml").prompts
    prompts = load_prompts("configs/prompts/us-labour.yaml").prompts
    assert len(prompts) > 20
    for prompt in prompts:
        assert known[prompt.key].source.startswith("same occupation")
        share = known[prompt.key].shares["gender"]["woman"]
        assert prompt.group == ("mostly-women" if share >= 0.6 else "mostly-men" if share <= 0.4 else "between")


def test_perceived_attributes_have_the_fairface_groups() -> None:
    attributes = load_attributes("configs/attributes/perceived.yaml")
    assert [len(attributes.labels(a)) for a in ("gender", "race", "age")] == [2, 7, 9]
    assert attributes.questions[0] == "presence"
    assert attributes.prompts("gender")["woman"][0] == "a photo of a woman."


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("classifer.x=1", ["classifer: unknown key", "Did you mean 'classifier'?"]),
        ("classifier.modle=a", ["classifier.modle: unknown key", "Did you mean 'model'?", "pretrained"]),
        ("classifier.backend=clop", ["classifier.backend: unknown value 'clop'", "Did you mean 'clip'?", "face"]),
        ("classifier.dtype=float23", ["classifier.dtype", "Did you mean 'float32'?"]),
        ("prompts.set_size=1", ["prompts.set_size", "greater than or equal to 2", "given: 1"]),
        ("scoring.batch_size=many", ["scoring.batch_size", "valid integer"]),
        ("seed=-1", ["seed", "greater than or equal to 0"]),
        ("classifier=3", ["classifier"]),
        ("no-equals", ["--set 'no-equals'", "path.to.key=value"]),
        ("seed.deeper=1", ["'seed' is no block"]),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_mend(tmp_path: Path, override: str, parts: list[str]) -> None:
    path = write(tmp_path, GOOD + "seed: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    for part in parts:
        assert part in str(caught.value)
    if "--set" not in str(caught.value).split(":")[0]:
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("classifier: [", "not valid YAML"),
        ("- a\n- b\n", "must hold a mapping"),
        (GOOD + "seed: 1\nseed: 2\n", "the key 'seed' stands twice"),
        ("seed: 1\n", "classifier: missing"),
        ("classifier: {model: x}\n", "classifier.backend: missing"),
        ("classifier: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        load_config(write(tmp_path, text))


def test_a_missing_file_offers_its_neighbour() -> None:
    with pytest.raises(ConfigError, match=r"rescor\.yaml: no such file\. .*Did you mean .*rescore\.yaml"):
        load_config(REPOSITORY / "configs" / "rescor.yaml")


def test_overrides_are_typed_and_reach_new_blocks(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, GOOD), ["scoring.batch_size=7", "prompts.set_size=8", "notice=a plain text", "name="]
    )
    assert (config.scoring.batch_size, config.prompts.set_size) == (7, 8)
    assert config.name == "run"


@pytest.mark.parametrize(
    ("file", "overrides", "expected"),
    [
        (
            "classifier: {backend: clip, model: ViT-L-14, pretrained: openai}",
            ["classifier.backend=face"],
            {"min_face": 0},
        ),
        (
            "classifier: {backend: clip, model: ViT-L-14, pretrained: openai}",
            ["classifier.probe=p.safetensors", "classifier.backend=linear-probe"],
            {"probe": "@/p.safetensors", "model": "ViT-L-14", "pretrained": "openai"},
        ),
        (
            "classifier: {backend: clip, pretrained: a, people: {detector: face, enlarge: 2}}",
            ["classifier.people.detector=none"],
            {"pretrained": "a", "people": {"detector": "none"}},
        ),
        ("classifier: {backend: face}", ["classifier=null", "classifier.backend=clip"], {"backend": "clip"}),
        ("classifier: {backend: clip, pretrained: a}", ["classifier.backend=clip"], {"pretrained": "a"}),
    ],
)
def test_a_backend_is_swapped_by_one_override(
    tmp_path: Path, file: str, overrides: list[str], expected: dict[str, object]
) -> None:
    (tmp_path / "p.safetensors").touch()
    found = load_config(write(tmp_path, file), overrides).classifier.model_dump()
    wanted = {
        key: value.replace("@", str(tmp_path)) if isinstance(value, str) else value for key, value in expected.items()
    }
    assert {key: found[key] for key in expected} == wanted


def test_keys_set_for_another_backend_are_still_mistakes(tmp_path: Path) -> None:
    for overrides in (
        ["classifier.model=a", "classifier.backend=face"],
        ["classifier.backend=face", "classifier.model=a"],
    ):
        with pytest.raises(ConfigError, match=r"classifier\.model: unknown key"):
            load_config(write(tmp_path, GOOD), overrides)


def test_a_block_that_is_null_can_be_filled(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").touch()
    config = load_config(write(tmp_path, GOOD + "reference: null\n"), ["reference.file=r.yaml"])
    assert config.reference is not None
    assert config.reference.file == str(tmp_path / "r.yaml")


def test_a_key_that_earlier_versions_had_is_unknown_in_a_config_and_read_from_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"statistics\.bootstrap: unknown key"):
        load_config(write(tmp_path, GOOD + "statistics: {bootstrap: 2000, confidence: 0.9}\n"))
    header = {
        "classifier": {"backend": "face"},
        "statistics": {"bootstrap": 2000, "confidence": 0.9, "seed": 3},
    }
    config = recorded_config(header, where="run.json", overrides=["prompts.set_size=5"])
    assert (config.statistics.confidence, config.statistics.seed, config.prompts.set_size) == (0.9, 3, 5)
    assert header["statistics"]["bootstrap"] == 2000  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"run\.json: statistics\.bootstrap: unknown key"):
        recorded_config(header, where="run.json", overrides=["statistics.bootstrap=9"])
    with pytest.raises(ConfigError, match=r"run\.json: statistics\.bootsrap: unknown key"):
        recorded_config({**header, "statistics": {"bootsrap": 1}}, where="run.json")
    for broken in (None, [], {"statistics": 1, "classifier": {"backend": "face"}}):
        with pytest.raises(ConfigError, match=r"run\.json"):
            recorded_config(broken, where="run.json")


def test_configs_are_frozen(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 4  # type: ignore[misc]


def test_a_path_is_looked_for_beside_the_config_then_here_then_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "configs/attributes").mkdir(parents=True)
    monkeypatch.chdir(here)
    name = "configs/attributes/perceived.yaml"
    config = write(tmp_path, GOOD)
    packaged = resolve_path(name)
    assert packaged == REPOSITORY / name
    assert load_config(config, [f"attributes.file={name}"]).attributes.file == name  # by name: the same on any machine
    for folder in (here, tmp_path):
        mine = folder / name
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.write_text(packaged.read_text())
        assert load_config(config, [f"attributes.file={name}"]).attributes.file == str(mine)


def test_a_path_that_stands_nowhere_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, GOOD), ["attributes.file=configs/attributes/perceivd.yaml"])
    assert "Did you mean configs/attributes/perceived.yaml?" in str(error.value)
    for place in (tmp_path, Path.cwd()):
        assert str(place / "configs/attributes/perceivd.yaml") in str(error.value)


def test_a_config_that_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, why in ((tmp_path, "is a folder"), (pipe, "is no regular file"), (Path("a" * 300), "no such file"), (Path("a\0b"), "no such file")):  # fmt: skip
        with pytest.raises(ConfigError, match=why):
            load_config(path)
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        load_prompts(tmp_path)


def test_a_pattern_is_told_in_words_and_what_follows_from_a_mistake_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text('name: p\nprompts: [{id: "Nurse A", text: a nurse}]\n')
    with pytest.raises(ConfigError) as error:
        load_prompts(path)
    assert str(error.value).splitlines() == [
        f"{path}: prompts.0.id: it may hold lower-case letters, digits, _ and -, beginning with a letter or digit, 64 at most (given: 'Nurse A')"
    ]


@pytest.mark.parametrize("text", ["  ", "\\u200b", "\\u3164 \\u00ad"])
def test_a_prompt_without_a_word_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f'name: p\nprompts: [a nurse, "{text}"]\n')
    with pytest.raises(ConfigError, match=r"prompts\.1\.text: a prompt without a word"):
        load_prompts(path)


def test_a_packaged_config_goes_by_its_name() -> None:
    for path in CONFIGS:
        assert find_config(Path(path.stem)) == path
    assert load_config(Path("sandbox")) == load_config(REPOSITORY / "configs/sandbox.yaml")


def test_two_prompts_with_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("name: x\nprompts: [{id: a, text: one}, {id: a, text: two}]\n")
    with pytest.raises(ConfigError, match="two prompts have the id 'a'"):
        load_prompts(path)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("attributes: {gender: {labels: {woman: [a woman]}}}", "at least two labels"),
        ("attributes: {gender: {labels: {woman: [a], ambiguous: [b]}}}", "may not be named 'ambiguous'"),
        ("attributes: {gender: {labels: {woman: [a], refused: [b]}}}", "may not be named 'refused'"),
        (
            "attributes: {gender: {labels: {woman: [a], man: [b]}}, race: {labels: {x: [a], failed: [b]}}}",
            "named 'failed'",
        ),
        ("attributes: {race: {labels: {a: [a], b: [b]}}}", "headline 'gender' is not one"),
        ("templates: [a photo]\nattributes: {gender: {labels: {a: [a], b: [b]}}}", "exactly once"),
        (
            "presence: {labels: {person: [a], nobody: [b]}}\nattributes: {gender: {labels: {a: [a], b: [b]}}}",
            "exactly the labels",
        ),
        ("attributes: {gender: {margin: 1.5, labels: {a: [a], b: [b]}}}", "attributes.gender.margin"),
        ("attributes: {gender: {labels: {'<b>': [a], b: [b]}}}", "cannot be used as a name"),
    ],
)
def test_attribute_files_are_checked(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=part):
        load_attributes(path)


def test_a_new_attribute_is_a_yaml_edit(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "attributes:\n  gender: {labels: {woman: [a woman], man: [a man]}}\n"
        "  mobility: {labels: {wheelchair: [a person in a wheelchair], none: [a person]}, templates: ['a photo of {}']}\n"
    )
    assert load_attributes(path).prompts("mobility")["wheelchair"] == ("a photo of a person in a wheelchair",)


def test_wording_hash_follows_wording_and_not_margins(tmp_path: Path) -> None:
    texts = [
        "attributes: {gender: {margin: 0.1, labels: {woman: [a woman], man: [a man]}}}",
        "attributes: {gender: {margin: 0.3, labels: {woman: [a woman], man: [a man]}}}",
        "attributes: {gender: {margin: 0.1, labels: {woman: [a lady], man: [a man]}}}",
    ]
    hashes = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        hashes.append(load_attributes(path).wording_sha256())
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: &a [*a]\n", "name.0: it holds itself"),
        (
            "generator: {extra_body: &a {b: *a}}\n",
            "not valid YAML: found unconstructable recursive node",
        ),
        ("generator: {extra_body: &a [{b: *a}]}\n", "generator.extra_body.0.b: it holds itself"),
        ("statistics: {confidence: .nan}\n", "statistics.confidence: nan is not a finite number"),
        ("generator: {extra_body: {cfg: [1, -.inf]}}\n", "generator.extra_body.cfg.1: -inf is not a finite number"),
        ("generator: " + "[\n " * 3000 + "]" * 3000 + "\n", "not valid YAML|nested too deeply"),
    ],
)
def test_what_json_cannot_hold_is_refused(tmp_path: Path, text: str, part: str) -> None:
    path = write(tmp_path, GOOD + text)
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}: ({part})"):
        load_config(path)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("generator.guidance_scale=.inf", r"--set: generator\.guidance_scale: inf is not a finite number"),
        ("generator.extra_body={x: [.nan]}", r"--set: generator\.extra_body\.x\.0: nan is not a finite number"),
        ("name=&a [*a]", r"--set: name\.0: it holds itself"),
        ("name=" + "[\n" * 3000, "--set name: .*nested too deeply"),
    ],
)
def test_what_json_cannot_hold_is_refused_in_overrides(tmp_path: Path, override: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        load_config(write(tmp_path, GOOD), [override])


def test_an_alias_that_stands_twice_is_no_circle(tmp_path: Path) -> None:
    path = write(tmp_path, "name: &n x\nnotice: *n\nclassifier: {backend: face}\ngenerator: {backend: openai-images, model: m, "
                           "extra_body: {a: &a [1], b: *a}}\n")  # fmt: skip
    assert load_config(path).generator.extra_body == {"a": [1], "b": [1]}  # type: ignore[union-attr]
    # a text that YAML takes for a date that there is not
    assert load_config(path, ["name=2026-13-99"]).name == "2026-13-99"


def test_aliases_that_stand_for_millions_of_values_are_refused_at_once(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    with pytest.raises(ConfigError, match=r"aliases .* stand for more than 1,000,000 values"):
        load_config(write(tmp_path, bomb + GOOD))


def test_merge_keys_bring_what_a_block_does_not_say(tmp_path: Path) -> None:
    text = "classifier: &base {backend: clip, model: ViT-L-14, pretrained: openai}\nprompts: {set_size: 4}\n"
    path = tmp_path / "prompts.yaml"
    path.write_text("name: x\nprompts: [&one {id: a, text: one, group: g}, {<<: *one, id: b, text: two}]\n")
    assert [(p.id, p.group) for p in load_prompts(path).prompts] == [("a", "g"), ("b", "g")]
    assert load_config(write(tmp_path, text)).classifier.backend == "clip"


@pytest.mark.parametrize("value", ["9" * 5000, "x" * 100_000, "1" + "0" * 40])
def test_huge_values_give_short_errors(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, GOOD + f"scoring: {{batch_size: {value}}}\n"))
    assert len(str(error.value)) < 600


def test_the_closest_bundled_config_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"dalle-2: no such file\. .* Did you mean dalle2, which comes with allfour\?$"
    ):
        load_config(Path("dalle-2"))
    (tmp_path / "st.yaml").write_text("")  # nothing like it but for its ending
    with pytest.raises(ConfigError, match=r"COPY\.yaml$"):
        load_config(Path("COPY.yaml"))


def test_a_pattern_of_one_field_is_a_text(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = load_config(path, ["archive.path_pattern={key}", "archive.prompt_from=path"])
    assert config.archive.path_pattern == "{key}"


@pytest.mark.parametrize("text", ["- a nurse\n", "a nurse\na doctor\n", "id,text\nnurse,a nurse\n"])
def test_a_list_of_prompts_is_told_how_a_set_is_written(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: must hold a mapping.* A prompt set is YAML: `name: NAME`"):
        load_prompts(write(tmp_path, text))
