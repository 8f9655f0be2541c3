"""The flow benchmark: merged rows, bars, the page, the decoding step, and the service's checks."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from genrec.data.ranking import Ranking
from genrec.errors import DataError
from genrec.evaluation.results import Report
from tests.serving.world import build

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
flow, flow_checkout, flow_decoding, flow_page, flow_rows, flow_runs, flow_serve = (
    importlib.import_module(name)
    for name in (
        "flow", "flow_checkout", "flow_decoding", "flow_page", "flow_rows", "flow_runs",
        "flow_serve",
    )
)  # fmt: skip
sys.path.remove(str(BENCHMARKS))


def row(step, **values):
    stamp = flow_rows.stamp("some command", 1)
    return flow_rows.stamped(step, [flow_rows.figures("Some", **values)], stamp, 1.26)[0]


def test_a_step_replaces_its_own_rows_and_no_others():
    old = [row("serve", a=1), row("quickstart", a=2), row("serve", a=3)]
    merged = flow_rows.merge(old, [row("serve", a=4)], "serve")
    assert [(one["step"], one["a"]) for one in merged] == [("quickstart", 2), ("serve", 4)]
    assert [one["a"] for one in old] == [1, 2, 3]


def test_rows_of_other_or_unknown_steps_are_refused():
    with pytest.raises(DataError, match="'ci' was given for step 'serve'"):
        flow_rows.merge([], [row("ci")], "serve")
    with pytest.raises(DataError, match="unknown steps"):
        flow_rows.merge([{"step": "other"}], [row("ci")], "ci")


def test_every_row_says_how_it_was_measured():
    one = row("ci", seconds=3.0)
    assert set(flow_rows.STAMP) <= set(one)
    assert (one["step"], one["kind"], one["step_seconds"], one["seed"]) == ("ci", "figures", 1.3, 1)


def test_a_damaged_file_is_refused_and_a_missing_one_is_empty(tmp_path):
    assert flow_rows.read_rows(tmp_path / "flow.json") == []
    for text in ("{", '{"rows": [{}]}', "[]"):
        (tmp_path / "flow.json").write_text(text)
        with pytest.raises(DataError, match="cannot be read as results"):
            flow_rows.read_rows(tmp_path / "flow.json")


@pytest.mark.parametrize(
    ("relation", "below", "same", "over"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
        ("==", False, True, False),
    ],
)
def test_bars(relation, below, same, over):
    met = [flow_rows.bar("x", value, relation, 7)["met"] for value in (6.9, 7, 7.1)]
    assert met == [below, same, over]


def test_folders_of_this_machine_are_named():
    names = {Path("/"): "ROOT", Path("/data/x"): "DATA"}
    assert flow_rows.without_paths("/data/x/y and /other", names) == "DATA/y and /other"


def test_the_page_shows_bars_tables_and_what_is_missing():
    stamp = flow_rows.stamp("the | command", 5)
    rows = flow_rows.stamped(
        "quickstart",
        [
            flow_rows.figures("Test part", **{"model": "a", "recall@10": 0.25, "ndcg@10": 0.5}
                | {"recall@10_low": 0.125, "recall@10_high": 0.375, "recall@5": 0.9}),
            flow_rows.bar("own time", 700.0, "<", 600, "seconds"),
            flow_rows.bar("share", 0.75, ">=", 0.7),
        ],
        stamp,
        700.0,
    ) + flow_rows.stamped("ci", [flow_rows.failure("it broke")], stamp, 2.0)  # fmt: skip
    text = flow_page.page(
        {"rows": rows, "command": "c", "seeds": [5], "noise": "n", "notes": {"why": "so"}}
    )
    lines = text.splitlines()
    assert "| quickstart | own time | under 600 seconds | 700 | **missed** |" in lines
    assert "| quickstart | share | at least 0.7 | 0.75 | met |" in lines
    assert "| ci |  |  |  | failed |" in lines
    assert "| serve |  |  |  | not measured |" in lines
    assert "| model | recall@10 | ndcg@10 |" in lines
    assert "| a | 0.25 [0.125, 0.375] | 0.5 |" in lines
    assert "Failed: it broke" in lines
    assert "- Seconds: 700 (wall clock)" in lines
    assert "- why: so" in lines


def report(part="test", best=None):
    recalls = {"popularity": 0.1, "transition": 0.2, "sasrec": 0.3, "genrec": 0.25}
    rows = [
        {"model": name, "examples": 50, "recall@10": value, "ndcg@10": value / 2, "mrr@10": 0.0}
        for name, value in recalls.items()
    ]
    difference = {"model": "genrec", "reference": "sasrec", "recall@10": -0.05}
    return Report(rows, [], [difference], [], {"part": part, "examples": 50}, best or {})


def finished(folder, saved, seconds=100.0):
    (folder / "report").mkdir(parents=True)
    saved.save(folder / "report")
    (folder / "timings.json").write_text('{"data": 40.0, "train": 60.0}')
    return flow_runs.Finished(folder, seconds, "wall clock")


def verdicts(rows):
    return {one["bar"]: one["met"] for one in rows if one["kind"] == "bar"}


def test_bars_of_the_quickstart(tmp_path):
    best = {"recall@10": 0.4, "ndcg@10": 0.3, "expected_recall@10": 0.5}
    rows = flow_runs.quickstart(finished(tmp_path, report(best=best)), limit=100)
    assert verdicts(rows) == {
        "own time, install apart": False,
        "recall@10 above transition counts": True,
        "recall@10 above popularity": True,
        "share of the best possible recall@10": False,  # 0.25 / 0.4 = 0.625
    }
    shown = {one["model"]: one for one in rows if "model" in one}
    assert shown["genrec"]["share_of_best"] == pytest.approx(0.25 / 0.4)
    assert shown["best possible, these events"]["recall@10"] == 0.4
    assert shown["best possible, expected"]["recall@10"] == 0.5


def test_bars_of_movietweetings(tmp_path):
    done = finished(tmp_path / "run", report())
    finished(tmp_path / "validation", report("validation"))
    rows = flow_runs.movietweetings(done, tmp_path / "validation")
    assert list(verdicts(rows).values()) == [True, False, False, True, False]
    tables = [one["table"] for one in rows if one["kind"] == "figures"]
    assert tables.count("Test part, 50 users") == tables.count("Validation part, 50 users") == 4
    assert tables.count("Minus sasrec, test") == 1


def test_bars_of_smollm2(tmp_path):
    done = finished(tmp_path, report(), seconds=2700)
    with pytest.raises(flow_runs.StepError, match="no page of examples"):
        flow_runs.smollm2(done)
    (tmp_path / "report" / "examples.md").write_text("## 1. User a\n\nx\n\n## 2. User b\n")
    assert list(verdicts(flow_runs.smollm2(done)).values()) == [False, False, True]


def test_a_run_folder_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "mine").write_text("keep me")
    with pytest.raises(flow_runs.StepError, match="timed in a fresh folder"):
        flow_runs.run(["run"], tmp_path, None, "refuse")
    with pytest.raises(flow_runs.StepError, match="is not deleted"):
        flow_runs.run(["run"], tmp_path, None, "replace")
    assert (tmp_path / "mine").read_text() == "keep me"


def test_the_last_words_of_a_failed_command_are_kept():
    script = "import sys; print('one', file=sys.stderr); print('Error: two', file=sys.stderr)"
    with pytest.raises(flow_runs.StepError, match="exit code 3 after: one Error: two"):
        flow_runs.call([sys.executable, "-c", f"{script}; sys.exit(3)"])
    assert flow_runs.call([sys.executable, "-c", "pass"]) > 0


def test_a_failed_step_is_recorded_and_keeps_the_others(tmp_path, capsys):
    assert flow.main(["ci", "--seconds", "500", "--results", str(tmp_path)]) == 0
    words = ["serve", "--run", str(tmp_path / "none"), "--results", str(tmp_path)]
    assert flow.main(words) == 1
    rows = json.loads((tmp_path / "flow.json").read_text())["rows"]
    [failed] = [one for one in rows if one["step"] == "serve"]
    assert failed["kind"] == "failure"
    assert failed["reason"].startswith("RUN is no finished run")
    assert failed["command"] == "python benchmarks/flow.py serve --run RUN"
    [given] = [one for one in rows if one["kind"] == "bar"]
    assert (given["value"], given["met"], given["timing"]) == (
        500,
        True,
        "given on the command line",
    )
    assert "| serve |  |  |  | failed |" in (tmp_path / "flow.md").read_text()
    assert "ci: .ci/run, all green: 500" in capsys.readouterr().err


def test_movietweetings_needs_its_data(tmp_path, capsys):
    with pytest.raises(SystemExit):
        flow.main(["movietweetings", "--results", str(tmp_path)])
    assert "need --data" in capsys.readouterr().err


def ranking(*items):
    scores = -np.arange(len(items), dtype=np.float32)
    return Ranking(np.asarray(items, dtype=np.int32), scores)


def test_every_fault_of_a_list_is_counted():
    requests = flow_decoding.Requests(
        histories=[np.zeros(0, np.int32)] * 5,
        exclude=[np.asarray(rows, np.int32) for rows in ([], [1], [], [2, 3, 4], [])],
        k=3,
    )
    unsorted = Ranking(np.arange(3, dtype=np.int32), np.asarray([1, 2, 0], dtype=np.float32))
    lists = [ranking(0, 5, -1), ranking(0, 1, 2), ranking(4, 4, 3), ranking(0, 1), unsorted]
    assert flow_decoding.count_faults(lists, requests, 5) == {
        "invalid": 2,
        "excluded": 1,
        "twice": 1,
        "wrong length": 0,
        "not sorted": 1,
    }
    assert flow_decoding.count_faults([ranking(0, 1)] * 5, requests, 5)["wrong length"] == 4


def test_only_the_best_list_agrees():
    truth = np.log([0.1, 0.4, 0.2, 0.3])
    none = np.zeros(0, dtype=np.int32)

    def listed(*items, shift=0.0):
        return Ranking(np.asarray(items, np.int32), (truth[list(items)] + shift).astype(np.float32))

    assert flow_decoding.agrees(listed(1, 3), truth, none)
    assert flow_decoding.agrees(listed(3, 2), truth, np.asarray([1], dtype=np.int32))
    assert not flow_decoding.agrees(listed(1, 3), truth, np.asarray([1], dtype=np.int32))
    assert not flow_decoding.agrees(listed(3, 1), truth, none)
    assert not flow_decoding.agrees(listed(1, 2), truth, none)
    assert not flow_decoding.agrees(listed(1, 1), truth, none)
    assert not flow_decoding.agrees(listed(1, 3, shift=0.01), truth, none)


def test_the_oracle_is_a_distribution_over_the_whole_tree():
    """Over all code tuples of a full tree the chances of brute force sum to one."""
    random = np.random.default_rng(0)
    for _ in range(20):
        model = flow_decoding.random_model(random, items=10**6, widest=4, dtype=torch.float64)
        if len(model.index) == np.prod(model.index.level_sizes):
            break
    else:
        pytest.fail("no full tree was drawn in 20 tries; the seed has to be chosen again")
    history = np.zeros(3, dtype=np.int32)
    assert np.exp(flow_decoding.score_every_item(model, history)).sum() == pytest.approx(1)


def test_decoding_with_few_cases():
    rows = flow_decoding.decoding(lists=300, cases=40, seed=1, quiet=True)
    lists, compared = rows[:2]
    assert (lists["lists"], compared["cases"]) == (300, 40)
    assert lists["entries"] > 300
    assert compared["eligible"] >= 2 * 40
    wanted = verdicts(rows)
    assert not wanted.pop("generated lists")  # 300 are fewer than the bar asks for
    assert not wanted.pop("random cases against brute force")
    assert set(wanted.values()) == {True}


def test_a_narrow_beam_is_found_out(monkeypatch):
    """The comparison can fail: a beam of one is not exact."""

    class Narrow(flow_decoding.GenerativeRanker):
        def __init__(self, model, beam):
            super().__init__(model, beam=1)

    monkeypatch.setattr(flow_decoding, "GenerativeRanker", Narrow)
    monkeypatch.setattr(flow_decoding, "random_requests", one_item)
    assert flow_decoding.compare_with_brute_force(60, seed=2, quiet=True)["disagreements"] > 0


def one_item(random, items, count, most):
    none = np.zeros(0, dtype=np.int32)
    histories = [random.integers(0, items, size=4).astype(np.int32) for _ in range(count)]
    return flow_decoding.Requests(histories, [none] * count, 1)


def answer(*ids, **values):
    items = [{"item_id": one, "rank": n, "title": "t"} for n, one in enumerate(ids, start=1)]
    return {"items": items, "unknown_items": [], "fallback": None} | values


def test_wrong_answers_of_the_service_are_found():
    case = flow_serve.Case("known ids", b"", 200, known=("a",), items=2)
    known = {"a", "b", "c"}
    assert flow_serve.right_answer(case, answer("b", "c"), known)
    for wrong in (
        answer("b"),
        answer("b", "b"),
        answer("a", "b"),
        answer("b", "z"),
        answer("b", "c", unknown_items=["x"]),
        answer("b", "c", fallback="popularity"),
    ):
        assert not flow_serve.right_answer(case, wrong, known)


def test_the_dataset_comes_back_whatever_happens(tmp_path):
    for name in ("dataset", "model"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyError), flow_serve.without_dataset(tmp_path):
        assert not (tmp_path / "dataset").exists()
        raise KeyError
    assert (tmp_path / "dataset").is_dir()
    (tmp_path / "dataset.away").mkdir()
    with (
        pytest.raises(flow_serve.StepError, match="left by a start"),
        flow_serve.without_dataset(tmp_path),
    ):
        pass


def test_a_service_that_does_not_start_is_told(tmp_path):
    log = tmp_path / "log"
    log.write_text("Error: the port is taken")
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
        with pytest.raises(flow_serve.StepError, match="exit code 0.*the port is taken"):
            flow_serve.wait_until_up("http://127.0.0.1:9", process, log)


@pytest.mark.slow
def test_the_service_over_http(tmp_path):
    run = build(tmp_path / "run")
    rows = flow_serve.serve(run, max_k=100)
    assert set(verdicts(rows).values()) == {True}
    assert len([one for one in rows if one.get("table") == "Requests"]) == 14
    assert (run / "dataset").is_dir()


def test_the_commands_of_the_readme_are_its_first_two_bash_blocks():
    root = BENCHMARKS.parent
    job, tests = flow_checkout.readme_commands((root / "README.md").read_text())
    assert job.endswith("genrec quickstart")
    assert tests.endswith("pytest")
    with pytest.raises(flow_checkout.StepError, match="1 fenced bash blocks"):
        flow_checkout.readme_commands("```bash\na\n```\n```text\nb\n```\n")


def test_written_results_do_not_make_a_checkout_changed(tmp_path):
    """Else every step after the first would be stamped as measured on changed code."""

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for path in (results / "flow.json", tmp_path / "code"):
        path.write_text("one")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    (results / "flow.json").write_text("two")
    assert not flow_rows.commit(tmp_path).endswith("with changes")
    (tmp_path / "code").write_text("two")
    assert flow_rows.commit(tmp_path).endswith("with changes")
