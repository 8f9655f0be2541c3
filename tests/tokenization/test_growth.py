from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization import free_tuples, tuple_space
from genrec.tokenization.growth import NO_FREE_TUPLE, add_items, codes_in_use
from genrec.tokenization.load_quantizer import load_quantizer
from genrec.tokenization.prefix_beam import nearest_prefixes
from genrec.tokenization.product import ProductQuantizer
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.rq_vae import RqVae
from tests.tokenization.table_quantizer import TableQuantizer


def distance(quantizer, vector, codes):
    """Of one vector to one tuple or prefix."""
    prefix = np.array([codes[:-1]], dtype=np.int32).reshape(1, len(codes) - 1)
    return float(quantizer.distances(vector[None], prefix)[0, codes[-1]])


def beam_by_hand(quantizer, vector, width, known):
    """The nearest prefixes, one at a time."""
    beam = [()]
    for allowed in known:
        longer = [(*prefix, code) for prefix in beam for code in np.flatnonzero(allowed).tolist()]
        beam = sorted(longer, key=lambda codes: (distance(quantizer, vector, codes), codes))
        beam = sorted(beam[:width])
    return beam


def wishes_by_hand(quantizer, vector, known, first_width):
    """All tuples of known codes in the order an item wants them."""
    encoded = tuple(quantizer.codes_of(vector[None])[0, :-1].tolist())
    if not all(allowed[code] for allowed, code in zip(known, encoded, strict=False)):
        [encoded] = beam_by_hand(quantizer, vector, 1, known[:-1])
    wishes, prefixes = [], [encoded]
    total = np.prod([allowed.sum() for allowed in known[:-1]])
    seen, width = set(), first_width
    while prefixes:
        tuples = [
            (*prefix, code) for prefix in prefixes for code in np.flatnonzero(known[-1]).tolist()
        ]
        wishes += sorted(tuples, key=lambda codes: (distance(quantizer, vector, codes), codes))
        seen |= set(prefixes)
        if len(seen) >= total:
            return wishes
        prefixes = [p for p in beam_by_hand(quantizer, vector, width, known[:-1]) if p not in seen]
        if not prefixes and width < total:
            prefixes = []
            while not prefixes:
                width *= 2
                beam = beam_by_hand(quantizer, vector, width, known[:-1])
                prefixes = [p for p in beam if p not in seen]
        width *= 2
    return wishes


def by_hand(index, quantizer, x, ids, known, first_width=16):
    """Deferred acceptance, one question at a time, over the whole tuple space."""
    levels = len(quantizer.level_sizes)
    digits = np.flatnonzero(known[levels]).tolist() if index.levels > levels else [0]
    taken = {}
    for codes in index.codes.tolist():
        taken.setdefault(tuple(codes[:levels]), []).extend(codes[levels:] or [0])
    free = {
        codes: len(x) if index.shared else len(set(digits) - set(taken.get(codes, [])))
        for codes in product(*map(range, quantizer.level_sizes))
    }
    wishes = [wishes_by_hand(quantizer, vector, known[:levels], first_width) for vector in x]
    held = {codes: [] for codes in free}
    asked = [0] * len(x)
    queue = list(range(len(x)))
    while queue:
        item = queue.pop(0)
        if asked[item] == len(wishes[item]):
            continue
        codes = wishes[item][asked[item]]
        held[codes].append(item)
        held[codes].sort(key=lambda i: (distance(quantizer, x[i], codes), ids[i]))
        if len(held[codes]) > free[codes]:
            out = held[codes].pop()
            asked[out] += 1
            queue.append(out)
    answer = {}
    for codes, items in held.items():
        left = [digit for digit in digits if digit not in taken.get(codes, [])]
        for position, item in enumerate(items):
            answer[item] = (*codes, left[position]) if index.levels > levels else codes
    return answer


def added_by_row(added):
    return dict(zip(added.rows.tolist(), map(tuple, added.codes.tolist()), strict=True))


