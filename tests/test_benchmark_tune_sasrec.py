"""The search for SASRec's settings: what it finds, what it keeps and how it goes on."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
tune_sasrec = importlib.import_module("tune_sasrec")
sys.path.remove(str(BENCHMARKS))

AXES = {"a": (1, 2, 3), "b": (1, 2, 3), "c": (0,)}


def test_finds_the_peak_and_measures_nothing_twice():
    measured = []

    def measure(setting):
        a, b = setting["a"], setting["b"]
        measured.append((a, b))
        # From a = 1 the way leads over a = 2 to b = 3, and only then to a = 3: a second round.
        return {1: -abs(a - 2), 2: -5, 3: 5 - abs(a - 3)}[b]

    best = tune_sasrec.search({"a": 1, "b": 1, "c": 0}, AXES, measure)
    assert best == {"a": 3, "b": 3, "c": 0}
    assert len(measured) == len(set(measured)) == 8


def test_a_setting_that_is_only_as_good_changes_nothing():
    start = {"a": 2, "b": 2, "c": 0}
    assert tune_sasrec.search(start, AXES, lambda _: 0.5) == start


def command(tmp_path, *more):
    sizes = ["data.core=0", "data.store.users=60", "data.store.items=40", "cf.epochs=2",
             "cf.max_history=6", "runtime.device=cpu", "runtime.threads=1"]  # fmt: skip
    words = [word for size in sizes for word in ("--set", size)]
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path)]
    return ["tiny=store", *words, *folders, *more]


@pytest.mark.parametrize("model", ["sasrec", "transition_sasrec"])
def test_a_search_that_was_stopped_goes_on(tmp_path, monkeypatch, model):
    axes = {"dropout": (0.2, 0.5), "dimensions": (8, 64)}
    if model == "transition_sasrec":
        axes = {"transition_sasrec.long_share": (0.0, 0.2), "dimensions": (8, 64)}
    monkeypatch.setattr(tune_sasrec, "AXES", {model: axes})
    arguments = command(tmp_path, "--model", model)
    assert tune_sasrec.main(arguments) == 0
    path = tmp_path / "tune_sasrec.json"
    body = json.loads(path.read_text())
    rows = body["rows"]
    assert 3 <= len(rows) <= 4
    chosen = [row for row in rows if "yes" in row["chosen"]]
    start = [row for row in rows if "start" in row["chosen"]]
    assert len(chosen) == len(start) == 1
    assert chosen[0]["validation_ndcg@10"] == max(row["validation_ndcg@10"] for row in rows)
    assert start[0]["dimensions"] == 64 and rows[0]["epochs"] == 2
    assert {row["model"] for row in rows} == {model}
    shown = (tmp_path / "tune_sasrec.md").read_text()
    assert f"## tiny, {model}" in shown
    lines = [line for line in shown.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == len(rows) and "yes" in lines[0]

    measured, again = tune_sasrec.measured, []
    monkeypatch.setattr(
        tune_sasrec, "measured", lambda *given: again.append(given[-1]) or measured(*given)
    )
    tune_sasrec.main(arguments)
    assert again == [] and json.loads(path.read_text())["rows"] == rows
    lost = rows.pop(1)
    path.write_text(json.dumps(body | {"rows": rows}))
    tune_sasrec.main(arguments)
    assert again == [{key: lost[key] for key in again[0]}]
    same = ("validation_ndcg@10", "test_ndcg@10", "chosen")
    (found,) = (row for row in json.loads(path.read_text())["rows"] if row not in rows)
    assert {key: found[key] for key in same} == {key: lost[key] for key in same}


def test_a_data_set_needs_a_name(capsys):
    with pytest.raises(SystemExit):
        tune_sasrec.main(["data/shop"])
    assert "is not NAME=DATA" in capsys.readouterr().err


def test_only_the_keys_that_are_named_are_searched(tmp_path, monkeypatch):
    axes = {"dropout": (0.2, 0.5), "dimensions": (8, 64), "layers": (1, 2)}
    monkeypatch.setattr(tune_sasrec, "AXES", {"sasrec": axes})
    assert tune_sasrec.main(command(tmp_path, "--keys", "dimensions")) == 0
    body = json.loads((tmp_path / "tune_sasrec.json").read_text())
    tried = [(row["dropout"], row["layers"], row["dimensions"]) for row in body["rows"]]
    assert sorted(tried) == [(0.5, 2, 8), (0.5, 2, 64)]
    assert body["rows"][0]["command"].endswith("--keys dimensions")
