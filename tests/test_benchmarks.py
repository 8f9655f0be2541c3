"""The results files of benchmarks: whole, readable and refused when they say nothing."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genrec.errors import DataError

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
MODULE = runpy.run_path(str(BENCHMARKS / "results_file.py"))
write_results, commit, machine = MODULE["write_results"], MODULE["commit"], MODULE["machine"]
ROWS = [{"model": "one|two", "recall@10": 0.123456}, {"model": "b", "seconds": np.float32(12.5)}]


def test_files_hold_everything(tmp_path):
    notes = {"seeds": [1, 2], "noise": "+- 0.003", "data": Path("some/where")}
    write_results("flow", ROWS, command="python benchmarks/flow.py", notes=notes, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow.json", "flow.md"]
    body = json.loads((tmp_path / "flow.json").read_text())
    assert body["rows"] == [
        {"model": "one|two", "recall@10": 0.123456},
        {"model": "b", "seconds": 12.5},
    ]
    assert body["command"] == "python benchmarks/flow.py"
    assert (body["seeds"], body["noise"]) == ([1, 2], "+- 0.003")
    assert body["notes"] == {"data": "some/where"}
    assert body["machine"]["cores"] <= os.cpu_count()
    assert body["machine"]["memory_gib"] > 0
    assert body["machine"]["cpu"]
    assert body["machine"]["torch"][0].isdigit()
    lines = (tmp_path / "flow.md").read_text().splitlines()
    assert lines[2:6] == [
        "| model | recall@10 | seconds |",
        "| --- | --- | --- |",
        "| one\\|two | 0.1235 |  |",
        "| b |  | 12.5 |",
    ]
    assert "- Command: `python benchmarks/flow.py`" in lines
    assert "- Seeds: [1, 2]" in lines


def test_what_was_not_said_is_named(tmp_path):
    write_results("flow", ROWS, command="x", notes={}, folder=tmp_path / "new")
    body = json.loads((tmp_path / "new" / "flow.json").read_text())
    assert (body["seeds"], body["noise"]) == ("not stated", "not stated")


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("../flow", ROWS, "cannot name a benchmark"),
        ("flow", [], "no rows"),
        ("flow", [{"recall": float("nan")}], "finite"),
        ("flow", [{"recall": object()}], "object"),
    ],
)
def test_refused(tmp_path, name, rows, message):
    with pytest.raises(DataError, match=message):
        write_results(name, rows, command="x", notes={}, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_commit_and_changes(tmp_path):
    assert commit(tmp_path) == "not a git checkout"
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    head = commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", head)
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{head} with changes"


def test_a_script_beside_it_can_import_it(tmp_path):
    script = "from results_file import write_results; print(write_results.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    assert done.stdout == "write_results\n"