@st.composite
def arrivals(draw):
    """An index that is nearly full, and new items: ties, twins, unknown codes, spare codes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.integers(1, 3))
    sizes = tuple(draw(st.integers(1, 4)) for _ in range(levels))
    kinds = draw(st.integers(1, 12))
    spare = draw(st.integers(0, sizes[-1] - 1))
    quantizer = TableQuantizer.random(rng, kinds, sizes, draw(st.sampled_from([1, 3, 1000])), spare)
    digit = draw(st.sampled_from([(), (2,), (3,)]))
    shared = not digit and draw(st.booleans())
    space = np.array(list(product(*map(range, (*sizes, *digit)))), dtype=np.int32)
    count = draw(st.integers(1, len(space)))
    codes = rng.permutation(space)[:count]
    index = ItemIndex(codes, (*sizes, *digit), {"method": "table"}, shared=shared)
    x = rng.integers(0, kinds, size=(draw(st.integers(1, 20)), 1)).astype(np.float32)
    ids = [f"new{number}" for number in rng.permutation(len(x))]
    return index, quantizer, x, ids, [f"old{row}" for row in range(count)]


@settings(max_examples=300, deadline=None)
@given(arrivals(), st.sampled_from([1, 2, 16]), st.sampled_from([1, 40, 2**21]))
def test_agrees_with_one_question_at_a_time_over_all_tuples(arrival, first_width, at_once):
    index, quantizer, x, ids, old = arrival
    known = codes_in_use(index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuple_space, "FIRST_WIDTH", first_width)
        patch.setattr(free_tuples, "_WISHES_AT_ONCE", at_once)
        added = add_items(index, quantizer, x, ids, old, codes_known=known)
    expected = by_hand(index, quantizer, x, ids, known, first_width)
    assert added_by_row(added) == expected
    assert [refused.row for refused in added.refused] == sorted(set(range(len(x))) - set(expected))
    assert all(refused.item_id == ids[refused.row] for refused in added.refused)
    if not index.shared:
        together = np.vstack([index.codes, added.codes])
        assert len(np.unique(together, axis=0)) == len(together)


@settings(max_examples=100, deadline=None)
@given(arrivals(), st.integers(0, 2**32 - 1))
def test_items_in_another_order_get_the_same_codes(arrival, seed):
    index, quantizer, x, ids, old = arrival
    known = codes_in_use(index)
    order = np.random.default_rng(seed).permutation(len(x))
    straight = added_by_row(add_items(index, quantizer, x, ids, old, codes_known=known))
    shuffled = added_by_row(
        add_items(index, quantizer, x[order], [ids[i] for i in order], old, codes_known=known)
    )
    assert {int(order[row]): codes for row, codes in shuffled.items()} == straight


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1, 3, 1000]))
def test_the_beam_keeps_the_nearest_prefixes(seed, width, values):
    rng = np.random.default_rng(seed)
    quantizer = TableQuantizer.random(rng, 5, (3, 4, 2), values)
    known = [np.array([True, False, True]), rng.random(4) < 0.7]
    known[1][rng.integers(4)] = True
    x = np.arange(5, dtype=np.float32)[:, None]
    beams = nearest_prefixes(quantizer, x, width, known)
    expected = [beam_by_hand(quantizer, vector, width, known) for vector in x]
    assert [list(map(tuple, beam)) for beam in beams.tolist()] == expected


QUANTIZERS = {
    "residual_kmeans": lambda: ResidualKMeans(3, 8, seed=1),
    "normalised_residuals": lambda: ResidualKMeans(3, 8, seed=1, normalise_residuals=True),
    "product": lambda: ProductQuantizer(3, 8, seed=1),
    "rq_vae": lambda: RqVae(3, 8, hidden=[16], dimensions=4, epochs=20, seed=1),
}
# Their distances are not those between a vector and what ``decode`` makes of its codes: the first
# know the lengths of a vector's residuals, the others are those of the latents.
OWN_SPACE = {"normalised_residuals", "rq_vae"}


def indexed(quantizer):
    """Fit a quantizer, and make an index of 200 items that use all of its codes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    quantizer.fit(x)
    codes = rng.permutation(np.unique(quantizer.codes_of(x), axis=0))[:200]
    index = ItemIndex(codes, quantizer.level_sizes, {})
    assert all(allowed.all() for allowed in codes_in_use(index))
    return quantizer, index, [f"old{row}" for row in range(200)]


