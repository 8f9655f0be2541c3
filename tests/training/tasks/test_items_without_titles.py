"""An item without a title is shown by its id, and an id is nothing to learn words from."""

import numpy as np
import polars as pl

from genrec.data.catalog import Catalog
from genrec.data.item_table import normalise_items
from genrec.data.source import Items
from genrec.model.template_file import load_templates
from genrec.training.tasks.customer_texts import TemplateTexts, WrittenTexts
from genrec.training.tasks.item_texts import ItemTexts
from genrec.training.tasks.table import TASKS, Material
from tests.training.tasks.world import catalog, task_prompts

UNTITLED = (3, 4, 9)


def shop():
    """The small shop, in which three items have neither title nor anything else."""
    gone = pl.int_range(pl.len()).is_in(UNTITLED)
    named = [name for name in catalog().table.columns if name != "item_id"]
    raw = catalog().table.with_columns(
        pl.when(gone).then(pl.lit("")).otherwise(pl.col(name)).alias(name) for name in named
    )
    return Catalog(normalise_items(Items(raw, "title", ["description"])).table)


def example(task, history, item):
    items = ItemTexts(shop())
    generator = np.random.default_rng(0)
    material = Material(items, TemplateTexts(items, load_templates()))
    fields = TASKS[task].fields(material, history, item, generator)
    return task_prompts().example(task, fields, generator), fields


def test_the_data_stage_shows_the_id_and_the_tasks_know_better():
    assert [shop().titles[row] for row in UNTITLED] == ["i3", "i4", "i9"]
    assert [shop().title_words[row] for row in UNTITLED] == ["", "", ""]
    assert shop().title_words[5] == "Bel cup 5"


def test_an_id_of_several_words_is_a_title():
    names = Catalog(pl.DataFrame({"item_id": ["Star Wars", "B01"], "title": ["Star Wars", "B01"]}))
    assert names.title_words == ["Star Wars", ""]


def test_no_example_asks_for_an_id_or_gives_one():
    for task in ("text_to_item", "item_to_text", "search"):
        assert example(task, [5], 3)[0] is None, task
        assert example(task, [5], 6)[0] is not None, task
    for task in ("history_to_title", "history_to_description", "titles_to_title"):
        assert example(task, [5, 6], 4)[0] is None, task
    assert example("titles_to_item", [3, 4], 5)[0] is None
    # Codes need no title.
    assert example("next_item", [3, 4], 9)[0] is not None
    assert example("titles_to_item", [3, 5, 4], 9)[1]["titles"] == ["Bel cup 5"]


def test_preferences_name_no_ids():
    assert example("preference", [3, 4, 9], -1)[0] is None
    said = example("preference", [3, 5, 4], -1)[1]
    assert said["overall"] and not {"i3", "i4"} & set(said["overall"].replace(".", " ").split())


def test_a_writer_is_not_asked_about_what_nothing_is_known_of():
    asked = []

    class Echo:
        def write(self, prompts):
            asked.extend(prompts)
            return [prompt.upper() for prompt in prompts]

    texts = WrittenTexts(ItemTexts(shop()), load_templates(), Echo(), [3, 5], [[3, 4], [3, 5]])
    assert len(asked) == 3  # item 5, and the second history in two ways
    assert not any("i3" in prompt for prompt in asked)
    generator = np.random.default_rng(0)
    assert texts.intention(3, generator) == ""
    assert texts.preference([3, 4], "overall", generator) == ""
    assert "BEL CUP 5" in texts.preference([3, 5], "recent", generator)
