import re
from pathlib import Path

import pytest
import yaml

from genrec.config import Recipe
from genrec.recipe_file import key_paths
from genrec.recipe_page import recipe_page, write_recipe_page

PAGE = Path(__file__).parent.parent / "docs" / "recipe.md"


def rows():
    found = re.findall(r"^\| `([a-z0-9_.]+)` \| `(.*?)` \| (.*?) \| (.*) \|$", recipe_page(), re.M)
    return {key: (default, values, help) for key, default, values, help in found}


def test_the_page_in_the_documentation_is_the_one_of_the_schema():
    if not PAGE.is_file():
        pytest.skip("the documentation is not part of this installation")
    assert PAGE.read_text(encoding="utf-8") == recipe_page(), "run `make fix`"


def test_every_key_has_a_row_with_its_default():
    flat = {}

    def walk(values, prefix=""):
        for name, value in values.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                flat[prefix + name] = value

    walk(Recipe().model_dump(mode="json"))
    table = rows()
    assert set(table) == set(flat) and set(flat) < set(key_paths())
    for key, value in flat.items():
        shown = yaml.safe_load(table[key][0])
        # YAML 1.1 reads 1e-05 as text.
        assert (float(shown) if isinstance(value, float) else shown) == value


def test_limits_units_and_choices_are_said():
    table = rows()
    assert table["index.levels"] == (
        "null",
        "whole number or null (codes), at least 1, at most 8",
        "Codes per item; null takes 2 up to 26,214 items and 3 beyond.",
    )
    assert table["index.iterations"][1] == "whole number (iterations), at least 1"
    assert table["train.form"][1] == "`stream` or `instruction`"
    assert table["data.split.test_fraction"][1] == "number (fraction), more than 0, less than 1"
    assert table["data.path"][:2] == ("null", "text or null")
    assert table["evaluate.cutoffs"][1] == "list of whole number (items)"
    assert table["train.lora.targets"][1] == "list of text or `all-linear`"
    assert table["recommend.exclude_seen"][:2] == ("true", "true or false")


def test_it_is_written_as_it_is(tmp_path):
    write_recipe_page(tmp_path / "recipe.md")
    assert (tmp_path / "recipe.md").read_text(encoding="utf-8") == recipe_page()