@pytest.fixture(scope="module")
def trained():
    return indexed(QUANTIZERS["residual_kmeans"]())


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_real_quantizer_agrees_with_brute_force(name, tmp_path):
    quantizer, index, old = indexed(QUANTIZERS[name]())
    quantizer.save(tmp_path)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(24, 6)).astype(np.float32)
    x[10:18] = x[10]
    ids = [f"new{number}" for number in rng.permutation(24)]
    known = codes_in_use(index)
    added = add_items(index, load_quantizer(tmp_path), x, ids, old, codes_known=known)
    assert added_by_row(added) == by_hand(index, quantizer, x, ids, known)
    assert not added.refused
    alone = quantizer.codes_of(x)
    np.testing.assert_array_equal(added.moved, (added.codes != alone).any(axis=1))
    assert 0 < added.moved.sum() < 24
    if name in OWN_SPACE:
        return
    for codes, distances in ((added.codes, added.distance), (alone, added.own_distance)):
        off = ((x - quantizer.decode(codes)).astype(np.float64) ** 2).sum(axis=1)
        np.testing.assert_allclose(distances, off, rtol=1e-4)


def test_a_folder_without_a_quantizer_and_one_of_no_known_method(tmp_path):
    assert load_quantizer(tmp_path) is None
    for text in ('{"method": "other"}', "{}", "[]", "no json"):
        (tmp_path / "quantizer.json").write_text(text)
        with pytest.raises(ArtifactError, match="expected one of residual_kmeans, rq_vae, product"):
            load_quantizer(tmp_path)


def test_the_last_free_tuples_go_to_the_nearest_and_the_others_are_refused():
    # Two levels of two codes, one tuple free: (1, 1).
    distances = np.array([[[1.0, 2], [3, 4]], [[1, 2], [3, 5]], [[1, 2], [3, 4]]])
    quantizer = TableQuantizer([distances.min(axis=2), distances])
    index = ItemIndex(np.array([[0, 0], [0, 1], [1, 0]], dtype=np.int32), (2, 2), {})
    x = np.array([[0], [1], [2]], dtype=np.float32)
    known = codes_in_use(index)
    added = add_items(index, quantizer, x, ["c", "a", "b"], list("xyz"), codes_known=known)
    # Rows 0 and 2 are equally near; the smaller id is that of row 2.
    assert added_by_row(added) == {2: (1, 1)}
    assert added.moved.tolist() == [True]
    assert added.distance.tolist() == [4.0]
    assert added.own_distance.tolist() == [1.0]
    assert [(each.row, each.item_id, each.reason) for each in added.refused] == [
        (0, "c", NO_FREE_TUPLE),
        (1, "a", NO_FREE_TUPLE),
    ]


def test_codes_that_no_item_of_the_trained_index_carries_are_not_given():
    distances = np.array([[[0.0, 1, 2], [5, 6, 7], [0, 0, 0]]])
    quantizer = TableQuantizer([distances.min(axis=2), distances])
    index = ItemIndex(np.array([[0, 1], [1, 2]], dtype=np.int32), (3, 3), {})
    x = np.zeros((2, 1), dtype=np.float32)
    added = add_items(index, quantizer, x, ["b", "a"], ["x", "y"], codes_known=codes_in_use(index))
    # Code 2 of the first level and code 0 of the last are nearer, but nobody carries them.
    assert added_by_row(added) == {1: (0, 2), 0: (1, 1)}


