import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from genrec import artifacts
from genrec.data.dataset import Dataset
from genrec.errors import DataError, RequestError
from genrec.serving import all_users
from genrec.serving.all_users import recommend_all
from genrec.serving.recommender import Recommender
from genrec.serving.rules import Rules
from tests.tiny_run import invoke, trained


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("all") / "run")


@pytest.fixture(scope="module")
def recommender(run_folder):
    return Recommender.from_pretrained(run_folder, device="cpu", dtype="float32", beam=10)


def expected(run_folder, recommender, k, rules=None):
    """Ask for each user alone."""
    dataset = Dataset.load(run_folder / "dataset")
    rows = []
    for user, user_id in enumerate(dataset.user_ids):
        items = dataset.interactions.item[dataset.interactions.user == user]
        history = [dataset.catalog.item_ids[row] for row in items]
        [answer] = recommender.recommend([history], k, rules=rules or Rules())
        rows += [(user_id, item.item_id, item.rank) for item in answer.items]
    return rows


def test_every_user_gets_the_list_of_the_whole_history(
    run_folder, recommender, tmp_path, monkeypatch
):
    monkeypatch.setattr(all_users, "SHARD", 7)
    path = recommend_all(run_folder, recommender, tmp_path / "a.parquet", k=3, quiet=True)
    table = pl.read_parquet(path)
    assert table.schema == all_users.SCHEMA
    got = table.select("user_id", "item_id", "rank").rows()
    assert got == expected(run_folder, recommender, 3)
    assert list(tmp_path.iterdir()) == [path]


def test_rules_hold_for_all(run_folder, recommender, tmp_path):
    ids = recommender.catalog.item_ids
    rules = Rules(allow=ids[:12], exclude_seen=False)
    path = recommend_all(run_folder, recommender, tmp_path / "a.parquet", k=2, rules=rules)
    assert set(pl.read_parquet(path)["item_id"]) <= set(ids[:12])


def test_what_is_done_is_not_done_again_and_another_job_begins_anew(
    run_folder, recommender, tmp_path, monkeypatch
):
    monkeypatch.setattr(all_users, "SHARD", 16)
    calls = []
    real = all_users._write_shard

    def stop_at_the_third(path, *arguments):
        calls.append(path.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, *arguments)

    monkeypatch.setattr(all_users, "_write_shard", stop_at_the_third)
    output = tmp_path / "a.parquet"
    with pytest.raises(KeyboardInterrupt):
        recommend_all(run_folder, recommender, output, k=3, quiet=True)
    assert not output.exists()
    recommend_all(run_folder, recommender, output, k=3, quiet=True)
    shards = -(-len(Dataset.load(run_folder / "dataset").user_ids) // 16)
    assert calls == [f"{number:06d}.parquet" for number in (0, 1, 2, *range(2, shards))]
    got = pl.read_parquet(output).select("user_id", "item_id", "rank").rows()
    assert got == expected(run_folder, recommender, 3)
    calls[:] = [""] * 2
    with pytest.raises(KeyboardInterrupt):
        recommend_all(run_folder, recommender, output, k=3, quiet=True)
    before = len(calls)
    recommend_all(run_folder, recommender, output, k=2, quiet=True)
    assert len(calls) - before == shards


@pytest.mark.parametrize("change", ["beam", "score", "named"])
def test_shards_of_other_settings_or_sets_are_not_taken(run_folder, recommender, tmp_path, change):
    recommender.rule_book.name("some", recommender.catalog.item_ids[:20])
    rules = Rules(named=["some"])
    output = tmp_path / "a.parquet"
    first = all_users._parts(run_folder, recommender, output, 3, rules)
    (first / "000000.parquet").touch()
    assert all_users._parts(run_folder, recommender, output, 3, rules) == first
    assert (first / "000000.parquet").exists()
    other = recommender
    if change == "named":
        recommender.rule_book.change("some", recommender.catalog.item_ids[20:21], True)
    else:
        other = Recommender.from_pretrained(
            run_folder, device="cpu", dtype="float32",
            **{"beam": 10, "score": "level", change: {"beam": 11, "score": "exact"}[change]},
        )  # fmt: skip
        other.rule_book.name("some", recommender.catalog.item_ids[:20])
    all_users._parts(run_folder, other, output, 3, rules)
    assert not (first / "000000.parquet").exists()


def test_the_file_names_its_score_and_counts_are_told(
    run_folder, recommender, tmp_path, monkeypatch, caplog
):
    path = recommend_all(run_folder, recommender, tmp_path / "a.parquet", k=2, quiet=True)
    assert pl.read_parquet_metadata(path)["genrec.score"] == "level"
    assert "whose scores are counts" not in caplog.text
    monkeypatch.setattr(type(recommender.catalog), "rows", lambda catalog, ids: ([], list(ids)))
    recommend_all(run_folder, recommender, tmp_path / "b.parquet", k=2, quiet=True)
    assert "60 users have no item left that the model knows" in caplog.text


KILLED = """
import os, sys
from pathlib import Path
from genrec.serving import all_users
from genrec.serving.recommender import Recommender
all_users.SHARD = 16
real, done = all_users._write_shard, []
def write(path, *arguments):
    real(path, *arguments)
    done.append(path)
    if len(done) == 2:
        os.kill(os.getpid(), 9)
all_users._write_shard = write
run = Path(sys.argv[1])
recommender = Recommender.from_pretrained(run, device="cpu", dtype="float32", beam=10)
all_users.recommend_all(run, recommender, Path(sys.argv[2]), k=3, quiet=True)
"""


def test_a_job_that_was_killed_ends_with_the_same_file(
    run_folder, recommender, tmp_path, monkeypatch
):
    output = tmp_path / "a.parquet"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(run_folder), str(output)],
                            capture_output=True)  # fmt: skip
    assert killed.returncode == -9
    assert len(list((tmp_path / "a.parquet.parts").glob("*.parquet"))) == 2
    monkeypatch.setattr(all_users, "SHARD", 16)
    recommend_all(run_folder, recommender, output, k=3, quiet=True)
    got = pl.read_parquet(output).select("user_id", "item_id", "rank").rows()
    assert got == expected(run_folder, recommender, 3)


