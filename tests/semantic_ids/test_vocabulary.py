import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.errors import DataError
from genrec.semantic_ids import vocabulary as module
from genrec.semantic_ids.vocabulary import SidVocabulary

sizes = st.lists(st.integers(1, 300), min_size=1, max_size=8).map(tuple)
firsts = st.integers(0, 2**20)


def test_examples_in_the_docstring_hold():
    outcome = doctest.testmod(module)
    assert outcome.attempted >= 3
    assert outcome.failed == 0


@settings(deadline=None)
@given(sizes, firsts, st.integers(0, 2**32 - 1))
def test_tokens_and_codes_are_inverse(level_sizes, first_token, seed):
    vocabulary = SidVocabulary(level_sizes, first_token)
    codes = np.random.default_rng(seed).integers(level_sizes, size=(20, len(level_sizes)))
    tokens = vocabulary.tokens(codes.astype(np.int32))
    back = vocabulary.codes(tokens)
    assert tokens.dtype == np.int64
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, codes)
    np.testing.assert_array_equal(vocabulary.tokens(back), tokens)


@settings(deadline=None)
@given(sizes, firsts)
def test_text_of_a_token_names_its_level_and_code(level_sizes, first_token):
    vocabulary = SidVocabulary(level_sizes, first_token)
    texts = vocabulary.token_texts()
    assert len(texts) == len(set(texts)) == len(vocabulary) == sum(level_sizes)
    expected = {}
    token = first_token
    for level, size in enumerate(level_sizes):
        for code in range(size):
            expected[token] = (level, code)
            token += 1
    for level, size in enumerate(level_sizes):
        for code in {0, size // 2, size - 1}:
            codes = np.zeros((1, len(level_sizes)), dtype=np.int32)
            codes[0, level] = code
            token = int(vocabulary.tokens(codes)[0, level])
            assert expected[token] == (level, code)
            assert texts[token - first_token] == f"<{'abcdefgh'[level]}_{code}>"
            assert token == vocabulary.level_range(level)[code]


@settings(deadline=None)
@given(sizes, firsts)
def test_levels_tile_the_tokens(level_sizes, first_token):
    vocabulary = SidVocabulary(level_sizes, first_token)
    joined = [token for level in range(len(level_sizes)) for token in vocabulary.level_range(level)]
    assert joined == list(range(first_token, first_token + sum(level_sizes)))
    assert vocabulary.offsets.tolist() == [
        vocabulary.level_range(level).start for level in range(len(level_sizes))
    ]


def test_a_round_trip_through_json():
    vocabulary = SidVocabulary((64, 64, 7), 49152)
    assert SidVocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


@pytest.mark.parametrize("token", [99, 104, 106, -1])
def test_a_token_of_another_level_is_refused(token):
    vocabulary = SidVocabulary((4, 2), 100)
    with pytest.raises(DataError, match=rf"row 1 has {token} at level 0, expected 100 to 103"):
        vocabulary.codes(np.array([[100, 104], [token, 104]]))


def test_a_code_outside_its_level_is_refused():
    with pytest.raises(DataError, match="row 0 has 2 at level 1, expected 0 to 1"):
        SidVocabulary((4, 2), 100).tokens(np.array([[3, 2]], dtype=np.int32))


def test_a_table_of_another_width_is_refused():
    with pytest.raises(DataError, match=r"shape \(1, 3\), expected \[n, 2\]"):
        SidVocabulary((4, 2), 100).tokens(np.zeros((1, 3), dtype=np.int32))


def test_no_items_are_no_tokens():
    assert SidVocabulary((4, 2), 0).tokens(np.zeros((0, 2), dtype=np.int32)).shape == (0, 2)


@pytest.mark.parametrize(
    ("level_sizes", "first"), [((), 0), ((4, 0), 0), ((4,), -1), ((1,) * 27, 0)]
)
def test_impossible_shapes_are_refused(level_sizes, first):
    with pytest.raises(DataError):
        SidVocabulary(level_sizes, first)