def test_a_digit_counts_on_from_those_that_are_taken():
    distances = np.array([[[0.0, 9]], [[1, 9]], [[2, 9]]])
    quantizer = TableQuantizer([distances.min(axis=2), distances])
    there = [[0, 0, 1], [0, 0, 0], [0, 1, 3]]
    index = ItemIndex(np.array(there, dtype=np.int32), (1, 2, 4), {})
    x = np.array([[2], [1], [0]], dtype=np.float32)
    added = add_items(
        index, quantizer, x, list("cba"), list("xyz"), codes_known=codes_in_use(index)
    )
    # Digits 0, 1 and 3 are known. The nearest item gets the last place, the others go on.
    assert added_by_row(added) == {2: (0, 0, 3), 1: (0, 1, 0), 0: (0, 1, 1)}


def test_in_a_shared_index_every_item_keeps_its_nearest_tuple():
    distances = np.array([[[0.0, 9]], [[8, 1]]])
    quantizer = TableQuantizer([distances.min(axis=2), distances])
    codes = np.array([[0, 0], [0, 0], [0, 1]], dtype=np.int32)
    index = ItemIndex(codes, (1, 2), {}, shared=True)
    x = np.array([[0], [1], [0]], dtype=np.float32)
    added = add_items(
        index, quantizer, x, list("abc"), list("xyz"), codes_known=codes_in_use(index)
    )
    assert added_by_row(added) == {0: (0, 0), 1: (0, 1), 2: (0, 0)}
    assert not added.moved.any()


def test_thousands_of_items_without_a_text_are_placed_in_seconds():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 8)).astype(np.float32)
    quantizer = ResidualKMeans(3, 10, seed=1).fit(x)
    index = ItemIndex(np.unique(quantizer.codes_of(x), axis=0), (10, 10, 10), {})
    old = [f"old{row}" for row in range(len(index))]
    free = 1000 - len(index)
    ids = [f"{number:05d}" for number in range(4000)]
    new = np.zeros((4000, 8), dtype=np.float32)
    added = add_items(index, quantizer, new, ids, old, codes_known=codes_in_use(index))
    # Equal vectors: the smaller ids are placed, as many as there are tuples.
    assert added.rows.tolist() == list(range(free))
    assert len(added.refused) == 4000 - free
    assert len(np.unique(np.vstack([index.codes, added.codes]), axis=0)) == 1000


def test_no_new_item_is_no_error(trained):
    quantizer, index, old = trained
    known = codes_in_use(index)
    added = add_items(index, quantizer, np.zeros((0, 6), np.float32), [], old, codes_known=known)
    assert added.codes.shape == (0, 3)
    assert not added.refused


def test_a_method_without_a_quantizer_says_what_to_do():
    index = ItemIndex(np.zeros((1, 2), dtype=np.int32), (2, 2), {"method": "title"})
    with pytest.raises(ConfigError, match="method 'title'.*make the index and the model again"):
        add_items(index, None, np.zeros((0, 6), np.float32), [], ["x"], codes_known=[])


def test_bad_input_is_refused(trained):
    quantizer, index, old = trained
    known = codes_in_use(index)
    x = np.zeros((2, 6), dtype=np.float32)

    def add(vectors=x, ids=("a", "b"), existing=tuple(old), allowed=known, into=index):
        return add_items(into, quantizer, vectors, ids, existing, codes_known=allowed)

    with pytest.raises(DataError, match="1 of 2 new items are in the index already, as 'old7'"):
        add(ids=["a", "old7"])
    with pytest.raises(DataError, match="'a' occurs more than once"):
        add(ids=["a", "a"])
    with pytest.raises(DataError, match="1 item ids for 2 rows"):
        add(ids=["a"])
    with pytest.raises(DataError, match="199 item ids for 200 rows"):
        add(existing=tuple(old[1:]))
    with pytest.raises(DataError, match="NaN"):
        add(vectors=np.full((2, 6), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="codes_known is for levels of \\(8, 8\\)"):
        add(allowed=known[:2])
    with pytest.raises(DataError, match="at least one known code"):
        add(allowed=[*known[:2], np.zeros(8, dtype=bool)])
    with pytest.raises(ConfigError, match="do not belong together"):
        add(into=ItemIndex(index.codes, (8, 8, 9), {}))