def test_the_command_writes_the_file(run_folder, tmp_path):
    output = tmp_path / "lists.parquet"
    rules = {"where": {"attribute": "title", "op": "is_missing", "value": False}, "at_most": {}}
    done = invoke("recommend", run_folder, "--all-users", output, "-k", 2, "-q",
                  "--rules", json.dumps(rules))  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(output)
    users = len(Dataset.load(run_folder / "dataset").user_ids)
    table = pl.read_parquet(output)
    assert table["rank"].to_list() == [1, 2] * users
    assert np.isfinite(table["score"].to_numpy()).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--all-users", "x.parquet", "--history", "a"], "not both"),
        (["--rules", "{}"], "goes with --history or --all-users"),
        (["--history", "a", "--rules", "{"], "is no JSON"),
        (["--history", "a", "--rules", '{"denny": []}'], "object with deny, allow, where, named"),
        (["--history", "a", "--rules", "[]"], "expected an object"),
        (["--history", "a", "--rules", "rules.json"], "or @ and the name of a file"),
    ],
)
def test_options_that_do_not_fit_are_refused(run_folder, arguments, words):
    done = invoke("recommend", run_folder, *arguments)
    assert done.exit_code == 1
    assert words in " ".join(done.stderr.split())


def test_short_lists_are_counted_and_said(run_folder, recommender, tmp_path, caplog):
    ids = recommender.catalog.item_ids
    users = len(Dataset.load(run_folder / "dataset").user_ids)
    path = tmp_path / "a.parquet"
    recommend_all(run_folder, recommender, path, k=3, rules=Rules(allow=[]), quiet=True)
    assert f"{users} of {users} lists have fewer than 3 items, {users} have none" in caplog.text
    assert pl.read_parquet(path).is_empty()
    caplog.clear()
    rules = Rules(allow=ids[:3], exclude_seen=False)
    recommend_all(run_folder, recommender, path, k=3, rules=rules, quiet=True)
    assert "fewer than" not in caplog.text
    recommend_all(run_folder, recommender, path, k=10_000, quiet=True)
    assert f"{users} of {users} lists have fewer than 10000 items, 0 have none" in caplog.text


@pytest.mark.parametrize(
    ("k", "rules"), [(0, Rules()), (3, Rules(named=["sale"])), (3, Rules(boosts={"a": 1e9}))]
)
def test_a_job_that_cannot_be_done_leaves_a_stopped_one_alone(
    run_folder, recommender, tmp_path, k, rules
):
    parts = tmp_path / "a.parquet.parts"
    parts.mkdir()
    (parts / "000000.parquet").write_text("of another job")
    with pytest.raises(RequestError):
        recommend_all(run_folder, recommender, tmp_path / "a.parquet", k=k, rules=rules)
    assert [path.name for path in parts.iterdir()] == ["000000.parquet"]


def test_a_folder_is_no_file_to_write(run_folder, recommender, tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        recommend_all(run_folder, recommender, tmp_path)
    assert artifacts.read_manifest(run_folder / "dataset").kind == "dataset"
