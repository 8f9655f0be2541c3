import numpy as np
import polars as pl
import pytest

from genrec.data.catalog import Catalog
from genrec.errors import ConfigError, DataError
from genrec.tokenization.classic_semantic import SemanticIndexer, category_paths, usual_column
from genrec.tokenization.indexer import ItemTables


def tables(paths):
    ids = [f"id{row}" for row in range(len(paths))]
    return ItemTables(ids, ids, categories=paths)


def catalog(**columns):
    n = len(next(iter(columns.values())))
    ids = [str(row) for row in range(n)]
    return Catalog(pl.DataFrame({"item_id": ids, "title": ids, "text": ids, **columns}))


HAIR, FACE, HAIR_OIL, FACE_OIL = ("Hair",), ("Face",), ("Hair", "Oil"), ("Face", "Oil")


def test_codes_are_numbers_of_children_in_the_order_of_their_names():
    paths = [HAIR_OIL, ("Hair", "Comb"), FACE_OIL, ("Body", "Soap", "Dry")]
    proposal = SemanticIndexer().propose(tables(paths), seed=0)
    # Body 0, Face 1, Hair 2; Comb 0 and Oil 1 in Hair, Oil 0 in Face: each alone, so counter 0.
    assert proposal.codes.tolist() == [[2, 1, 1, 0], [2, 0, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert proposal.level_sizes == (3, 2, 2, 1)
    assert proposal.facts["categories"] == len(
        {HAIR, FACE, ("Body",), HAIR_OIL, ("Hair", "Comb"), FACE_OIL, ("Body", "Soap")}
    ) + len({("Body", "Soap", "Dry")})


def test_the_same_name_under_two_parents_is_two_categories():
    paths = [HAIR_OIL, ("Hair", "Comb"), FACE_OIL]
    codes = SemanticIndexer().paths(tables(paths), seed=0)[0].tolist()
    assert codes[0][1] != codes[2][1]


def test_items_share_the_codes_of_the_categories_they_share():
    rng = np.random.default_rng(3)
    paths = [
        tuple(str(name) for name in rng.integers(0, 3, size=rng.integers(0, 5))) for _ in range(300)
    ]
    proposal = SemanticIndexer().propose(tables(paths), seed=0)
    for i in range(0, 300, 7):
        for j in range(0, 300, 5):
            common = [a == b for a, b in zip(paths[i], paths[j], strict=False)]
            depth = common.index(False) if False in common else len(common)
            # Beyond the shorter path the codes are equal only when both paths are the same.
            same = (proposal.codes[i, :-1] == proposal.codes[j, :-1]).tolist()
            shared = same.index(False) if False in same else len(same)
            assert shared == (len(same) if paths[i] == paths[j] else depth)


def test_the_counter_numbers_the_items_of_a_category_by_seed():
    paths = [HAIR] * 40 + [FACE] * 5 + [HAIR_OIL] * 3
    first = SemanticIndexer().propose(tables(paths), seed=1)
    second = SemanticIndexer().propose(tables(paths), seed=2)
    for start, end in ((0, 40), (40, 45), (45, 48)):
        assert sorted(first.codes[start:end, -1]) == list(range(end - start))
    assert first.level_sizes[-1] == 40
    np.testing.assert_array_equal(first.codes[:, :-1], second.codes[:, :-1])
    assert (first.codes[:, -1] != second.codes[:, -1]).any()
    assert first.codes[:40, -1].tolist() != list(range(40))


def test_items_without_category_are_a_branch_of_their_own():
    proposal = SemanticIndexer().propose(tables([HAIR_OIL, (), FACE, ()]), seed=0)
    assert proposal.level_sizes == (3, 2, 2)
    # END in every level before the counter: the last code of each.
    assert proposal.codes[[1, 3], :-1].tolist() == [[2, 1], [2, 1]]
    assert sorted(proposal.codes[[1, 3], -1]) == [0, 1]
    assert proposal.codes[2, :2].tolist() == [0, 1]
    assert proposal.facts["items_without_category"] == 2


def test_paths_are_cut_so_that_ids_have_eight_codes():
    deep = tuple("abcdefghi")
    proposal = SemanticIndexer().propose(tables([deep, (*deep[:7], "x"), deep[:7]]), seed=0)
    assert proposal.codes.shape == (3, 8)
    assert (proposal.codes[:, :-1] == proposal.codes[0, :-1]).all()
    assert sorted(proposal.codes[:, -1]) == [0, 1, 2]
    assert proposal.facts["paths_cut"] == 2


def test_a_catalogue_without_any_category_is_refused():
    with pytest.raises(DataError, match="none of the 2 items has a category"):
        SemanticIndexer().propose(tables([(), ()]), seed=0)


def test_lists_are_paths():
    column = [["Hair ", None, "", "Oil"], None, []]
    assert category_paths(catalog(categories=column), None) == [HAIR_OIL, (), ()]


def test_the_first_list_of_lists_is_the_path():
    column = [[[], ["Hair", "Oil"], ["Face"]], [["Face"]], [[]], None]
    assert category_paths(catalog(categories=column), None) == [HAIR_OIL, FACE, (), ()]


def test_arrays_are_paths():
    column = pl.Series([["Hair", "Oil"], ["Face", "Oil"]], dtype=pl.Array(pl.String, 2))
    assert category_paths(catalog(genres=column), None) == [HAIR_OIL, FACE_OIL]


@pytest.mark.parametrize(
    ("texts", "paths"),
    [
        (["Hair|Oil", "Face", None, ""], [HAIR_OIL, FACE, (), ()]),
        (["Hair > Oil", "Face"], [HAIR_OIL, FACE]),
        (["Hair, Oil", "Face,"], [HAIR_OIL, FACE]),
        # Only the first separator in use cuts.
        (["Hair, Nails|Oil", "Face, Oil"], [("Hair, Nails", "Oil"), ("Face, Oil",)]),
        (["Hair, Nails > Oil", "Face"], [("Hair, Nails", "Oil"), FACE]),
        (["Hair", "Face"], [HAIR, FACE]),
        # One name with a bar does not keep the paths of all others whole.
        (["Hair > Oil", "Face > Oil", "A|B"], [HAIR_OIL, FACE_OIL, ("A|B",)]),
    ],
)
def test_text_is_cut_at_the_separator_of_the_column(texts, paths):
    assert category_paths(catalog(genres=texts), "genres") == paths


def test_other_types_are_read_as_text():
    assert category_paths(catalog(year=[1995, None]), "year") == [("1995",), ()]
    categorical = pl.Series(["Hair|Oil", "Face"], dtype=pl.Categorical)
    assert category_paths(catalog(genres=categorical), None) == [HAIR_OIL, FACE]
    assert category_paths(catalog(attributes=[[1, 2], [3]]), None) == [("1", "2"), ("3",)]


def test_the_usual_columns_are_tried_in_order():
    every = {
        "attributes": ["d"], "genres": ["c"], "category": ["b"], "categories": ["a"],
    }  # fmt: skip
    for letter, name in zip(
        "abcd", ["categories", "category", "genres", "attributes"], strict=True
    ):
        assert category_paths(catalog(**every), None) == [(letter,)]
        assert category_paths(catalog(**every), name) == [(letter,)]
        del every[name]
        every["brand"] = ["x"]


def test_a_column_that_is_not_there_is_an_error_that_names_those_that_are():
    with pytest.raises(ConfigError, match="no column shelf, but item_id, title, text, brand"):
        category_paths(catalog(brand=["x"]), "shelf")
    with pytest.raises(ConfigError, match="no column categories or category or genres or attrib"):
        category_paths(catalog(brand=["x"]), None)


def test_records_are_refused():
    with pytest.raises(ConfigError, match="'genres' is of type Struct"):
        category_paths(catalog(genres=[{"name": "Hair"}]), "genres")


def test_a_usual_column_of_records_is_passed_over():
    records = {"attributes": [{"colour": "red"}], "category": [[{"a": 1}]]}
    assert usual_column(catalog(**records)) is None
    assert usual_column(catalog(**records, genres=["Hair"])) == "genres"
    assert category_paths(catalog(**records, genres=["Hair"]), None) == [HAIR]
