import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.config import Recipe
from genrec.errors import ConfigError
from genrec.recipe_file import (
    builtin_names,
    describe_recipe,
    dump_recipe,
    key_paths,
    load_recipe,
    parse_recipe,
    schema,
    write_recipe,
)
from genrec.recipe_yaml import read_scalar

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_in_configs_loads_by_path_and_by_name(path):
    by_path = load_recipe(path)
    assert load_recipe(path.stem) == by_path
    assert path.stem in builtin_names()
    # What the file says is what the recipe holds, read by a loader of its own.
    raw = yaml.safe_load(path.read_text())
    dumped = by_path.model_dump(mode="json")
    for section, values in raw.items():
        if isinstance(values, dict):
            assert set(values) <= set(dumped[section])
        else:
            assert dumped[section] == values


def test_quickstart_recipes_differ_in_the_model_they_train():
    assert load_recipe("quickstart").train.language_model == "smollm2"
    assert load_recipe("quickstart-fast").train.language_model is None


def test_all_problems_come_at_once_each_with_its_path():
    text = """
name: ../escape
levels: 4
cf: 3
index: {levels: true, levls: 3}
train: {form: streem, epochs: '3', lora: {targets: 5}}
evaluate: {cutoffs: [1, a, 0]}
recommend: {models: [sasrek], bem: 3}
serve: {port: 99999999}
"""
    with pytest.raises(ConfigError) as caught:
        parse_recipe(text, ["broken", "evaluate.bootstrap=[1"], shown="my.yaml")
    head, *lines = str(caught.value).split("\n")
    problems = {line.strip().partition(":")[0]: line for line in lines}
    assert head == f"my.yaml has {len(lines)} problems:"
    expected = {
        "--set broken": ["table.key=value"],
        "--set evaluate.bootstrap=[1": ["not YAML"],
        "index.levls": ["unknown key", "given 3", "did you mean index.levels?"],
        "recommend.bem": ["unknown key", "did you mean recommend.beam?"],
        "levels": ["unknown key", "given 4", "did you mean index.levels?"],
        "name": ["'../escape'", "letters, digits"],
        "cf": ["given 3", "a table of keys"],
        "index.levels": ["given True", "a whole number"],
        "train.form": ["'streem'", "'stream' or 'instruction'", "did you mean stream?"],
        "train.epochs": ["given '3'", "a number"],
        "train.lora.targets": ["given 5", "a list or 'all-linear'"],
        "evaluate.cutoffs[1]": ["given 'a'", "a whole number"],
        "evaluate.cutoffs[2]": ["given 0", "at least 1"],
        "recommend.models[0]": ["'sasrek'", "did you mean sasrec?"],
        "serve.port": ["99999999", "at most 65535"],
    }
    assert set(problems) == set(expected) and len(lines) == len(expected)
    for path, words in expected.items():
        for word in words:
            assert word in problems[path]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=.inf", "a finite number"),
        ("cf.learning_rate=.nan", "a finite number"),
        ("evaluate.cutoffs=[]", "at least one entry"),
        ("recommend.models=[]", "at least one entry"),
        ("train.max_steps=0", "at least 1 or -1"),
        ("train.max_steps=-7", "at least 1 or -1"),
        ("index.codes_per_level=100000000", "at most 65536"),
        ("runtime.device=banana", "auto, cpu, cuda, cuda:N or mps"),
        ("runtime.device=cuda:", "auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_values_that_mean_nothing_are_refused_before_anything_runs(override, expected):
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=f"  {key}: given .*, expected {expected}$"):
        parse_recipe("{}", [override])


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_devices(device):
    assert parse_recipe("{}", [f"runtime.device={device}"]).runtime.device == device


