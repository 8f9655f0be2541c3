"""The examples of the three tasks."""

import numpy as np
import polars as pl
import pytest

from genrec.data.catalog import Catalog
from genrec.data.histories import from_lists
from genrec.errors import ConfigError
from genrec.model.item_reader import Picture
from genrec.model.picture_tokens import NoPictures, SoftPictures
from genrec.training.item_tasks import COMPRESS, ItemWords, examples_of, item_pieces

TABLE = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Lamp", "Mug", "Bag", "d"],
        "text": ["Lamp, it shines", "Mug, for tea", "", ""],
        "brand": ["Acme", None, "Sacks", None],
        "genres": [["light", "home"], ["home"], [], None],
        "description": ["it shines", "for tea", "", None],
        "price": [3.0, 4.0, 5.0, 6.0],
    }
)
TEXTS = ItemWords.of(Catalog(TABLE))
# Items 0 and 2 have a picture.
EYES = SoftPictures(np.asarray([[1], [0], [2], [0]], dtype=np.float32), 100, 2)
SEQUENCES = from_lists([[0, 1, 2], [3], [2, 1]])


def make(task, pictures=EYES, most=100, max_history=10, seed=0):
    return examples_of(
        task, TEXTS, pictures, SEQUENCES, most=most, max_history=max_history, seed=seed
    )


def test_words_of_an_item_come_from_its_columns():
    assert TEXTS.attributes == [
        "brand: Acme\ngenres: light, home",
        "genres: home",
        "brand: Sacks",
        "",
    ]
    assert TEXTS.descriptions == ["it shines", "for tea", "", ""]
    assert ItemWords.of(Catalog(TABLE.drop("description"))).descriptions == TEXTS.texts
    assert ItemWords.of(Catalog(TABLE), "brand").descriptions == ["Acme", "", "Sacks", ""]
    with pytest.raises(ConfigError, match="'plot', but the items have the columns item_id"):
        ItemWords.of(Catalog(TABLE), "plot")


def test_image_to_text_shows_the_picture_alone_and_asks_for_the_description():
    [only] = make("image_text")
    assert only.given == (Picture(0), "\nThe description of the item:")
    assert only.answer == " it shines"
    assert make("image_text", NoPictures()) == []


def test_attributes_to_text_has_no_picture_and_never_the_answer():
    found = make("attributes")
    assert {each.answer for each in found} == {" it shines", " for tea"}
    for each in found:
        assert not any(isinstance(piece, Picture) for piece in each.given)
        assert each.answer.strip() not in "".join(map(str, each.given))
    [lamp] = [each for each in found if each.answer == " it shines"]
    assert lamp.given[:2] == ("Title: Lamp", "\nbrand: Acme\ngenres: light, home")


def test_behaviour_shows_a_history_and_asks_for_the_next_title():
    found = make("next_item", most=40)
    # Users 0 and 2 have 2 + 1 items that are not their first.
    assert {each.answer for each in found} <= {" Mug", " Bag"}
    assert ("Item: Lamp\n", Picture(0), "\nThe next item of this person:") in {
        each.given for each in found if each.answer == " Mug"
    }
    assert 3 <= len(found) <= 4
    short = make("next_item", most=40, max_history=1)
    assert len(short) == len(found)
    assert all(sum("Item:" in str(piece) for piece in each.given) == 1 for each in short)


def test_same_seed_same_examples_and_no_more_than_asked():
    assert make("attributes", most=1) == make("attributes", most=1)
    assert len(make("attributes", most=1)) == 1
    assert len(make("next_item", most=2)) == 2
    assert make("next_item", seed=1) == make("next_item", seed=1)


def test_what_is_read_of_an_item():
    assert item_pieces(0, TEXTS, EYES) == (
        Picture(0), "Title: Lamp", "\nLamp, it shines", COMPRESS,
    )  # fmt: skip
    assert item_pieces(1, TEXTS, EYES) == ("Title: Mug", "\nMug, for tea", COMPRESS)
    # A picture and no text; neither of them.
    assert item_pieces(2, TEXTS, EYES)[:2] == (Picture(2), "Title: Bag")
    assert item_pieces(3, TEXTS, EYES) == ()


def test_a_description_that_only_repeats_what_is_given_is_no_example():
    """Without such a column the text stands in, which is often title and attributes joined."""
    table = TABLE.drop("description").with_columns(
        text=pl.Series(["Lamp, Acme, light, home", "Mug, home, for tea", "Bag, Sacks", ""])
    )
    texts = ItemWords.of(Catalog(table))
    found = examples_of("attributes", texts, EYES, SEQUENCES, most=100, max_history=10, seed=0)
    assert [each.answer for each in found] == [" Mug, home, for tea"]


def test_an_id_in_place_of_a_title_is_neither_read_nor_asked_for():
    """Item d has no title: the user who chose nothing else but it gives no example."""
    sequences = from_lists([[0, 3], [0, 3, 1, 3], [3, 2]])
    found = examples_of("next_item", TEXTS, EYES, sequences, most=50, max_history=9, seed=0)
    assert {each.answer for each in found} == {" Mug", " Bag"}
    seen = {piece for each in found for piece in each.given}
    assert "Item: Lamp\n" in seen and "Item: d\n" not in seen
    only_ids = from_lists([[0, 3], [1, 3]])
    assert examples_of("next_item", TEXTS, EYES, only_ids, most=9, max_history=9, seed=0) == []
    table = TABLE.with_columns(text=pl.lit("something"))
    read = item_pieces(3, ItemWords.of(Catalog(table)), NoPictures())
    assert read == ("\nsomething", COMPRESS)
