"""What a person gets from the command line for wrong ids, wrong folders and damaged runs."""

import json
import shutil

import pytest

from genrec.cli_request import read_ids
from genrec.data.dataset import Dataset
from genrec.errors import RequestError
from tests.tiny_run import invoke


@pytest.fixture
def copy(run_folder, tmp_path):
    """Return a copy of the finished tiny run that may be damaged."""
    return shutil.copytree(run_folder, tmp_path / "copy [b]")


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb,c", "\na,b\nc"])
def test_a_history_of_several_lines_is_refused(text):
    with pytest.raises(RequestError, match="more than one line"):
        read_ids(text, "--history")


@pytest.mark.parametrize("text", ['"a,b', 'a,"b" c', '"'])
def test_a_quote_that_does_not_close_is_refused(text):
    with pytest.raises(RequestError, match="cannot be cut into ids .*double quotes"):
        read_ids(text, "--history")


def test_ids_keep_what_looks_like_numbers_quotes_and_other_scripts():
    assert read_ids("007, 1e3,0x1F", "--history") == ["007", "1e3", "0x1F"]
    assert read_ids('27" screen,"say ""hi""",\u65e5\u672c\n', "--history") == [
        '27" screen', 'say "hi"', "\u65e5\u672c",
    ]  # fmt: skip


def test_a_wrong_history_is_one_message(run_folder):
    result = invoke("recommend", run_folder, "--history", "a\nb")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: --history holds more than one line, expected ids split by commas.\n"
    )


@pytest.mark.parametrize("verb", ["recommend", "serve"])
def test_a_folder_that_holds_no_model_is_named(run_folder, tmp_path, verb):
    more = ["--history", "a"] if verb == "recommend" else ["--port", "0"]
    result = invoke(verb, run_folder / "dataset", *more)
    assert result.exit_code == 1
    assert "dataset holds a 'dataset', expected a model; give the run folder" in result.stderr
    result = invoke(verb, tmp_path / "gone", *more)
    assert result.exit_code == 1
    assert f"no recipe or run folder '{tmp_path / 'gone'}'" in result.stderr


@pytest.mark.parametrize(
    "damaged",
    [
        "dataset/users.parquet",
        "dataset/catalog.parquet",
        "dataset/interactions.parquet",
        "dataset/manifest.json",
        "index/quality.json",
        "report/report.json",
        "recipe.yaml",
        "timings.json",
    ],
)
@pytest.mark.parametrize("delete", [False, True])
def test_show_names_the_damaged_file(copy, damaged, delete):
    path = copy / damaged
    if delete:
        path.unlink()
    else:
        path.write_bytes(bytes(byte ^ 0x5A for byte in path.read_bytes()))
    result = invoke("show", copy)
    assert isinstance(result.exception, SystemExit | None)
    if delete and damaged in ("timings.json", "dataset/manifest.json"):
        assert result.exit_code == 0
        return
    assert result.exit_code == 1
    assert (str(path) in result.stderr) or (delete and damaged == "recipe.yaml")


def test_show_prints_brackets_of_a_path_as_they_are(copy):
    assert "copy [b]" in invoke("show", copy).stdout
    assert "[b]/model: model" in invoke("show", copy / "model").stdout


def test_a_model_trained_on_another_index_is_not_recommended_with(copy):
    changed = invoke("index", copy, "--quiet", "--set", "index.codes_per_level=7")
    assert changed.exit_code == 0, changed.output
    result = invoke("recommend", copy, "--quiet")
    assert result.exit_code == 1
    assert f"{copy / 'model'} was made from index" in result.stderr
    assert f"Run `genrec train {copy}` again" in result.stderr


def test_a_history_that_is_no_text_is_refused(run_folder):
    """Bytes that are no UTF-8 reach a program as half characters, which JSON output cannot hold."""
    result = invoke("recommend", run_folder, "--history", "a\udcff", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: --history is 'a\\udcff', which is no UTF-8 text; send item ids.\n"
    )


