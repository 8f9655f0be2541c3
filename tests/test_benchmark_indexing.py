import importlib
import sys
from pathlib import Path

import pytest

from genrec.recipe_file import load_recipe

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
indexing, indexing_methods, indexing_new_items, indexing_page, indexing_runs = (
    importlib.import_module(name)
    for name in (
        "indexing", "indexing_methods", "indexing_new_items", "indexing_page", "indexing_runs",
    )
)  # fmt: skip
sys.path.remove(str(BENCHMARKS))

MACHINE = {"cpu": "c", "cores": 2, "memory_gib": 1, "python": "3", "torch": "2", "genrec": "0"}
STAMP = {"commit": "a" * 40, "machine": MACHINE, "date": "2026-01-01T00:00+00:00"}


@pytest.mark.parametrize("name", [each.name for each in indexing_methods.METHODS])
def test_every_way_is_a_recipe(name):
    overrides = list(indexing_methods.method(name).overrides)
    recipe = load_recipe(indexing_runs.RECIPE, [*overrides, f"name={name}"])
    if "method" in str(overrides):
        assert any(recipe.index.method in override for override in overrides)


def test_every_way_differs_from_the_others():
    names = [each.name for each in indexing_methods.METHODS]
    assert len(set(names)) == len(names)
    made = [each.overrides for each in indexing_methods.METHODS if not each.published]
    assert len(set(made)) == len(made)


def test_an_example_is_a_held_out_item_after_known_ones():
    histories, targets = indexing_new_items._examples([[1, 2, 3, 4], [3, 1], [9, 3]], {3, 4})
    found = {(*history, target) for history, target in zip(histories, targets, strict=True)}
    assert found == {("1", "2", "3"), ("1", "2", "4"), ("9", "3")}


def test_the_page_shows_means_over_seeds_and_intervals():
    rows = [
        {"step": "beauty", "part": "x", "table": "methods", "method": "x", "recall@10": 0.5,
         "recall@10_low": 0.4, "recall@10_high": 0.6, **STAMP},
        *({"step": "seeds", "part": "x", "table": "seeds", "method": "x", "seed": seed,
           "recall@10": value, "ndcg@10": value, "recall@50": value, **STAMP}
          for seed, value in ((1, 0.1), (2, 0.3))),
    ]  # fmt: skip
    page = indexing_page.page({"rows": rows, "seeds": "s", "noise": "n", "notes": {}})
    assert "| x | 0.5 [0.4, 0.6] |" in page
    assert "| x | 2 | 0.2000 [0.1000, 0.3000] |" in page
    assert set(indexing_page.TITLES) == set(indexing._STEPS)


def test_rows_replace_those_of_the_same_part_and_keep_the_others(tmp_path):
    words = ["beauty", "--data", str(tmp_path), "--results", str(tmp_path)]
    options = indexing._parser().parse_args(words)
    row = {"table": "methods", "method": "random", "recall@10": 0.1}
    indexing._keep(options, "beauty", "random", [row], "x")
    indexing._keep(options, "games", "random", [row], "x")
    indexing._keep(options, "beauty", "random", [row | {"recall@10": 0.2}], "x")
    kept = {row["step"]: row["recall@10"] for row in indexing._read(options)}
    assert kept == {"beauty": 0.2, "games": 0.1}


@pytest.mark.parametrize(
    ("with_it", "without", "verdict"),
    [((100, 0.5), (200, 0.5), "holds"), ((198, 0.5), (200, 0.5), "no difference"),
     ((200, 0.5), (100, 0.5), "fails"), ((100, 0.6), (200, 0.5), "fails")],
)  # fmt: skip
def test_a_claim_holds_only_beyond_noise_and_at_equal_error(with_it, without, verdict):
    rows = [
        {"table": "methods", "method": name, "sharing_before": sharing, "reconstruction": error}
        for name, (sharing, error) in (("rqvae", with_it), ("rqvae-not-uniform", without))
    ]
    assert verdict in indexing_page._claims(rows)
