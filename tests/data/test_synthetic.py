import math
import re

import numpy as np
import polars as pl
import pytest

from genrec.data import synthetic_catalog
from genrec.data.synthetic import CUTOFFS, best_possible, generate_store
from genrec.data.synthetic_catalog import BRANDS, DEPARTMENTS, TIERS, generate_catalog, grid_sizes
from genrec.data.synthetic_rules import category_chances, tier_chances
from genrec.errors import DataError


@pytest.fixture(scope="module")
def small():
    return generate_store(80, 200, seed=3)


@pytest.fixture(scope="module")
def default():
    return generate_store(3000, 1500, seed=42)


def last_events(store):
    users = list(store.sequences)
    item_ids = store.items["item_id"].to_list()
    return users, [item_ids[store.sequences[user][-1]] for user in users], item_ids


def slow_chances(store, history):
    """The rules of the module's docstring, item by item, from the words of the table."""
    items = {row["item_id"]: row for row in store.items.to_dicts()}
    popularity = dict(zip(items, store.rules.attributes.popularity.tolist(), strict=True))
    names = [[category.name for category in members] for _, members in DEPARTMENTS]
    departments = len({row["department"] for row in items.values()})
    brands = sorted({row["brand"] for row in items.values()}, key=BRANDS.index)
    brand_share = {
        brand: sum(popularity[i] for i in items if items[i]["brand"] == brand) for brand in brands
    }
    tiers = [name for name, _, _ in TIERS if name in {row["tier"] for row in items.values()}]

    def place(row):
        for department, members in enumerate(names):
            if row["category"].split(" > ")[1] in members:
                return department, members.index(row["category"].split(" > ")[1])
        raise AssertionError(row)

    def category_chance(source, row):
        department, spot = place(source)
        chance = 0.7 * (place(row) == (department, (spot + 1) % 5))
        return chance + 0.3 * (place(row) == ((department + 1) % departments, (spot + 2) % 5))

    def tier_chance(source, row):
        here, there = tiers.index(source["tier"]), tiers.index(row["tier"])
        chance = 0.6 * (here == there) + 0.2 * (abs(here - there) == 1)
        ends = (here == there == 0) + (here == there == len(tiers) - 1)
        return chance + 0.2 * ends

    bought = [items[i]["brand"] for i in history]
    leading = max(
        set(bought),
        key=lambda brand: (bought.count(brand), max(k for k, b in enumerate(bought) if b == brand)),
    )
    sources = [(1.0, history[-1])]
    if len(history) > 1:
        sources = [(0.85, history[-1]), (0.15, history[-2])]
    weights = {}
    for item_id, row in items.items():
        equals = [
            i
            for i in items
            if all(items[i][key] == row[key] for key in ("category", "brand", "tier"))
        ]
        share = popularity[item_id] / sum(popularity[i] for i in equals)
        brand_chance = 0.75 * (row["brand"] == leading) + 0.25 * brand_share[row["brand"]]
        fitting = sum(
            weight * category_chance(items[source], row) * tier_chance(items[source], row)
            for weight, source in sources
        )
        weights[item_id] = 0.12 * popularity[item_id] + 0.88 * fitting * brand_chance * share
    left = {i: weight for i, weight in weights.items() if i not in history}
    return {i: weight / sum(left.values()) for i, weight in left.items()}


def test_same_seed_same_store():
    first, second, other = (generate_store(30, 60, seed) for seed in (1, 1, 2))
    assert first.items.equals(second.items)
    assert first.interactions.equals(second.interactions)
    assert not first.interactions.equals(other.interactions)
    assert not first.items.equals(other.items)


def test_tables_have_the_promised_columns(small):
    assert small.interactions.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "weight": pl.Float64,
    }
    assert small.items.columns[:4] == ["item_id", "title", "text", "brand"]
    assert {"department", "category", "tier", "colour", "price"} < set(small.items.columns)
    assert small.items.null_count().sum_horizontal().item() == 0
    assert (small.items["price"] > 1).all()


def test_nobody_buys_twice_and_time_runs_forward(default):
    bought = default.interactions
    assert bought.select("user_id", "item_id").is_duplicated().sum() == 0
    for _, rows in bought.group_by("user_id"):
        assert 5 <= rows.height <= 40
        assert (rows["timestamp"].diff().drop_nulls() > 0).all()
    assert bought["user_id"].n_unique() == 3000
    assert 10 < bought.height / 3000 < 12


