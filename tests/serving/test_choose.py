"""Candidates in the order of the model, against the log-probabilities of their titles."""

import json

import numpy as np
import pytest

from genrec import Recommender
from genrec.decoding import candidate_chooser
from genrec.decoding.candidate_chooser import CandidateChooser, title_scores
from genrec.errors import RequestError
from genrec.runtime import Runtime
from genrec.serving.choose import ItemChooser
from genrec.training import train
from tests.serving.fakes import recommender as without_codes
from tests.tiny_run import invoke
from tests.training.bridged_run import write_run
from tests.training.conftest import make_dataset, make_index
from tests.training.question_run import question_recipe, with_an_end

RUNTIME = Runtime(device="cpu", dtype="float32", threads=1, quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place, index = tmp_path_factory.mktemp("choose"), make_index()
    settings = question_recipe(place, index)
    with_an_end(place)
    return train.run(write_run(place / "run", make_dataset(), index), settings, RUNTIME)


@pytest.fixture(scope="module")
def chooser(folder):
    return ItemChooser(Recommender.from_pretrained(folder, device="cpu"))


def ids(chooser, *rows):
    return [chooser._recommender.catalog.item_ids[row] for row in rows]


def test_candidates_come_in_the_order_of_their_titles(chooser):
    first, second = chooser.choose(
        [ids(chooser, 3, 4), [*ids(chooser, 8), "ghost"]],
        [ids(chooser, 7, 2, 20, 2), [*ids(chooser, 5, 6), "nobody", "nobody"]],
    )
    inner = CandidateChooser(chooser._recommender.ranker.model)
    for choice, history, rows in ((first, [3, 4], [7, 2, 20]), (second, [8], [5, 6])):
        [prompt] = inner.question.prompts([np.asarray(history)], [np.asarray(rows)])
        alone = {
            row: float(title_scores(inner._model, prompt, [inner.question.answer(row)])[0])
            for row in rows
        }
        best = sorted(alone, key=alone.__getitem__, reverse=True)
        assert [each.item_id for each in choice.items] == ids(chooser, *best)
        scores = [each.score for each in choice.items]
        assert scores == pytest.approx([alone[row] for row in best], abs=1e-3)
        assert [each.rank for each in choice.items] == list(range(1, len(rows) + 1))
        assert choice.history_read == len(history)
        assert choice.fallback is None
    assert (first.unknown_items, first.unknown_candidates) == ([], [])
    assert (second.unknown_items, second.unknown_candidates) == (["ghost"], ["nobody"])


def test_a_history_without_a_known_item_is_answered_by_popularity(chooser):
    counts = chooser._recommender.ranker.model.item_counts
    rows = np.argsort(counts, kind="stable")[::5].tolist()
    for history, why in (([], "is empty"), (["ghost"], "holds no known item")):
        [choice] = chooser.choose([history], [ids(chooser, *rows)])
        assert choice.fallback == f"popularity: the history {why}"
        scores = [each.score for each in choice.items]
        assert scores == sorted(counts[rows].tolist(), reverse=True)
        assert choice.history_read == 0


def test_only_as_much_of_a_history_is_read_as_fits(chooser, monkeypatch):
    monkeypatch.setattr(candidate_chooser, "context_length", lambda _: 70)
    small = ItemChooser(chooser._recommender)
    history, among = ids(chooser, *range(12)), ids(chooser, 14, 15, 16, 17)
    [choice] = small.choose([history], [among])
    assert 0 < choice.history_read < 8
    [again] = chooser.choose([history[-choice.history_read :]], [among])
    assert [each.item_id for each in again.items] == [each.item_id for each in choice.items]
    with pytest.raises(RequestError, match="20 candidates and a history are more than the 70"):
        small.choose([history], [ids(chooser, *range(20))])


def test_clear_errors(chooser):
    with pytest.raises(RequestError, match="2 lists of candidates for 1 histories"):
        chooser.choose([["a"]], [["b"], ["c"]])
    with pytest.raises(RequestError, match="none of the 2 candidates is in the catalogue"):
        chooser.choose([ids(chooser, 1)], [["nobody", "ghost"]])
    with pytest.raises(RequestError, match="none of the 0 candidates"):
        chooser.choose([ids(chooser, 1)], [[]])
    with pytest.raises(RequestError, match="list of candidates 0 holds 7 of type int"):
        chooser.choose([["a"]], [[7]])
    with pytest.raises(RequestError, match="candidates must be a list of lists"):
        chooser.choose([["a"]], "b")
    with pytest.raises(RequestError, match="history 0 is the text 'a'"):
        chooser.choose(["a"], [["b"]])
    with pytest.raises(RequestError, match="not trained to choose among titles; use the rule"):
        ItemChooser(without_codes())


def test_the_command_line_orders_candidates(folder, chooser):
    history, among = ids(chooser, 3, 4), ids(chooser, 7, 2, 20)
    asked = ("--history", ",".join([*history, "ghost"]), "--candidates", ",".join([*among, "no"]))
    result = invoke("recommend", folder, *asked, "--json", "--set", "runtime.device=cpu")
    assert result.exit_code == 0, result.stderr
    [choice] = chooser.choose([history], [among])
    found = [item["item_id"] for item in json.loads(result.stdout)["items"]]
    assert found == [item.item_id for item in choice.items]
    assert "left out: ghost" in result.stderr and "candidates left out: no" in result.stderr
    short = invoke("recommend", folder, *asked, "-k", 1)
    assert choice.items[0].title in short.stdout and choice.items[1].title not in short.stdout


@pytest.mark.parametrize(
    "wrong", [[], ["--history", "a", "--rules", "{}"], ["--history", "a", "--allow-seen"]]
)
def test_candidates_go_with_a_history_alone(tmp_path, wrong):
    result = invoke("recommend", tmp_path, "--candidates", "a,b", *wrong)
    assert result.exit_code == 1
    assert "--candidates goes with --history" in result.stderr
