import unicodedata

import pytest

from genrec.errors import DataError
from genrec.tokenization.classic_title import TitleIndexer, first_words
from genrec.tokenization.indexer import ItemTables


def propose(titles, words=4):
    ids = [str(row) for row in range(len(titles))]
    return TitleIndexer(words).propose(ItemTables(ids, titles), seed=0)


def test_every_level_numbers_its_own_words_in_sorted_order():
    proposal = propose(["Red nail polish", "red lip balm", "Blue nail file"])
    first, second, third = ["blue", "red"], ["lip", "nail"], ["balm", "file", "polish"]
    expected = [("red", "nail", "polish"), ("red", "lip", "balm"), ("blue", "nail", "file")]
    assert proposal.codes.tolist() == [
        [first.index(a), second.index(b), third.index(c)] for a, b, c in expected
    ]
    assert proposal.level_sizes == (2, 2, 3)


def test_short_titles_end_early():
    proposal = propose(["a b c d e", "a b", "!", "a"], words=3)
    # END is the last code of a level that some title does not reach.
    assert proposal.codes.tolist() == [[0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 1]]
    assert proposal.level_sizes == (2, 2, 2)
    assert proposal.facts == {"title_words": 3, "titles_without_words": 1}


def test_levels_beyond_the_longest_title_are_left_out():
    assert propose(["one two", "three"], words=7).level_sizes == (2, 2)


def test_only_the_first_words_tell_titles_apart():
    codes = propose(["x y z 1", "x y z 2", "x y q 1"], words=3).codes.tolist()
    assert codes[0] == codes[1] != codes[2]


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Dr. Scholl's Quick-Heat", ("dr", "scholl", "s", "quick", "heat")),
        ("CRÈME Brûlée 100%", ("crème", "brûlée", "100")),
        (unicodedata.normalize("NFD", "CRÈME Brûlée"), ("crème", "brûlée")),
        ("東京 Tower", ("東", "京", "tower")),
        ("İstanbul", ("i̇stanbul",)),
        ("  \t ", ()),
        ("★ ★", ()),
    ],
)
def test_words_are_runs_of_word_characters(title, words):
    assert first_words(title, 9) == words


def test_titles_without_any_word_are_refused():
    with pytest.raises(DataError, match=r"none of the 2 titles holds a word, e\.g\. '\?\?'"):
        propose(["??", ""])
