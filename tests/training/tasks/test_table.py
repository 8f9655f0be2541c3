"""What each task makes of a history and an item, written out."""

from typing import get_args

import numpy as np
import polars as pl
import pytest

from genrec.config_tasks import TaskName
from genrec.data.catalog import Catalog
from genrec.errors import ConfigError
from genrec.model.templates import SLOTS
from genrec.training.tasks.customer_texts import TemplateTexts
from genrec.training.tasks.item_texts import ItemTexts
from genrec.training.tasks.table import TASKS
from tests.training.tasks.world import catalog, material


def made(task, history=(3, 4), item=5, seed=0):
    return dict(TASKS[task].fields(material(), list(history), item, np.random.default_rng(seed)))


def test_the_recipe_the_templates_and_the_table_name_the_same_tasks():
    assert set(get_args(TaskName)) == set(TASKS) == {*SLOTS, "stream"}


def test_every_task_fills_the_placeholders_of_its_templates():
    for task, slots in SLOTS.items():
        assert {*slots.prompt, *slots.answer} <= set(made(task)), task


def test_fields_written_out():
    assert made("next_item") == {"history": [3, 4], "item": 5}
    about = {"title": "Bel cup 5", "description": "good cup"}
    assert made("text_to_item") == made("item_to_text") == {"item": 5, **about}
    assert made("history_to_title") == {"history": [3, 4], **about}
    assert made("history_to_description") == {"history": [3, 4], **about}
    titles = {"titles": ["Bel tea 3", "Ora pot 4"], "item": 5, "title": "Bel cup 5"}
    assert made("titles_to_item") == made("titles_to_title") == titles
    assert made("stream") == {"items": [3, 4, 5]}


def test_an_intention_names_values_and_some_words_but_never_the_title():
    seen = {made("search", seed=seed)["intention"] for seed in range(60)}
    assert len(seen) > 10
    for text in seen:
        assert "Bel cup 5" not in text
        assert any(word in text for word in ("Bel", "cup", "5"))
    assert made("search", seed=7) == made("search", seed=7)


def test_preferences_name_what_most_items_share_and_what_is_new():
    # Brands: Ora, Ora, Ora, Bel, Bel; kinds: tea, cup, pot, tea, cup.
    history = [0, 2, 4, 3, 5]
    fields = made("preference", history, -1)
    overall = fields["overall"]
    assert overall.index("Ora") < overall.index("Bel") < overall.index("cup")
    assert "tea" not in overall
    recent = fields["recent"]
    assert recent.index("Bel") < recent.index("cup") < recent.index("tea")
    assert made("preference", [1], -1)["overall"].count("Bel") == 1


def test_without_values_the_words_of_titles_say_what_a_customer_likes():
    bare = Catalog(catalog().table.select("item_id", "title", "text"))
    items = ItemTexts(
        Catalog(
            bare.table.with_columns(
                pl.Series("title", [f"A Green (Kettle) {row}" for row in range(12)])
            )
        )
    )
    from genrec.model.template_file import load_templates

    texts = TemplateTexts(items, load_templates())
    said = texts.preference([0, 1], "overall", np.random.default_rng(0))
    assert "Green, Kettle" in said
    empty = ItemTexts(Catalog(bare.table.with_columns(pl.lit("x").alias("title"))))
    texts = TemplateTexts(empty, load_templates())
    assert texts.preference([0, 1], "recent", np.random.default_rng(0)) == ""
    assert texts.intention(0, np.random.default_rng(0)) == ""


def test_item_texts_of_columns_of_every_shape():
    table = pl.DataFrame(
        {
            "item_id": ["a", "b"],
            "title": ["One " + "w" * 100, "Two three four five"],
            "text": ["One " + "w" * 100 + ", a thing", "nothing"],
            "genres": ["Drama|Short film ", None],
            "categories": [["Home > Tea", "Gifts"], None],
            "brand": ["Ora", "  "],
        }
    )
    items = ItemTexts(Catalog(table), most_words=2)
    assert items.titles == ["One " + "w" * 76, "Two three"]
    assert items.descriptions == ["a thing", "nothing"]
    assert items.facet_columns == ["brand", "categories", "genres"]
    assert items.facets == [("Ora", "Tea", "Gifts", "Drama", "Short film"), ()]
    assert ItemTexts(Catalog(table), ["brand"]).facets == [("Ora",), ()]
    assert ItemTexts(Catalog(table), []).facets == [(), ()]
    with pytest.raises(ConfigError, match="colour, but the catalogue has the columns item_id"):
        ItemTexts(Catalog(table), ["colour"])
