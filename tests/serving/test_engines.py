"""One contract for all engines: the lists of every item scored alone by a plain forward pass."""

from collections import Counter

import numpy as np
import pytest
import torch

from genrec import Recommender
from genrec.decoding.rules import RowRules
from genrec.errors import ConfigError, DependencyError
from genrec.model.generative import GenerativeModel
from genrec.runtime import Runtime
from genrec.serving.engines import load_ranker
from genrec.serving.rules import Rules
from tests.tiny_run import invoke, trained

ITEMS = 40
# Heads of 32, the least that vLLM reads on a CPU; codes that leave thin and wide branches.
SHAPE = (
    "train.scratch.hidden=64", "train.scratch.heads=2", "train.scratch.feed_forward=64",
    "train.max_steps=30", "index.levels=3", "index.codes_per_level=6",
)  # fmt: skip
HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([], [3], [5, 1, 9], list(range(25)))]
ENGINES = [
    "torch",
    pytest.param(
        "vllm",
        # What vLLM and the packages it imports warn of is not ours to mend.
        marks=[pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")],
    ),
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("engines") / "run", *SHAPE)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(scope="module")
def recommender(run_folder, engine):
    """Beams below, at and above the children of a node are set by the tests."""
    return Recommender.from_pretrained(
        run_folder, device="cpu", dtype="float32", engine=engine, new_item_weight=0
    )


@pytest.fixture
def ranker(recommender):
    recommender.ranker.beam = ITEMS
    return recommender.ranker


@pytest.fixture(scope="module")
def table(run_folder):
    """The score of every item after every history, float[histories, items], by plain passes."""
    model = GenerativeModel.load(run_folder / "model", device=torch.device("cpu"))
    tokens = model.vocabulary.tokens(model.index.codes)
    scores = np.zeros((len(HISTORIES), ITEMS))
    for number, prompt in enumerate(model.prompts.encode(HISTORIES, tokens)):
        whole = np.concatenate([np.broadcast_to(prompt, (ITEMS, len(prompt))), tokens], axis=1)
        with torch.inference_mode():
            logits = model.language_model(input_ids=torch.from_numpy(whole)).logits
        for level in range(model.index.levels):
            codes = model.vocabulary.level_range(level)
            chances = logits[:, len(prompt) - 1 + level, codes.start : codes.stop].log_softmax(1)
            own = chances[torch.arange(ITEMS), model.index.codes[:, level].astype(np.int64)]
            scores[number] += own.numpy()
    return scores


def best(scores, ranker, left):
    """Rows from the best to the worst; those of one tuple the popular ones first."""
    index, counts = ranker.model.index, ranker.model.item_counts
    tuples = {}
    for row in range(ITEMS):
        tuples.setdefault(index.codes_of(row), scores[row])
    return sorted(left, key=lambda row: (-tuples[index.codes_of(row)], -counts[row], row))


def assert_lists(rankings, table, ranker, left, k):
    for number, ranking in enumerate(rankings):
        want = best(table[number], ranker, left[number])[:k]
        assert ranking.items.tolist() == want
        np.testing.assert_allclose(ranking.scores, table[number][want], atol=1e-3)


def everything():
    return [set(range(ITEMS)) for _ in HISTORIES]


def test_a_wide_beam_gives_the_lists_of_scoring_every_item(ranker, table):
    for k in (1, 10, ITEMS):
        assert_lists(ranker.rank(HISTORIES, k), table, ranker, everything(), k)


def test_a_narrow_beam_gives_the_lists_of_the_torch_engine(ranker, run_folder):
    model = run_folder / "model"
    runtime = Runtime(device="cpu", dtype="float32")
    for beam in (1, 2, 5, 6, 7, 13):
        ranker.beam = beam
        other = load_ranker(model, runtime, beam=beam, new_item_weight=0)
        wanted = other.rank(HISTORIES, beam)
        for found, want in zip(ranker.rank(HISTORIES, beam), wanted, strict=True):
            assert found.items.tolist() == want.items.tolist()
            np.testing.assert_allclose(found.scores, want.scores, atol=1e-3)


def test_k_valid_items_come_back_whenever_k_are_eligible(ranker):
    random = np.random.default_rng(1)
    for k in (1, 4, 39, 500):
        for beam in (1, 7):
            ranker.beam = beam
            exclude = [
                np.flatnonzero(random.random(ITEMS) < share).astype(np.int32)
                for share in (0, 0.3, 0.9, 1)
            ]
            for out, ranking in zip(
                exclude, ranker.rank(HISTORIES, k, exclude=exclude), strict=True
            ):
                got = ranking.items.tolist()
                assert len(got) == len(set(got)) == min(k, ITEMS - len(out))
                assert set(got) <= set(range(ITEMS)) - set(out.tolist())


def test_items_are_denied_allowed_and_boosted(ranker, table):
    deny, allow = {2, 3, 11}, set(range(0, ITEMS, 2))
    rules = [
        RowRules(
            excluded=np.array(sorted(deny)), allowed=np.array(sorted(allow)), boosts={10: 50.0}
        )
    ] * len(HISTORIES)
    left = allow - deny
    for number, ranking in enumerate(ranker.rank(HISTORIES, 6, rules=rules)):
        boosted = table[number] + np.where(np.arange(ITEMS) == 10, 50, 0)
        assert ranking.items[0] == 10
        rest = best(table[number], ranker, left - {10})
        assert ranking.items.tolist() == [10, *rest[:5]]
        np.testing.assert_allclose(ranking.scores, boosted[ranking.items], atol=1e-3)


def test_no_more_of_one_first_code_than_the_rule_says(ranker, run_folder):
    rules = [RowRules(most_per_code=2)] * len(HISTORIES)
    first = Counter(ranker.model.index.codes[:, 0].tolist())
    other = load_ranker(
        run_folder / "model", Runtime(device="cpu", dtype="float32"), beam=ITEMS, new_item_weight=0
    )
    wanted = other.rank(HISTORIES, ITEMS, rules=rules)
    for ranking, want in zip(ranker.rank(HISTORIES, ITEMS, rules=rules), wanted, strict=True):
        got = Counter(ranker.model.index.codes[ranking.items, 0].tolist())
        assert got == {code: min(2, count) for code, count in first.items()}
        assert ranking.items.tolist() == want.items.tolist()


def test_rules_in_outside_ids(recommender):
    recommender.ranker.beam = ITEMS
    catalog = recommender.catalog
    categories = catalog.table["category"].to_list()
    bags = [row for row in range(ITEMS) if categories[row].endswith("Camera Bags")]
    rules = Rules(
        deny=[catalog.item_ids[bags[0]]],
        where={"attribute": "category", "op": "==", "value": categories[bags[0]]},
    )
    histories = [[catalog.item_ids[bags[1]], catalog.item_ids[0]]]
    [answer] = recommender.recommend(histories, k=10, rules=rules)
    got = {item.item_id for item in answer.items}
    assert got == {catalog.item_ids[row] for row in bags[2:]}
    [spread] = recommender.recommend(histories, k=10, rules=Rules(at_most={"category": 1}))
    kinds = [categories[catalog.rows([item.item_id])[0][0]] for item in spread.items]
    assert len(kinds) == len(set(kinds)) == len(set(categories))
    assert answer.score == "level"


def test_a_history_alone_gets_what_it_gets_among_others(ranker):
    ranker.beam = 6
    together = ranker.rank(HISTORIES, 5)
    for history, ranking in zip(HISTORIES, together, strict=True):
        [alone] = ranker.rank([history], 5)
        assert alone.items.tolist() == ranking.items.tolist()


def test_codes_of_given_items_are_scored(ranker, table):
    rows = [0, 7, 21, 39]
    steps = ranker.code_scores(HISTORIES, rows)
    assert steps.shape == (len(HISTORIES), 3)
    np.testing.assert_allclose(
        steps.sum(axis=1), [table[number, row] for number, row in enumerate(rows)], atol=1e-3
    )


def test_a_model_without_weights_is_the_same_but_for_them(run_folder):
    meta = GenerativeModel.load(run_folder / "model", device=torch.device("meta"))
    whole = GenerativeModel.load(run_folder / "model", device=torch.device("cpu"))
    shapes = [
        {name: (each.shape, each.dtype) for name, each in model.language_model.named_parameters()}
        for model in (meta, whole)
    ]
    assert shapes[0] == shapes[1]
    assert all(each.is_meta for each in meta.language_model.parameters())
    assert (meta.index.codes == whole.index.codes).all()


def test_an_engine_that_is_not_there_is_refused(run_folder):
    with pytest.raises(ConfigError, match="no engine 'magic', expected torch or vllm"):
        load_ranker(run_folder / "model", Runtime(device="cpu", engine="magic"))


def test_without_vllm_its_engine_says_how_to_install_it(run_folder, monkeypatch):
    # An entry of None makes every import of the module fail.
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    with pytest.raises(DependencyError, match=r"pip install 'genrec\[vllm\]'"):
        load_ranker(run_folder / "model", Runtime(device="cpu", engine="vllm"))
    asked = invoke("recommend", run_folder, "--history", "I00001", "--set", "runtime.engine=vllm")
    assert asked.exit_code != 0
    assert "pip install 'genrec[vllm]'" in " ".join(asked.stderr.split())
