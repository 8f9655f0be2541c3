from collections import Counter

import numpy as np
import pytest

from genrec.cf.popularity import Popularity
from genrec.errors import ArtifactError, RequestError
from tests.cf.worlds import arrays, dataset_of, random_sequences


@pytest.mark.parametrize("seed", range(5))
def test_equals_counting_by_hand(seed):
    sequences = random_sequences(seed)
    model = Popularity.fit(dataset_of(sequences, 15))
    counts = Counter(item for s in sequences for item in s[:-2])
    generator = np.random.default_rng(seed)
    excluded = arrays(
        *(generator.integers(0, 15, size=generator.integers(0, 14)) for _ in range(20))
    )
    rankings = model.rank([np.zeros(0, dtype=np.int32)] * 20, 6, exclude=excluded)
    for ranking, rows in zip(rankings, excluded, strict=True):
        eligible = [item for item in range(15) if item not in set(rows.tolist())]
        expected = sorted(eligible, key=lambda item: (-counts[item], item))[:6]
        assert ranking.items.tolist() == expected
        assert ranking.scores.tolist() == [counts[item] for item in expected]
        assert ranking.items.dtype == np.int32 and ranking.scores.dtype == np.float32


def test_held_out_events_are_not_counted():
    model = Popularity.fit(dataset_of([[0, 1, 2, 2], [0, 0, 3, 3]], 4))
    assert model.counts.tolist() == [3, 1, 0, 0]


def test_gives_every_eligible_item_when_k_is_larger_than_the_catalogue():
    model = Popularity(np.array([1, 5, 2]))
    (ranking,) = model.rank(arrays([]), 10, exclude=arrays([1, 1]))
    assert ranking.items.tolist() == [2, 0]


def test_comes_back_from_disk(tmp_path):
    model = Popularity(np.array([1, 5, 2]))
    model.save(tmp_path)
    assert Popularity.load(tmp_path).counts.tolist() == [1, 5, 2]
    assert model.name == "popularity"


def test_damaged_or_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="popularity.safetensors is missing"):
        Popularity.load(tmp_path)
    (tmp_path / "popularity.safetensors").write_bytes(b"no such thing")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Popularity.load(tmp_path)


@pytest.mark.parametrize(
    ("k", "exclude", "message"),
    [
        (0, None, "k is 0"),
        (1, arrays([3]), "rows 0 to 2"),
        (1, arrays([-1]), "rows 0 to 2"),
        (1, arrays([0], [0]), "2 entries for 1 histories"),
    ],
)
def test_bad_requests_say_what_is_wrong(k, exclude, message):
    with pytest.raises(RequestError, match=message):
        Popularity(np.array([1, 5, 2])).rank(arrays([0]), k, exclude=exclude)
