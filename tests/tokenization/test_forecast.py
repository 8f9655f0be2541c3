import math
from collections import Counter

import numpy as np
import pytest

from genrec.data.histories import from_lists
from genrec.errors import DataError
from genrec.tokenization import forecast as module
from genrec.tokenization.code_transitions import CodeTransitions
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.forecast import forecast
from genrec.tokenization.item_pairs import ItemPairs


def counts_of(lists, n):
    return np.bincount([item for row in lists for item in row], minlength=n).astype(np.int64)


def random_world(seed, n=30):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, size=(n, 2)).astype(np.int32)  # 16 tuples, so many are shared.
    train = [rng.integers(0, n, size=length).tolist() for length in rng.integers(1, 8, size=50)]
    histories = [*train[:37], [], *([item] for item in range(n))]
    targets = rng.integers(0, n, size=len(histories)).astype(np.int32)
    targets[0] = train[0][-1]  # One target was seen.
    return codes, train, histories, targets


def run(codes, train, histories, targets, *, sizes=(4, 4), **more):
    validation = from_lists(histories, target=np.asarray(targets, dtype=np.int32))
    counts = counts_of(train, len(codes))
    return forecast(codes, sizes, from_lists(train), validation, counts, **{"seed": 1, **more})


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_a_plain_ranking(seed, monkeypatch):
    codes, train, histories, targets = random_world(seed)
    monkeypatch.setattr(module, "CHANCES_AT_ONCE", 7 * len(codes))
    tree = CodeTree.of(codes, (4, 4))
    last, second = (
        CodeTransitions.fit(tree, ItemPairs.of(from_lists(train), len(codes), gap=gap))
        for gap in (1, 2)
    )
    popularity = counts_of(train, len(codes))
    tuples = [tuple(row) for row in codes.tolist()]
    hits, gains, bits = [], [], []
    for history, target in zip(histories, targets.tolist(), strict=True):
        chance = last.chances(np.array([history[-1] if history else -1]))[0]
        if len(history) > 1:
            share = module.SECOND_SHARE
            chance = (1 - share) * chance + share * second.chances(np.array([history[-2]]))[0]
        score = chance[tree.node[:, -1]]
        same = [item for item in range(len(codes)) if tuples[item] == tuples[target]]
        events = sum(popularity[item] + 1 for item in same)
        bits.append(-math.log2(score[target] * (popularity[target] + 1) / events))
        items = [item for item in range(len(codes)) if item not in history]
        ranked = sorted(items, key=lambda item: (-score[item], -popularity[item], item))[:10]
        hits.append(target in ranked)
        gains.append(1 / math.log2(ranked.index(target) + 2) if target in ranked else 0.0)
    found = run(codes, train, histories, targets)
    assert not hits[0]
    assert 0 < sum(hits) < len(hits)
    assert found["users"] == len(histories)
    assert found["recall@10"] == round(np.mean(hits), 4)
    assert found["ndcg@10"] == round(np.mean(gains), 4)
    assert found["recall@10_error"] == round(np.std(hits, ddof=1) / math.sqrt(len(hits)), 4)
    assert found["bits"] == pytest.approx(np.mean(bits), abs=6e-4)


def test_the_yardstick_counts_what_followed_the_last_item():
    codes, train, histories, targets = random_world(7)
    followed = Counter(
        (row[place], row[place + 1]) for row in train for place in range(len(row) - 1)
    )
    first = {}
    for row in train:
        for place in range(len(row) - 1):
            first.setdefault((row[place], row[place + 1]), len(first))
    popularity = counts_of(train, len(codes))
    hits = []
    for history, target in zip(histories, targets.tolist(), strict=True):
        last = history[-1] if history else None

        def key(item, last=last):
            pair = (last, item)
            return -followed[pair], first.get(pair, len(first)), -popularity[item], item

        items = [item for item in range(len(codes)) if item not in history]
        hits.append(target in sorted(items, key=key)[:10])
    found = run(codes, train, histories, targets)["transition"]
    assert found["recall@10"] == round(np.mean(hits), 4)


def grouped_world(seed=0, groups=8, members=12, users=150):
    """People stay in a group of items, and hardly a pair of items is seen twice."""
    rng = np.random.default_rng(seed)
    n = groups * members

    def walk():
        group = rng.integers(groups)
        return (group * members + rng.permutation(members)[:5]).tolist()

    walks = [walk() for _ in range(users)]
    codes = np.stack([np.arange(n) // members, np.arange(n) % members], axis=1).astype(np.int32)
    return codes, [row[:-1] for row in walks], [row[-1] for row in walks]


def test_codes_that_follow_what_people_choose_beat_shuffled_ones():
    codes, train, targets = grouped_world()
    good = run(codes, train, train, targets, sizes=(8, 12))
    shuffled = np.random.default_rng(5).permutation(codes)
    bad = run(shuffled, train, train, targets, sizes=(8, 12))
    # In the group of the last item 12 - 4 items are left, so 8 of 8 fit into ten places.
    assert good["recall@10"] > 0.95
    assert bad["recall@10"] < good["recall@10"] - 0.2
    assert good["bits"] < bad["bits"] - 0.5
    assert good["bits_shuffled"] > good["bits"] + 0.5
    assert abs(bad["bits_shuffled"] - bad["bits"]) < 0.3
    assert good["recall@10"] > good["transition"]["recall@10"]
    assert good["transition"] == bad["transition"]


def test_users_are_drawn_by_seed():
    codes, train, targets = grouped_world()
    some = [
        run(codes, train, train, targets, sizes=(8, 12), users=20, seed=seed) for seed in (1, 1, 2)
    ]
    assert some[0]["users"] == 20
    assert some[0] == some[1]
    assert some[0] != some[2]


def test_large_catalogues_are_ranked_for_fewer_users(monkeypatch):
    codes, train, targets = grouped_world()
    whole = run(codes, train, train, targets, sizes=(8, 12))
    assert (whole["users"], whole["bits_users"]) == (150, 150)
    monkeypatch.setattr(module, "FEWEST_USERS", 10)
    monkeypatch.setattr(module, "CHANCES", 30 * len(codes))
    found = run(codes, train, train, targets, sizes=(8, 12))
    assert (found["users"], found["bits_users"]) == (30, 150)
    assert found["bits"] == whole["bits"]
    monkeypatch.setattr(module, "CHANCES", 1)
    assert run(codes, train, train, targets, sizes=(8, 12))["users"] == 10


def test_one_user_has_no_standard_error():
    codes, train, histories, targets = random_world(1)
    found = run(codes, train, histories[:1], targets[:1])
    assert found["recall@10_error"] == 0.0


def test_bad_input_is_refused():
    codes, train, histories, targets = random_world(1)
    with pytest.raises(DataError, match="no validation example"):
        run(codes, train, [], [])
    with pytest.raises(DataError, match="targets .* rows -1 to"):
        run(codes, train, histories[:2], [3, -1])
    with pytest.raises(DataError, match="histories .* rows .* to 30, but there are 30 items"):
        run(codes, train, [[30, 1]], [3])
    with pytest.raises(DataError, match="sequences name rows 1 to 30"):
        forecast(
            codes,
            (4, 4),
            from_lists([[1, 30]]),
            from_lists([[1]], target=np.array([2], dtype=np.int32)),
            counts_of(train, 30),
            seed=1,
        )
    with pytest.raises(DataError, match="item_counts has 31 rows for 30 items"):
        forecast(
            codes,
            (4, 4),
            from_lists(train),
            from_lists([[1]], target=np.array([2], dtype=np.int32)),
            counts_of(train, 31),
            seed=1,
        )