def test_five_core_keeps_almost_everything(default):
    counts = default.interactions["item_id"].value_counts()
    assert (counts["count"] >= 5).sum() >= 0.995 * 1500


def test_titles_are_readable_and_unique(default):
    titles = default.items["title"].to_list()
    assert len(set(titles)) == 1500
    for row in default.items.to_dicts():
        assert re.fullmatch(r"[A-Z][a-z]+( [A-Z][a-z]+)+, [A-Z][a-z]+", row["title"])
        assert row["title"].startswith(f"{row['brand']} {row['tier']} ")
        assert row["title"].endswith(f", {row['colour']}")
        assert row["text"].startswith(row["title"])
        assert row["category"].split(" > ")[1] in row["text"]
    assert default.items["category"].n_unique() == 30
    assert default.items["brand"].n_unique() == 10


@pytest.mark.parametrize("items", [20, 99, 431, 9001])
def test_every_combination_occurs_at_any_size(items):
    table, attributes = generate_catalog(items, np.random.default_rng(0))
    assert table.height == len(attributes) == items
    assert table["title"].n_unique() == items
    seen = set(zip(attributes.category, attributes.brand, attributes.tier, strict=True))
    assert len(seen) == math.prod(grid_sizes(items))
    assert attributes.popularity.sum() == pytest.approx(1)


def test_titles_stay_unique_when_colours_run_out(monkeypatch):
    monkeypatch.setattr(synthetic_catalog, "COLOURS", ("Slate", "Sand"))
    monkeypatch.setattr(synthetic_catalog, "BRANDS", BRANDS[:2])
    table, _ = generate_catalog(1500, np.random.default_rng(0))
    assert table["title"].n_unique() == 1500
    assert table["title"].str.contains("Series 3").any()


@pytest.mark.parametrize("categories", [5, 10, 30])
def test_every_category_is_a_complement_as_often_as_any_other(categories):
    chances = category_chances(categories)
    assert chances.sum(axis=0) == pytest.approx(1)
    assert chances.sum(axis=1) == pytest.approx(1)
    assert np.diag(chances).sum() == 0


@pytest.mark.parametrize("tiers", [1, 2, 5])
def test_tier_chances_sum_to_one(tiers):
    assert tier_chances(tiers).sum(axis=1) == pytest.approx(1)
    assert tier_chances(tiers) == pytest.approx(tier_chances(tiers).T)


@pytest.mark.parametrize("items", [20, 130, 431])
def test_probabilities_follow_the_rules_word_by_word(items):
    store = generate_store(12, items, seed=items)
    item_ids = store.items["item_id"].to_list()
    for sequence in list(store.sequences.values())[:2]:
        for length in (1, 2, len(sequence) - 1):
            history = [item_ids[row] for row in sequence[:length]]
            expected = slow_chances(store, history)
            found = dict(store.oracle_ranking(history))
            assert found.keys() == expected.keys()
            assert found == pytest.approx(expected, rel=1e-9)
            assert sum(found.values()) == pytest.approx(1)


def test_the_oracle_ranks_by_probability_then_catalogue_order(small):
    ranking = small.oracle_ranking(["I00003", "I00010"])
    rows = small.item_rows
    keys = [(-chance, rows[item_id]) for item_id, chance in ranking]
    assert keys == sorted(keys)
    assert len(ranking) == 198
    first = dict(small.oracle_ranking([]))
    assert first["I00007"] == pytest.approx(small.rules.attributes.popularity[7])


@pytest.mark.parametrize("length", [0, 1, 2, 7])
def test_draws_are_as_frequent_as_the_oracle_says(small, length):
    draws = 200_000
    history = np.random.default_rng(8).choice(200, size=length, replace=False)
    chances = small.rules.probabilities(history[None])[0]
    drawn = small.rules.draw(np.tile(history, (draws, 1)), np.random.default_rng(9))
    counts = np.bincount(drawn, minlength=200)
    assert counts[history].sum() == 0
    possible = chances > 0
    expected = draws * chances[possible]
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = possible.sum() - 1
    # Chi-square has this mean and spread; 4 spreads are far beyond chance.
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)


