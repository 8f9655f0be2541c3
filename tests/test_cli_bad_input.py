"""What a person gets from the command line for wrong ids, wrong folders and damaged runs."""

import shutil

import pytest

from genrec.cli_stages import _item_ids
from genrec.errors import RequestError
from tests.tiny_run import invoke


@pytest.fixture
def copy(run_folder, tmp_path):
    """Return a copy of the finished tiny run that may be damaged."""
    return shutil.copytree(run_folder, tmp_path / "copy [b]")


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb,c", "\na,b\nc"])
def test_a_history_of_several_lines_is_refused(text):
    with pytest.raises(RequestError, match="more than one line"):
        _item_ids(text)


@pytest.mark.parametrize("text", ['"a,b', 'a,"b" c', '"'])
def test_a_quote_that_does_not_close_is_refused(text):
    with pytest.raises(RequestError, match="cannot be cut into ids .*double quotes"):
        _item_ids(text)


def test_ids_keep_what_looks_like_numbers_quotes_and_other_scripts():
    assert _item_ids("007, 1e3,0x1F") == ["007", "1e3", "0x1F"]
    assert _item_ids('27" screen,"say ""hi""",\u65e5\u672c\n') == [
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