def test_a_long_history_is_cut_and_it_is_said(run_folder):
    ids = Dataset.load(run_folder / "dataset").catalog.item_ids
    history = ",".join([*(ids[number % 3] for number in range(10_000)), "ghost"])
    result = invoke("recommend", run_folder, "--history", history, "-k", 2)
    assert result.exit_code == 0
    assert result.stderr == (
        "Not in the catalogue, left out: ghost\n"
        "The model read the newest 20 of 10000 items of the history.\n"
    )


def test_of_many_unknown_ids_some_are_named_and_all_counted(run_folder):
    history = ",".join(f"ghost{number}" for number in range(1000))
    result = invoke("recommend", run_folder, "--history", history, "-k", 2)
    assert result.exit_code == 0
    first, second = result.stderr.splitlines()
    assert first.endswith(", ghost19 and 980 more")
    assert second == "popularity: the history holds no known item"


def test_rules_come_from_a_file(run_folder, tmp_path):
    ids = Dataset.load(run_folder / "dataset").catalog.item_ids
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"allow": [ids[5]], "deny": ["x"] * 200_000}), encoding="utf-8-sig")
    result = invoke(
        "recommend", run_folder, "--history", ids[0], "--rules", f"@{path}", "--json", "-k", 2
    )
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert [item["item_id"] for item in answer["items"]] == [ids[5]]
    first, second = result.stderr.splitlines()
    assert first == "Rules: deny (200000 ids, 200000 not in the catalogue), allow (1 ids)."
    assert "the rules allow 1" in second


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read ([Errno 2] No such file"),
        ("folder", "cannot be read ([Errno 21] Is a directory"),
        (b"", "is no JSON (Expecting value"),
        (b"{'deny': []}", "is no JSON (Expecting property name"),
        (b'{"deny": ["\xff"]}', "is no UTF-8 text"),
        (b"[" * 100_000, "is no JSON (maximum recursion depth"),
        (b'{"boosts": {"a": ' + b"9" * 5000 + b"}}", "is no JSON (Exceeds the limit"),
        (b"[]", "has [], expected an object with deny, allow, where"),
        (b'{"denny": []}', "has the keys 'denny', expected an object with deny, allow, where"),
        (b'{"deny": null}', "deny is None, expected a list"),
        (b'{"named": null}', "named is None, expected a list"),
        (b'{"boosts": {"a": NaN}}', "the boost of 'a' is nan, expected a number between"),
        (b'{"where": ' + b'{"not":' * 500 + b"1" + b"}" * 501, "10 of them inside each other"),
    ],
)
@pytest.mark.parametrize("everyone", [False, True])
def test_rules_that_cannot_be_read_are_one_message(run_folder, tmp_path, content, words, everyone):
    path = tmp_path / "rules.json"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    output = tmp_path / "lists.parquet"
    wanted = ["--all-users", output] if everyone else ["--history", "a"]
    result = invoke("recommend", run_folder, *wanted, "--rules", f"@{path}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in " ".join(result.stderr.split())
    assert list(tmp_path.glob("lists*")) == []


def test_a_beam_of_any_width_is_no_wider_than_the_catalogue(run_folder):
    ids = Dataset.load(run_folder / "dataset").catalog.item_ids
    asked = ["recommend", run_folder, "--history", ids[0], "--json", "-k", 5]
    wide = invoke(*asked, "--set", f"recommend.beam={2**70}")
    assert wide.exit_code == 0, wide.exception
    assert wide.stdout == invoke(*asked, "--set", f"recommend.beam={len(ids)}").stdout


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_refused(run_folder, k):
    result = invoke("recommend", run_folder, "--history", "a", "-k", k)
    assert result.exit_code == 2
    assert "greater than or equal to 1" in result.stderr


@pytest.mark.parametrize("k", [10_000, 2**70])
def test_k_beyond_the_catalogue_is_answered_with_the_reason(run_folder, k):
    ids = Dataset.load(run_folder / "dataset").catalog.item_ids
    result = invoke("recommend", run_folder, "--history", ids[0], "-k", k, "--json")
    assert len(json.loads(result.stdout)["items"]) == len(ids) - 1
    assert f"{k} items were asked for and {len(ids) - 1} returned" in result.stderr
