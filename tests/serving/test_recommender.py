import re

import numpy as np
import pytest

from genrec import artifacts
from genrec.errors import ArtifactError, RequestError
from genrec.serving.recommender import Recommender, model_folder
from tests.serving.fakes import NextRows, recommender


def ids(recommendation):
    return [item.item_id for item in recommendation.items]


def test_items_carry_id_score_rank_and_title():
    [answer] = recommender().recommend([["i0", "i2"]], k=2)
    assert [(i.item_id, i.score, i.rank, i.title) for i in answer.items] == [
        ("i3", -1.0, 1, "Title 3"),
        ("i4", -2.0, 2, "Title 4"),
    ]
    assert (answer.unknown_items, answer.fallback, answer.shortfall) == ([], None, None)


def test_seen_items_are_left_out_only_when_asked():
    assert ids(recommender().recommend([["i3", "i2"]], k=3)[0]) == ["i4", "i5", "i0"]
    assert ids(recommender().recommend([["i3", "i2"]], k=3, exclude_seen=False)[0]) == [
        "i3",
        "i4",
        "i5",
    ]


def test_unknown_items_are_named_once_and_left_out():
    [answer] = recommender().recommend([["ghost", "i1", "spook", "ghost"]], k=1)
    assert ids(answer) == ["i2"]
    assert answer.unknown_items == ["ghost", "spook"]
    assert answer.fallback is None


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ([], "popularity: the history is empty"),
        (["ghost"], "popularity: the history holds no known item"),
    ],
)
def test_without_a_known_item_the_most_popular_are_returned_and_it_is_said(history, reason):
    ranker = NextRows()
    [answer] = recommender(ranker).recommend([history], k=4)
    # Counts are 5 1 9 9 0 2; the tie at 9 goes to the lower row.
    assert ids(answer) == ["i2", "i3", "i0", "i5"]
    assert answer.fallback == reason
    assert ranker.calls == []


def test_a_batch_answers_as_each_history_alone():
    histories = [["i0"], [], ["i5", "i2"], ["ghost"], ["i4", "i4", "ghost"]]
    together = recommender().recommend(histories, k=3)
    alone = [recommender().recommend([history], k=3)[0] for history in histories]
    assert together == alone


def test_k_beyond_the_catalogue_returns_all_and_says_so():
    [all_items] = recommender().recommend([["i0"]], k=100, exclude_seen=False)
    assert sorted(ids(all_items)) == [f"i{row}" for row in range(6)]
    assert (
        all_items.shortfall == "100 items were asked for and 6 returned: the catalogue has 6 items."
    )
    [left] = recommender().recommend([["i0", "i1", "i0"]], k=5)
    assert ids(left) == ["i2", "i3", "i4", "i5"]
    assert "2 of them in the history" in left.shortfall


def test_a_history_of_the_whole_catalogue_leaves_nothing_and_says_so():
    [answer] = recommender().recommend([[f"i{row}" for row in range(6)]], k=3)
    assert answer.items == []
    assert "3 items were asked for and 0 returned" in answer.shortfall


def test_a_search_that_stops_early_is_told_from_a_small_catalogue():
    class OneItem(NextRows):
        def rank(self, histories, k, *, exclude=None):
            return super().rank(histories, 1, exclude=exclude)

    [answer] = recommender(OneItem()).recommend([["i0"]], k=3)
    assert "wider beam" in answer.shortfall


@pytest.mark.parametrize(
    ("histories", "k", "words"),
    [
        ([["i0"]], 0, "at least 1"),
        ([["i0"]], -3, "at least 1"),
        ([["i0"]], True, "whole number"),
        ([["i0"]], 2.5, "whole number"),
        ("i0,i1", 3, "list of lists"),
        (["i0", "i1"], 3, "history 0 is the text 'i0'"),
        ([["i0"], [7]], 3, "history 1 holds 7 of type int"),
        ([["i0", None]], 3, "history 0 holds None of type NoneType"),
        ([["i0"], None], 3, "history 1 is None of type NoneType, expected a list"),
        ([{"i0": 1}], 3, "history 0 is {'i0': 1} of type dict, expected a list"),
        ([{"i0"}], 3, "history 0 is {'i0'} of type set, expected a list"),
        ([iter(["i0"])], 3, "of type list_iterator, expected a list"),
        (None, 3, "histories must be a list of lists of item ids, got None"),
        ([["i0"]], -(2**70), "at least 1"),
    ],
)
def test_a_malformed_request_is_refused_with_the_way_out(histories, k, words):
    with pytest.raises(RequestError, match=re.escape(words)):
        recommender().recommend(histories, k=k)


@pytest.mark.parametrize("rules", [{"deny": ["i1"]}, [{"deny": ["i1"]}], [None], "deny", 3])
def test_rules_of_another_kind_are_refused(rules):
    with pytest.raises(RequestError, match=r"expected Rules\(deny=.*or a list with one a history"):
        recommender().recommend([["i0"]], k=3, rules=rules)


def test_arrays_of_texts_are_histories():
    [plain] = recommender().recommend([["i0", "i2"]], k=2)
    assert recommender().recommend([np.array(["i0", "i2"])], k=2) == [plain]


def test_empty_texts_nul_and_half_characters_are_ids_that_are_unknown():
    odd = ["", "\x00", "\ud800", "i1"]
    [answer] = recommender().recommend([odd], k=1)
    assert ids(answer) == ["i2"]
    assert answer.unknown_items == odd[:3]


def test_numpy_integers_are_whole_numbers_and_no_histories_give_no_answers():
    assert len(recommender().recommend([["i0"]], k=np.int64(2))[0].items) == 2
    assert recommender().recommend([], k=2) == []


def test_a_model_is_found_in_its_run_folder_or_alone(tmp_path):
    with artifacts.writing(tmp_path / "run" / "model", "model") as partial:
        (partial / "x").write_text("x")
    assert model_folder(tmp_path / "run") == tmp_path / "run" / "model"
    assert model_folder(tmp_path / "run" / "model") == tmp_path / "run" / "model"


def test_a_missing_foreign_or_half_written_model_is_explained(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist; give a run folder"):
        Recommender.from_pretrained(tmp_path / "absent")
    (tmp_path / "run").mkdir()
    with pytest.raises(ArtifactError, match="holds no model"):
        Recommender.from_pretrained(str(tmp_path / "run"))
    (tmp_path / "run" / "model.partial").mkdir()
    with pytest.raises(ArtifactError, match="half written"):
        Recommender.from_pretrained(tmp_path / "run")
    with artifacts.writing(tmp_path / "cf", "cf") as partial:
        (partial / "x").write_text("x")
    with pytest.raises(ArtifactError, match="holds a 'cf', expected a model; give the run folder"):
        Recommender.from_pretrained(tmp_path / "cf")
