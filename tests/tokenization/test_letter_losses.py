import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from genrec.errors import DataError
from genrec.tokenization.letter_losses import (
    CodeClusters,
    CollaborativeLoss,
    Letter,
    LetterLosses,
    balanced_clusters,
    diversity_loss,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def groups_of(count, size, seed=0):
    """Far groups of near vectors, and the group of each."""
    centres = 100 * np.eye(count, dtype=np.float32)
    group = np.random.default_rng(seed).permutation(np.repeat(np.arange(count), size))
    return centres[group] + normal(count * size, count, seed=seed), group


def test_the_collaborative_loss_by_hand():
    table = 7 * normal(20, 4)
    loss = CollaborativeLoss(table, 4)
    rows, quantized = np.array([3, 0, 11]), normal(3, 4, seed=1)
    scaled = table / np.sqrt((table**2).mean())
    expected = -np.mean(
        [log_softmax([quantized[i] @ scaled[row] for row in rows])[i] for i, row in enumerate(rows)]
    )
    actual = loss(torch.from_numpy(rows), torch.from_numpy(quantized))
    assert float(actual) == pytest.approx(expected, rel=1e-5)
    assert not list(loss.parameters()) and not loss.state_dict()


def test_other_widths_are_mapped_by_a_learned_matrix():
    loss = CollaborativeLoss(normal(20, 6), 4)
    quantized = torch.from_numpy(normal(5, 4, seed=1))
    loss(torch.arange(5), quantized).backward()
    (matrix,) = loss.parameters()
    assert matrix.shape == (6, 4) and matrix.grad.abs().sum() > 0
    assert list(loss.state_dict()) == ["map.weight"]
    # q M . c = q . (M c): the same scores as those of vectors mapped the other way.
    scores = quantized.numpy() @ (loss.table[:5].numpy() @ matrix.detach().numpy()).T
    expected = -np.diagonal(log_softmax(scores, axis=1)).mean()
    value = loss(torch.arange(5), quantized).detach()
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_collaborative_vectors_of_zeros_are_no_error():
    loss = CollaborativeLoss(np.zeros((4, 2), dtype=np.float32), 2)
    assert float(loss(torch.arange(4), torch.from_numpy(normal(4, 2)))) == 0.0


def test_items_without_a_collaborative_vector_take_no_part():
    table = normal(6, 4)
    table[[1, 4]] = 0
    quantized = torch.from_numpy(normal(6, 4, seed=1))
    some, every = torch.tensor([0, 2, 3, 5]), torch.arange(6)
    loss = CollaborativeLoss(table, 4)
    assert float(loss(every, quantized)) == pytest.approx(float(loss(some, quantized[some])))
    alone = CollaborativeLoss(table[some.numpy()], 4)
    expected = float(alone(torch.arange(4), quantized[some]))
    assert float(loss(every, quantized)) == pytest.approx(expected, rel=1e-5)


def test_the_diversity_loss_by_hand():
    codebook, codes, neighbours = normal(5, 3), [4, 0, 4, 2], [1, 3, 0, -1]
    losses = []
    for code, neighbour in zip(codes[:3], neighbours[:3], strict=True):
        others = [k for k in range(5) if k != code]
        scores = [codebook[code] @ codebook[k] for k in others]
        losses.append(-log_softmax(scores)[others.index(neighbour)])
    actual = diversity_loss(
        torch.from_numpy(codebook), torch.tensor(codes), torch.tensor(neighbours)
    )
    assert float(actual) == pytest.approx(np.mean(losses), rel=1e-5)


def test_without_neighbours_there_is_no_loss_but_a_gradient():
    codebook = torch.from_numpy(normal(1, 3)).requires_grad_()
    assert float(diversity_loss(codebook, torch.tensor([0, 0]), torch.tensor([-1, -1]))) == 0


def test_the_diversity_loss_gathers_clusters_and_parts_them():
    x, group = groups_of(3, 4)
    codebook = torch.from_numpy(x / 100 + normal(12, 3, seed=2)).requires_grad_()
    clusters = CodeClusters(x, 3, seed=0)
    generator = np.random.default_rng(0)
    codes = np.arange(12)

    def cosine_gap():
        unit = torch.nn.functional.normalize(codebook.detach(), dim=1).numpy()
        same = group[:, None] == group
        cosines = unit @ unit.T
        return cosines[same & ~np.eye(12, dtype=bool)].mean() - cosines[~same].mean()

    before = cosine_gap()
    optimizer = torch.optim.Adam([codebook], lr=0.05)
    for _ in range(100):
        neighbours = torch.from_numpy(clusters.neighbours(codes, generator))
        optimizer.zero_grad()
        diversity_loss(codebook, torch.from_numpy(codes), neighbours).backward()
        optimizer.step()
    assert cosine_gap() > before + 0.2


def test_clusters_are_found_and_none_is_larger_than_its_share():
    x, group = groups_of(4, 6)
    cluster = balanced_clusters(x, 4, seed=0)
    assert len(set(zip(cluster.tolist(), group.tolist(), strict=True))) == 4
    # One far code: plain k-means would leave it alone.
    lonely = np.vstack([normal(9, 2), [[1000.0, 0.0]]]).astype(np.float32)
    assert np.bincount(balanced_clusters(lonely, 2, seed=0)).tolist() == [5, 5]
    assert np.bincount(balanced_clusters(normal(64, 3), 10, seed=1)).max() <= 7


@pytest.mark.parametrize(("codes", "clusters"), [(24, 4), (23, 5), (3, 10), (2, 10), (8, 1)])
def test_neighbours_are_all_others_of_the_cluster(codes, clusters):
    made = CodeClusters(normal(codes, 3), clusters, seed=0)
    generator = np.random.default_rng(0)
    asked = np.repeat(np.arange(codes), 500)
    drawn = made.neighbours(asked, generator)
    for code in range(codes):
        others = set(np.flatnonzero(made.cluster == made.cluster[code]).tolist()) - {code}
        assert set(drawn[asked == code].tolist()) == (others or {-1})


def test_a_single_code_has_no_neighbour():
    made = CodeClusters(normal(1, 3), 10, seed=0)
    assert (
        made.neighbours(np.zeros(4, dtype=np.int64), np.random.default_rng(0)).tolist() == [-1] * 4
    )


def test_the_weighted_sum():
    table, quantized = normal(10, 4), torch.from_numpy(normal(6, 4, seed=1))
    codebooks = [torch.from_numpy(normal(8, 4, seed=seed)) for seed in (2, 3)]
    rows, codes = torch.arange(6), torch.from_numpy(np.arange(12).reshape(6, 2) % 8)
    both = LetterLosses(Letter(0.5, 0.25, 2, table), 4)
    both.start_epoch(codebooks, seed=0)
    generator = np.random.default_rng(0)
    expected = 0.5 * CollaborativeLoss(table, 4)(rows, quantized)
    for level, codebook in enumerate(codebooks):
        neighbours = CodeClusters(codebook.numpy(), 2, 0).neighbours(
            codes[:, level].numpy(), generator
        )
        loss = diversity_loss(codebook, codes[:, level], torch.from_numpy(neighbours))
        expected = expected + 0.25 * loss / 2
    actual = both(rows, codes, quantized, codebooks, np.random.default_rng(0))
    assert float(actual) == pytest.approx(float(expected), rel=1e-6)


def test_without_weights_nothing_is_computed():
    none = LetterLosses(Letter(), 4)
    none.start_epoch([torch.zeros(8, 4)], seed=0)
    assert not list(none.parameters())
    value = none(torch.arange(2), torch.zeros(2, 1), torch.zeros(2, 4), [torch.zeros(8, 4)], None)
    assert float(value) == 0


def test_collaborative_vectors_that_cannot_be_used_are_refused():
    Letter(0.0, collaborative=normal(3, 2)).check(5)
    Letter(0.1, collaborative=normal(5, 2)).check(5)
    with pytest.raises(DataError, match="no collaborative vectors were given"):
        Letter(0.1).check(5)
    with pytest.raises(DataError, match=r"shape \(3, 2\), expected \[5, dimensions\]"):
        Letter(0.1, collaborative=normal(3, 2)).check(5)
    with pytest.raises(DataError, match="shape"):
        Letter(0.1, collaborative=normal(5)).check(5)
    with pytest.raises(DataError, match="NaN"):
        Letter(0.1, collaborative=np.full((5, 2), np.nan, dtype=np.float32)).check(5)