def test_purchases_of_a_store_come_as_often_as_expected(default):
    """Whole sequences obey the oracle: hits of its first place are as frequent as it claims."""
    users, targets, item_ids = last_events(default)
    best = best_possible(default, users, targets, item_ids)
    for k in CUTOFFS:
        expected = best[f"expected_recall@{k}"]
        spread = math.sqrt(expected * (1 - expected) / len(users))
        assert abs(best[f"recall@{k}"] - expected) < 4 * spread
    assert 0.5 < best["recall@10"] < 0.75


@pytest.mark.parametrize("dropped", [0, 30])
def test_best_possible_is_what_the_rankings_give(small, dropped):
    users, targets, item_ids = last_events(small)
    kept = item_ids[dropped:]
    events = [(u, t) for u, t in zip(users, targets, strict=True) if t in set(kept)]
    best = best_possible(
        small, [user for user, _ in events], [target for _, target in events], kept, (1, 10)
    )
    sums = dict.fromkeys(best, 0.0)
    for user, target in events:
        history = [item_ids[row] for row in small.sequences[user]]
        history = history[: history.index(target)]
        ranking = [pair for pair in small.oracle_ranking(history) if pair[0] in set(kept)]
        total = sum(chance for _, chance in ranking)
        for k in (1, 10):
            for place, (item_id, chance) in enumerate(ranking[:k], start=1):
                for name, gain in (
                    ("recall", 1.0),
                    ("ndcg", 1 / math.log2(place + 1)),
                    ("mrr", 1 / place),
                ):
                    sums[f"{name}@{k}"] += gain * (item_id == target)
                    sums[f"expected_{name}@{k}"] += gain * chance / total
    assert best == pytest.approx({key: value / len(events) for key, value in sums.items()})


def test_no_other_ranking_beats_the_oracle_and_structure_beats_counting(default):
    """Popularity << item transitions < attribute counts < oracle, all from training events."""
    sequences = list(default.sequences.values())
    attributes = default.rules.attributes
    kind = attributes.category * attributes.sizes[2] + attributes.tier
    follows = np.zeros((1500, 1500))
    kind_follows = np.full((kind.max() + 1, kind.max() + 1), 1e-3)
    bought = np.zeros(1500)
    for sequence in sequences:
        learned = sequence[:-2]
        bought[learned] += 1
        np.add.at(follows, (learned[:-1], learned[1:]), 1)
        np.add.at(kind_follows, (kind[learned[:-1]], kind[learned[1:]]), 1)
    kind_follows /= kind_follows.sum(axis=1, keepdims=True)

    def brands(history):
        counts = np.bincount(attributes.brand[history], minlength=attributes.sizes[1]) + 0.3
        return ((counts / counts.sum()) ** 1.5)[attributes.brand]

    rankers = {
        "popularity": lambda history: bought,
        "transition": lambda history: follows[history[-1]] + 1e-6 * bought,
        "attributes": lambda history: kind_follows[kind[history[-1]]][kind] * brands(history),
        "oracle": lambda history: default.rules.probabilities(history[None])[0],
    }
    recall = dict.fromkeys(rankers, 0.0)
    for sequence in sequences[:1500]:
        history, target = sequence[:-1], sequence[-1]
        for name, score in rankers.items():
            scores = np.array(score(history), dtype=float)
            scores[history] = -1
            recall[name] += float((scores > scores[target]).sum() < 10) / 1500
    assert recall["popularity"] < 0.05 * recall["oracle"]
    assert 0.4 * recall["oracle"] < recall["transition"] < 0.65 * recall["oracle"]
    assert 0.85 * recall["oracle"] < recall["attributes"] < recall["oracle"]


def test_bad_requests_say_what_is_wrong(small):
    with pytest.raises(DataError, match="at least 20"):
        generate_store(10, 19, seed=0)
    with pytest.raises(DataError, match="at least 1"):
        generate_store(0, 50, seed=0)
    with pytest.raises(DataError, match="first 'B9'"):
        small.oracle_ranking(["I00001", "B9"])
    users, targets, item_ids = last_events(small)
    with pytest.raises(DataError, match="1 of dropped items"):
        kept = [item_id for item_id in item_ids if item_id != targets[0]]
        best_possible(small, users[:1], targets[:1], kept)
    with pytest.raises(DataError, match="0 events"):
        best_possible(small, [], [], item_ids)
    with pytest.raises(DataError, match="never buys"):
        best_possible(small, ["nobody"], targets[:1], item_ids)