def test_overrides_reach_nested_keys_lists_and_null():
    recipe = parse_recipe(
        "index: {levels: 4}",
        [
            "index.levels=2",
            "train.lora.rank=8",
            "evaluate.cutoffs=[1, 3]",
            "data.separator=::",
            "embed.prompt=query: ",
            "train.learning_rate=1e-3",
            "recommend.users=",
            "data.split.test_from=2024-01-31",
            "data.path='a b'",
        ],
    )
    assert recipe.index.levels == 2
    assert recipe.train.lora.rank == 8
    assert recipe.evaluate.cutoffs == [1, 3]
    assert recipe.data.separator == "::"
    assert recipe.embed.prompt == "query: "
    assert recipe.train.learning_rate == 0.001
    assert recipe.recommend.users is None
    assert recipe.data.split.test_from == "2024-01-31"
    assert recipe.data.path == "a b"
    assert recipe.train.epochs == Recipe().train.epochs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("# only a comment", ["is empty"]),
        ("- a\n- b", ["expected tables"]),
        ("just words", ["expected tables"]),
        ("index: {levels: 3}\nindex: {levels: 4}", ["line 2", "'index' is given twice", "line 1"]),
        ("index:\n  levels: 3\n  levels: 4", ["line 3", "twice"]),
        ("index:\n\tlevels: 3", ["line 2", "spaces, not tabs"]),
        ("index: [", ["not YAML", "line 1"]),
        ("index: !!python/object/apply:os.getcwd []", ["not YAML", "line 1"]),
        ("a: &x [*x]", ["not YAML"]),
        ("? [a]\n: b", ["line 1", "plain text"]),
        ("x: " + "{a: " * 30000, ["nested too deeply"]),
        ("name: \x00", ["not YAML"]),
    ],
)
def test_what_is_no_recipe_gets_a_clear_error(text, words):
    with pytest.raises(ConfigError) as caught:
        parse_recipe(text, shown="my.yaml")
    assert str(caught.value).startswith("my.yaml")
    for word in words:
        assert word in str(caught.value)


def test_files_with_bom_are_read_and_other_encodings_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfindex: {levels: 5}\r\n")
    assert load_recipe(path).index.levels == 5
    path.write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_recipe(path)


def test_a_recipe_that_is_not_there_lists_the_built_in_ones(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean quickstart") as caught:
        load_recipe("quikstart")
    for name in builtin_names():
        assert name in str(caught.value)
    with pytest.raises(ConfigError, match="no recipe or run folder 'runs/gone'"):
        load_recipe("runs/gone")
    with pytest.raises(ConfigError, match="is a folder"):
        load_recipe(tmp_path)


def test_yaml_scalars_follow_version_1_2():
    assert parse_recipe("name: no").name == "no"
    assert parse_recipe("seed: 010").seed == 10
    assert parse_recipe("train: {learning_rate: 1e-3}").train.learning_rate == 1e-3
    with pytest.raises(ConfigError, match="runtime.threads: given 'yes'"):
        parse_recipe("runtime: {threads: yes}")


def test_printed_recipes_read_back_to_the_same_recipe(tmp_path):
    recipe = parse_recipe(
        "embed: {prompt: '1e3', model: 'null'}\ndata: {separator: '\\t', path: 'x: #y'}\n"
        "evaluate: {cutoffs: [3]}\ntrain: {lora: {targets: [q_proj]}, warmup: 0.00001}"
    )
    assert recipe.embed.prompt == "1e3"
    assert parse_recipe(dump_recipe(recipe)) == recipe
    assert parse_recipe(describe_recipe(recipe)) == recipe
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30).filter(lambda text: text.isprintable()))
def test_any_printable_text_survives_printing(text):
    recipe = Recipe().model_copy(
        update={"embed": Recipe().embed.model_copy(update={"prompt": text})}
    )
    assert parse_recipe(dump_recipe(recipe)).embed.prompt == text
    assert parse_recipe(describe_recipe(recipe)).embed.prompt == text


def test_described_recipes_name_every_key_with_help_and_unit():
    lines = describe_recipe(Recipe()).split("\n")
    keys = [line.strip().partition(":")[0] for line in lines if line and "#" not in line]
    assert keys == [path.rpartition(".")[2] for path in key_paths()]
    above = lines[lines.index("  levels: null") - 1]
    assert above == "  # Codes per item; null takes 2 up to 26,214 items and 3 beyond. [codes]"


def test_schema_is_json_and_closed():
    body = json.loads(schema())
    assert set(body["properties"]) == set(Recipe.model_fields)
    assert body["additionalProperties"] is False


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("-1", -1), ("true", True), ("", None), ("~", None), ("a=b", "a=b"), ("'3'", "3"),
     ("{a: 1}", {"a": 1}), ("::", "::"), ("- a", "- a"), ("1_000", "1_000")],
)  # fmt: skip
def test_scalars_of_overrides(text, value):
    result = read_scalar(text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("name", builtin_names())
def test_a_recipe_that_takes_texts_from_the_hub_pins_the_commit(name):
    """The embed stage refuses a hub id without one."""
    embed = load_recipe(name).embed
    if embed.method == "sentence_transformer":
        assert len(embed.revision) == 40 and int(embed.revision, 16)
