"""The dense side: its loss by arithmetic, its training, its folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from genrec import artifacts
from genrec.cf import fit
from genrec.cf.blend import Blend
from genrec.cf.sasrec import SasRec
from genrec.cf.user_states import item_log_probabilities
from genrec.config import Recipe
from genrec.data.ranking import Ranking
from genrec.data.sample import sample
from genrec.decoding.hybrid_ranker import Candidates, HybridRanker
from genrec.decoding.rules import RowRules
from genrec.embeddings.table import EmbeddingTable
from genrec.embeddings.whitening import whitened
from genrec.errors import ArtifactError, ConfigError
from genrec.model.dense_side import DenseSide
from genrec.model.generative import GenerativeModel
from genrec.semantic_ids.neighbours import with_neighbours
from genrec.serving.recommender import Recommender
from genrec.training import train
from genrec.training.batches import IGNORED
from genrec.training.dense import DenseLearner, DenseTerm
from genrec.training.dense_weight import SHARES, Figures, SideWeights
from genrec.training.post_alignment import PostAlignment
from genrec.training.teacher import Teacher
from tests.training.test_train import run_child
from tests.training.world import RUNTIME, make_run, recipe, tiny_language_model

CPU = torch.device("cpu")


def learner(vectors=True, directions=None):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    given = random.normal(size=(5, 3)).astype(np.float32) if vectors else None
    return DenseLearner(4, np.array([2, 0, 1, 3, 1]), given, 6, directions=directions), given


def centred_and_scaled(given):
    centred = given - given.mean(axis=0)
    return centred / np.sqrt((centred**2).mean())


def read_of(given, directions):
    return centred_and_scaled(given) if directions is None else whitened(given, directions)


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize(("vectors", "directions"), [(True, None), (True, 2), (False, None)])
def test_loss_is_the_cross_entropy_over_items_with_events(vectors, directions, share):
    dense, given = learner(vectors, directions)
    random = np.random.default_rng(1)
    states = random.normal(size=(3, 4)).astype(np.float32)
    soft = random.random((3, 5)).astype(np.float32)
    answers = [4, 2, 0]
    found = dense.loss(
        torch.from_numpy(states), torch.tensor(answers), torch.from_numpy(soft), share
    )
    weight, bias = dense.user.weight.detach().numpy(), dense.user.bias.detach().numpy()
    known = [0, 2, 3, 4]
    vectors_of = dict(zip(known, dense.own.weight.detach().numpy(), strict=True))
    if given is not None:
        projection = dense.projection.weight.detach().numpy()
        vectors_of = {
            row: own + projection @ read_of(given, directions)[row]
            for row, own in vectors_of.items()
        }
    losses = []
    for state, answer, taught in zip(states, answers, soft, strict=True):
        scores = {row: (weight @ state + bias) @ vector for row, vector in vectors_of.items()}
        total = np.log(sum(np.exp(score) for score in scores.values()))
        mass = sum(taught[row] for row in known)
        event = total - scores[answer]
        teacher = sum(taught[row] / mass * (total - scores[row]) for row in known)
        losses.append((1 - share) * event + share * teacher)
    assert float(found.detach()) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_teacher_weighs_alike_where_all_items_have_events():
    torch.manual_seed(0)
    dense = DenseLearner(4, np.array([2, 1, 3]), None, 6)
    states, answers = torch.randn(2, 4), torch.tensor([2, 0])
    soft = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]])
    surprise = -(dense.user(states) @ dense.own.weight.T).log_softmax(1)
    event = (surprise[0, 2] + surprise[1, 0]) / 2
    taught = (soft * surprise).sum() / 2
    found = dense.loss(states, answers, soft, 0.25)
    torch.testing.assert_close(found, 0.75 * event + 0.25 * taught)
    # The teacher's own table is not written to.
    torch.testing.assert_close(soft.sum(1), torch.ones(2))


def test_loss_in_half_precision_is_near_that_in_float32():
    dense, _ = learner()
    torch.manual_seed(1)
    states, answers = torch.randn(64, 4), torch.randint(0, 4, (64,))
    answers = dense.known[answers]
    soft = torch.rand(64, 5).softmax(1)
    gradients, losses = [], []
    for half in (False, True):
        dense.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = dense.loss(states, answers, soft, 0.5)
        assert loss.dtype == torch.float32
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(dense.own.weight.grad.flatten().clone())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert not torch.equal(*gradients)
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.99


def test_an_item_without_events_has_its_given_vector_alone():
    dense, given = learner()
    served = dense.served(0.5, 0.25)
    projection = dense.projection.weight.detach().numpy()
    np.testing.assert_allclose(
        served.items[1], projection @ centred_and_scaled(given)[1], rtol=1e-5
    )
    assert served.weight == 0.5
    without, _ = learner(vectors=False)
    alone = without.served(0.5, 0.0).items
    torch.testing.assert_close(alone[1], alone[[0, 2, 3, 4]].mean(0))


def three_sides(generative, dense, cf, items=(3, 4)):
    arrays = (np.asarray(side, dtype=np.float32) for side in (generative, dense, cf))
    return Candidates(np.asarray(items, dtype=np.int32), *arrays, np.zeros(2, dtype=np.float32))


def test_the_weight_with_the_best_ndcg_is_chosen():
    candidates = [three_sides([0.0, -1.0], [-1.0, 0.0], [-1.0, 0.0])]
    weights = SideWeights(candidates, np.array([4]))
    assert weights.figures(0.0, 0.0) == Figures(1.0, pytest.approx(1 / np.log2(3)))
    assert weights.figures(1.0, 0.0) == Figures(1.0, 1.0)
    # Of equal sums the first one stays first, so more than half is needed.
    assert weights.best() == (0.55, 0.0)
    missed = Figures.of([Ranking(np.array([1], np.int32), np.zeros(1, np.float32))], np.array([2]))
    assert missed == Figures(0.0, 0.0)
    assert SideWeights(candidates, np.array([7])).figures(0.5, 0.0) == missed


def test_all_weights_give_what_ranked_lists_give():
    random = np.random.default_rng(0)
    users, targets = [], random.integers(0, 40, 30)
    for _ in range(30):
        items = random.permutation(40)[: random.integers(5, 30)].astype(np.int32)
        sides = random.integers(-4, 0, size=(3, len(items))).astype(np.float32)
        users.append(Candidates(items, *sides, np.zeros(len(items), dtype=np.float32)))
    weights = SideWeights(users, targets)
    best = Figures(0.0, 0.0)
    for weight in (0.0, 0.5, 0.75, 1.0):
        for share in (0.0, 0.25, 1.0):
            found = weights.figures(weight, share)
            want = Figures.of([each.ranking(weight, share, 10) for each in users], targets)
            assert (found.recall, found.ndcg) == pytest.approx((want.recall, want.ndcg))
            best = max(best, found, key=lambda each: each.ndcg)
    assert weights.figures(*weights.best()).ndcg >= best.ndcg


def test_an_item_that_came_later_gets_the_mean_of_its_nearest_by_code():
    vectors = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 8.0]], dtype=np.float32)
    old = np.array([[0, 0], [0, 1], [1, 0]], dtype=np.int32)
    new = np.array([[1, 0], [0, 2], [2, 2]], dtype=np.int32)
    found = with_neighbours(vectors, np.array([2, -1, -1]), old, new)
    np.testing.assert_allclose(found, [[0, 8], [2, 0], [4 / 3, 8 / 3]], rtol=1e-6)


DENSE = {"dense": {"weight": 1.0, "dimensions": 8, "vectors": "text"}}


def with_text(folder, dataset, index):
    run = make_run(folder, dataset, index)
    with artifacts.writing(run / "text", "text", inputs={"dataset": run / "dataset"}) as partial:
        vectors = np.random.default_rng(2).normal(size=(len(index), 6)).astype(np.float32)
        EmbeddingTable(vectors, {"method": "test"}).save(partial)
    return run


def test_both_sides_learn_the_circle_and_the_folder_serves_alone(
    tmp_path, cycle_dataset, small_index
):
    run = with_text(tmp_path / "run", cycle_dataset, small_index)
    folder = train.run(run, recipe(**DENSE), RUNTIME)
    alone = folder.rename(tmp_path / "elsewhere")
    model = GenerativeModel.load(alone, device=CPU)
    best = model.facts["validation"]
    assert model.dense.weight == model.facts["calibration"]["dense_weight"]
    assert best["ndcg@10"] >= max(best["ndcg@10_generative"], best["ndcg@10_dense"])
    histories = [np.asarray([5, 6, 7], dtype=np.int32), np.asarray([21, 22, 23], dtype=np.int32)]
    rankings = HybridRanker(model, beam=10).rank(histories, 3)
    assert [int(ranking.items[0]) for ranking in rankings] == [8, 0]
    assert min(best["ndcg@10_generative"], best["ndcg@10_dense"]) > 0.8
    answer = Recommender.from_pretrained(alone).recommend([["i5", "i6", "i7"]], k=2)[0]
    assert answer.items[0].item_id == "i8"
    assert answer.score == "sum"
    log = json.loads((alone / "training.json").read_text())
    assert any("loss_dense" in entry for entry in log)
    with pytest.raises(ConfigError, match="runtime.engine to torch"):
        GenerativeModel.load(alone, device=torch.device("meta"))


def test_shares_are_chosen_on_more_users_and_by_the_beam_of_serving(
    tmp_path, cycle_dataset, small_index
):
    """Against the NDCG@10 of whole lists at every weight."""
    run = with_text(tmp_path / "run", cycle_dataset, small_index)
    dense = {**DENSE["dense"], "calibration_users": 50, "calibration_beam": 24}
    settings = recipe(dense=dense, epochs=1, validation_users=5)
    model = GenerativeModel.load(train.run(run, settings, RUNTIME), device=CPU)
    found = model.facts["calibration"]
    held_out = cycle_dataset.histories("validation")
    assert found["users"] == min(50, len(held_out)) > 5
    chosen = sample(len(held_out), 50, RUNTIME.seed)
    histories = [held_out[int(row)] for row in chosen]

    def ndcg(weight):
        lists = HybridRanker(model, beam=24, dense_weight=weight).rank(
            histories, 10, exclude=histories
        )
        targets = held_out.target[chosen]
        places = [np.flatnonzero(a.items == b) for a, b in zip(lists, targets, strict=True)]
        return sum(1 / np.log2(place[0] + 2) for place in places if len(place)) / len(chosen)

    figures = {weight: ndcg(weight) for weight in SHARES}
    assert found["ndcg@10"] == pytest.approx(figures[found["dense_weight"]], abs=2e-3)
    assert found["ndcg@10"] == pytest.approx(max(figures.values()), abs=2e-3)
    card = (run / "model" / "README.md").read_text()
    assert f"a share of {model.dense.weight}" in card
    assert f"of {found['users']} validation users" in card


def test_kill_and_resume_gives_the_same_vectors(tmp_path, cycle_dataset, small_index):
    arrays = []
    for name, die_at in (("whole", 0), ("killed", 2)):
        run = with_text(tmp_path / name, cycle_dataset, small_index)
        settings = recipe(**DENSE, epochs=4)
        if die_at:
            assert run_child(run, settings, die_at).returncode == -9
        train.run(run, settings, RUNTIME)
        arrays.append(artifacts.sha256_of(run / "model" / "dense.safetensors"))
    assert arrays[0] == arrays[1]


def test_vectors_of_another_dataset_are_refused(tmp_path, cycle_dataset, small_index):
    run = with_text(tmp_path / "run", cycle_dataset, small_index)
    other = replace(cycle_dataset, user_ids=[f"other {user}" for user in cycle_dataset.user_ids])
    moved = with_text(tmp_path / "other", other, small_index)
    (run / "text").rename(tmp_path / "old")
    (moved / "text").rename(run / "text")
    with pytest.raises(ArtifactError, match="text was made from dataset .* run `genrec embed`"):
        train.run(run, recipe(**DENSE), RUNTIME)


def test_save_and_load(tmp_path):
    dense = DenseSide(torch.randn(4, 2), torch.randn(2, 3), torch.randn(2), 0.25)
    dense.save(tmp_path)
    again = DenseSide.load(tmp_path, 0.25, 0.5, CPU)
    states = torch.randn(5, 3)
    torch.testing.assert_close(again.log_probabilities(states), dense.log_probabilities(states))
    sums = dense.log_probabilities(states).exp().sum(1)
    torch.testing.assert_close(sums, torch.ones(5))


TAUGHT = {"teacher_weight": 0.5, "alignment_weight": 0.1, "vectors": None, "weight": 1.0}


def test_a_teacher_is_read_in_the_order_of_the_states(small_index):
    """Against what the teacher says of each history on its own, without padding."""
    torch.manual_seed(0)
    network = SasRec(24, dimensions=8, layers=1, heads=2, max_history=10).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    batch = torch.tensor([[3, 4, 9], [7, 8, IGNORED], [5, IGNORED, IGNORED]])
    answers, owner = torch.tensor([3, 4, 9, 7, 8, 5]), torch.tensor([0, 0, 0, 1, 1, 2])
    start = 24
    rows = [torch.tensor([read]) for read in ([start, 3, 4], [start, 7], [start])]
    dense, alignment = DenseLearner(4, np.ones(24, dtype=np.int64), None, 6), PostAlignment(6, 8)
    states = torch.randn(6, 4)
    term = DenseTerm(dense, 2.0, 0.4, alignment, 0.3)
    with torch.no_grad():
        found = term.losses(states, answers, Teacher(network, small_index, CPU), batch)
        users = torch.cat([network(row, torch.tensor([row.numel()]))[0] for row in rows])
        soft = network.scores(users).softmax(1)
        wanted = {
            "dense": 2.0 * dense.loss(states, answers, soft, 0.4),
            "alignment": 0.3 * alignment(dense.user(states), users, owner),
        }
    torch.testing.assert_close(found, wanted)


def test_a_teacher_and_its_user_vectors_are_learned_from(
    tmp_path, cycle_dataset, small_index, monkeypatch
):
    read, aids = train.read_aids, []
    monkeypatch.setattr(train, "read_aids", lambda *given: aids.append(read(*given)) or aids[-1])
    run = make_run(tmp_path / "run", cycle_dataset, small_index)
    settings = Recipe(cf={"epochs": 2, "dimensions": 8, "heads": 1, "layers": 1})
    fit.run(run, settings, RUNTIME)
    folder = train.run(run, recipe(dense=TAUGHT, epochs=4), RUNTIME)
    told = [
        entry
        for entry in json.loads((folder / "training.json").read_text())
        if "loss_alignment" in entry
    ]
    assert told
    dense = aids[0].dense
    assert (dense.weight, dense.teacher_weight, dense.alignment_weight) == (1.0, 0.5, 0.1)
    for entry in told:
        parts = entry["loss_codes"] + entry["loss_dense"] + entry["loss_alignment"]
        assert entry["loss"] == pytest.approx(parts, rel=1e-4)
    assert GenerativeModel.load(folder, device=CPU).dense.items.shape == (len(small_index), 64)
    with pytest.raises(ConfigError, match="streams only"):
        words = str(tiny_language_model(tmp_path, small_index))
        tuned = {"form": "instruction", "language_model": words}
        train.run(run, recipe(dense=TAUGHT, **tuned), RUNTIME)


@pytest.mark.parametrize("form", ["stream", "instruction"])
def test_a_pretrained_model_gets_a_dense_side_too(tmp_path, cycle_dataset, small_index, form):
    run = with_text(tmp_path / "run", cycle_dataset, small_index)
    tuned = {"form": form, "language_model": str(tiny_language_model(tmp_path, small_index))}
    folder = train.run(run, recipe(**DENSE, **tuned, epochs=3), RUNTIME)
    model = GenerativeModel.load(folder, device=CPU)
    figures = [
        entry["eval_ndcg@10"]
        for entry in json.loads((folder / "training.json").read_text())
        if "eval_ndcg@10" in entry
    ]
    histories = [cycle_dataset.histories("validation")[row] for row in range(60)]
    rankings = HybridRanker(model, beam=10, batch_size=64).rank(histories, 10, exclude=histories)
    served = Figures.of(rankings, cycle_dataset.histories("validation").target)
    # Merging rounds the adapters to half precision once.
    assert served.ndcg == pytest.approx(max(figures), abs=0.02)


def test_rewards_and_tasks_do_not_go_with_a_dense_side(tmp_path, cycle_dataset, small_index):
    run = with_text(tmp_path / "run", cycle_dataset, small_index)
    with pytest.raises(ConfigError, match="rewards are learned"):
        train.run(run, recipe(**DENSE, reinforcement={"steps": 1}), RUNTIME)
    with pytest.raises(ConfigError, match="tokens of their answers"):
        train.run(run, recipe(**DENSE, tasks=[{"name": "stream", "weight": 1.0}]), RUNTIME)


def test_the_cf_model_is_asked_without_being_read(tmp_path, cycle_dataset, small_index):
    """It lies in the folder and has its share in lists; no token stands for it."""
    run = make_run(tmp_path / "run", cycle_dataset, small_index)
    fit.run(run, Recipe(cf={"epochs": 3, "dimensions": 8, "heads": 1, "layers": 1}), RUNTIME)
    settings = {"weight": 1.0, "vectors": None, "dimensions": 8, "cf": True}
    folder = train.run(run, recipe(dense=settings, epochs=4, evaluations=1), RUNTIME)
    alone = folder.rename(tmp_path / "elsewhere")
    model = GenerativeModel.load(alone, device=CPU)
    assert model.bridge.user_model.name == "sasrec" and not model.bridge.has_users
    history = np.asarray([5, 6, 7], dtype=np.int32)
    sides = HybridRanker(model, beam=10).both_sides([history], 10, [RowRules()])[0]
    network = model.bridge.user_model.network
    with torch.inference_mode():
        own = network.scores(network.last_states([history])).log_softmax(1)[0].numpy()
    np.testing.assert_allclose(sides.cf, own[sides.items], rtol=1e-5)
    answer = Recommender.from_pretrained(alone).recommend([["i5", "i6"]], k=3)[0]
    assert len(answer.items) == 3


def test_item_neighbours_are_asked_with_the_cf_model(tmp_path, cycle_dataset, small_index):
    """They lie in the folder, so that it serves alone; an item that came later has none."""
    run = make_run(tmp_path / "run", cycle_dataset, small_index)
    section = {
        "epochs": 1,
        "dimensions": 8,
        "heads": 1,
        "layers": 1,
        "models": ["item_knn", "blend"],
    }
    fit.run(run, Recipe(cf=section), RUNTIME)
    settings = {"weight": 1.0, "vectors": None, "dimensions": 8, "cf": "blend"}
    folder = train.run(run, recipe(dense=settings, epochs=2, evaluations=1), RUNTIME)
    alone = folder.rename(tmp_path / "elsewhere")
    bridge = GenerativeModel.load(alone, device=CPU).bridge
    blend = Blend.load(run / "cf")
    assert bridge.neighbours.share == blend.neighbours.share
    share = replace(bridge.neighbours, share=0.4)
    history = np.asarray([5, 6, 7], dtype=np.int32)
    own = item_log_probabilities(blend.user_model, [history])
    expected = share.mixed(own, [history])
    found = replace(bridge, neighbours=share).log_probabilities([history])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # The same items in the other order, behind one that came later.
    n = len(cycle_dataset.catalog)
    later = replace(bridge, neighbours=share, rows=np.append(-1, np.arange(n)[::-1]))
    moved = np.asarray([n - 5, 0, n - 6, n - 7], dtype=np.int32)
    told = later.log_probabilities([moved])[0]
    assert told[0].isnan()
    np.testing.assert_allclose(told[1:].flip(0), expected[0], rtol=1e-5)
