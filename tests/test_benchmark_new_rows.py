"""The benchmark of initialisations: what it counts, what it keeps, and that it goes on."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from genrec.semantic_ids.item_index import ItemIndex
from tests.tiny_run import TINY
from tests.training.world import tiny_language_model

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
new_rows = importlib.import_module("new_rows")
sys.path.remove(str(BENCHMARKS))


def test_steps_to_a_loss_are_those_of_the_first_validation_at_it():
    curve = [(5, 7.6), (10, 7.0), (15, 7.2), (20, 6.4)]
    assert new_rows.steps_to(curve) == {"7.5": 10, "7": 10, "6.5": 20, "6": None}


def row(way, seed, reached, last_loss=6.0):
    return {
        "way": way, "seed": seed, "steps": {"7": reached}, "last_loss": last_loss,
        "best_ndcg@10": 0.2, "train_seconds": 10.0, "commit": "abc",
    }  # fmt: skip


def test_the_page_has_means_and_says_who_did_not_get_there():
    rows = [
        row("titles", 1, 10),
        row("titles", 2, 20, 7.0),
        row("mean", 1, None),
        row("mean", 2, 5),
    ]
    machine = {"cpu": "c", "cores": 2, "memory_gib": 1, "python": "3", "torch": "2", "genrec": "0"}
    body = {
        "rows": rows,
        "command": "c",
        "machine": machine,
        "seeds": "s",
        "noise": "n",
        "notes": {},
    }
    page = new_rows.page(body)
    assert "| titles | 2 | 15 (10 to 20) | 6.5 (6 to 7) |" in page
    assert "| mean | 2 | 1 of 2 seeds |" in page


def test_rows_are_kept_one_by_one_and_not_measured_twice(tmp_path, monkeypatch):
    index = ItemIndex(np.arange(4, dtype=np.int32)[:, None], (4,), {})
    source = tiny_language_model(tmp_path / "lm", index)
    ours = [
        part
        for part in TINY
        if not part.startswith(("train.max_steps", "train.language_model", "train.evaluations"))
    ]
    settings = [part for override in ours for part in ("--set", override)]
    common = [
        "--language-model",
        str(source),
        "--steps",
        "10",
        "--runs",
        str(tmp_path / "runs"),
        "--results",
        str(tmp_path / "results"),
        *settings,
    ]
    new_rows.main(["--ways", "titles", "cw2v", "--seeds", "1", *common])
    body = json.loads((tmp_path / "results" / "new_rows.json").read_text())
    assert [(each["way"], each["seed"]) for each in body["rows"]] == [("titles", 1), ("cw2v", 1)]
    assert all([step for step, _ in each["curve"]] == [5, 10] for each in body["rows"])
    assert (tmp_path / "results" / "new_rows.md").is_file()
    measured = []
    honest = new_rows.measure
    monkeypatch.setattr(
        new_rows, "measure", lambda *given: measured.append(given[2:]) or honest(*given)
    )
    new_rows.main(["--ways", "titles", "mean", "--seeds", "1", *common])
    assert measured == [("mean", 1)]
