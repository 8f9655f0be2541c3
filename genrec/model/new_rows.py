"""How the rows of new code tokens start when a pretrained language model gets them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import nn

from genrec.data.histories import Histories
from genrec.errors import ConfigError
from genrec.model.skip_gram_rows import skip_gram_rows
from genrec.semantic_ids.item_index import ItemIndex

# Length of the noise beside what a code is about; equal titles must not start equal.
NOISE_SHARE = 0.2
# Length of the noise around the mean of all words, as a share of an ordinary word's distance.
MEAN_NOISE_SHARE = 0.01
# Share of the words' covariance that ``normal`` draws with; the value of Hewitt (2021).
COVARIANCE_SHARE = 1e-5
# Noise on the logits of ``convex``; codes with the same words must not start equal.
LOGIT_NOISE = 0.01
# Ridge of ``codebook``, as a share of the mean variance of a code vector's dimension.
RIDGE_SHARE = 0.1
# Rows that are in double precision at once.
_BLOCK = 8192


@dataclass(frozen=True)
class Given:
    """What new rows can start from.

    Attributes:
        old: float32[V, d], the rows of the words.
        encoded: Words of the title of every catalogue row, each in ``0 .. V - 1``.
        index: The codes.
        seed: Seed of what is random; the same seed gives the same rows.
        codebooks: float32[m_l, w_l] for each level l of the quantizer, where there are any.
        sequences: Training histories, where they are known.
    """

    old: torch.Tensor
    encoded: Sequence[Sequence[int]]
    index: ItemIndex
    seed: int
    codebooks: Sequence[NDArray[np.float32]] = ()
    sequences: Histories | None = None


# Returns start rows for all codes, float32[codes, d], level by level.
NewRows = Callable[[Given], torch.Tensor]


def from_titles(given: Given) -> torch.Tensor:
    """Start a code in the direction of the words in the titles of its items.

    Averages over many words lie close together, so each row's distance from its level's middle is
    stretched to that of an ordinary word: a model cannot tell codes apart, nor rank them, when
    their rows are all but equal. Codes without items start in a random direction, and a little
    noise tells rows apart that would start equal.
    """
    mean, ordinary = _middle(given.old)
    generator = torch.Generator().manual_seed(given.seed)
    levels = []
    for about, count in _title_directions(given, mean):
        noise = torch.randn(about.shape, generator=generator)
        away = _scaled(torch.where(count > 0, about, noise)) + NOISE_SHARE * _scaled(noise)
        levels.append(mean + ordinary * _scaled(away))
    return torch.cat(levels)


def from_codebooks(given: Given) -> torch.Tensor:
    """Start a code in the direction that a linear map makes of its vector in the codebook.

    Each level has a map of its own, from the vectors of its codes to the mean words in the titles
    of their items, fitted by least squares over the items with a little ridge. Codes with vectors
    close together start alike, also those that no item carries. As in ``from_titles`` all rows are
    as far from the mean as an ordinary word, and differ by a little noise. Codes without a vector
    start in a random direction.

    Raises:
        ConfigError: When there are no codebooks.
    """
    if not given.codebooks:
        raise ConfigError("new rows from codebooks were asked for, but no codebooks were given.")
    mean, ordinary = _middle(given.old)
    generator = torch.Generator().manual_seed(given.seed)
    levels = []
    for level, (about, count) in enumerate(_title_directions(given, mean)):
        noise = torch.randn(about.shape, generator=generator)
        start = noise.clone()
        if level < len(given.codebooks):
            vectors = torch.from_numpy(given.codebooks[level][: len(about)])
            start[: len(vectors)] = _mapped(vectors, about, count)
        away = _scaled(start) + NOISE_SHARE * _scaled(noise)
        levels.append(mean + ordinary * _scaled(away))
    return torch.cat(levels)


def _title_directions(
    given: Given, mean: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield for each level where its codes' titles lie from the middle of all titles.

    Also int64[size, 1], how many items carry each code; what lies beside a 0 means nothing.
    """
    items = torch.stack(
        [given.old[torch.tensor(words)].mean(0) if len(words) else mean for words in given.encoded]
    )
    for level, size in enumerate(given.index.level_sizes):
        codes = torch.from_numpy(given.index.codes[:, level].astype(np.int64))
        total = torch.zeros(size, given.old.shape[1]).index_add_(0, codes, items)
        count = torch.bincount(codes, minlength=size).unsqueeze(1)
        yield total / count.clamp(min=1) - items.mean(0), count


def _mapped(vectors: torch.Tensor, about: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return what the best linear map makes of code vectors, float32[m, d].

    Args:
        vectors: float32[m, w].
        about: float32[size, d], what to map to, m <= size.
        count: int64[size, 1], weight of each code.
    """
    weight, target = count[: len(vectors)].double(), about[: len(vectors)].double()
    inputs = vectors.double()
    total = weight.sum().clamp(min=1)
    inputs = inputs - (weight * inputs).sum(0) / total
    target = target - (weight * target).sum(0) / total
    gram = inputs.T @ (weight * inputs)
    gram += RIDGE_SHARE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    # Unlike solve, this copes with vectors that are all alike.
    fitted = torch.linalg.lstsq(gram, inputs.T @ (weight * target), driver="gelsd").solution
    mapped: torch.Tensor = inputs @ fitted
    return mapped.float()


def from_mean(given: Given) -> torch.Tensor:
    """Start every code at the mean of the words, with a little noise that tells codes apart.

    Each row is ``MEAN_NOISE_SHARE`` of an ordinary word's distance away from the mean, in a random
    direction. Titles are not looked at.
    """
    mean, ordinary = _middle(given.old)
    noise = torch.randn(
        sum(given.index.level_sizes),
        given.old.shape[1],
        generator=torch.Generator().manual_seed(given.seed),
    )
    return mean + MEAN_NOISE_SHARE * ordinary * _scaled(noise)


def from_normal(given: Given) -> torch.Tensor:
    """Draw every code from the normal distribution of the words, drawn in tightly.

    The mean is that of the old rows and the covariance ``COVARIANCE_SHARE`` times theirs, divided
    by V as in Hewitt, "Initializing new word embeddings for pretrained language models" (2021);
    compared in Mundra et al., "An Empirical Comparison of Vocabulary Expansion and Initialization
    Approaches for Language Models" (2024). Titles are not looked at. Rows lie so close together
    that in bfloat16 rounding is a visible part of their differences.
    """
    mean = torch.stack([block.sum(0) for block in _doubles(given.old)]).sum(0) / len(given.old)
    covariance = torch.zeros(given.old.shape[1], given.old.shape[1], dtype=torch.float64)
    for block in _doubles(given.old):
        covariance += (block - mean).T @ (block - mean)
    values, vectors = torch.linalg.eigh(covariance / len(given.old))
    # Rounding makes eigenvalues of a singular covariance slightly negative. The symmetric root does
    # not depend on the signs of the eigenvectors, which differ between libraries.
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    noise = torch.randn(
        sum(given.index.level_sizes),
        given.old.shape[1],
        generator=torch.Generator().manual_seed(given.seed),
        dtype=torch.float64,
    )
    rows: torch.Tensor = mean + COVARIANCE_SHARE**0.5 * noise @ root
    return rows.float()


def from_hull(given: Given) -> torch.Tensor:
    """Start a code at a weighted mean of the words in the titles of its items.

    The weights are a softmax over the words w that occur with code c, their logits the positive
    pointwise mutual information ``max(0, log(n(c, w) N / (n(c) n(w))))`` of the counts over the
    titles, and a little noise; every other word has weight 0. A code whose items have no words, or
    that no item carries, has weights drawn evenly from all convex combinations of all words. In a
    head without a bias no row therefore gets a larger logit than the best word, whatever the
    hidden state, up to rounding. Codes whose items have one word in all, the same one, start equal.

    That new rows stay inside the convex hull of the old ones is the idea of CW2V (Mundra et al.,
    "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language
    Models", 2024). Here the weights are counted, and nothing is trained; ``from_skip_gram`` trains.
    """
    lengths = np.asarray([len(words) for words in given.encoded], dtype=np.int64)
    words = np.fromiter(
        (word for title in given.encoded for word in title), np.int64, lengths.sum()
    )
    generator = torch.Generator().manual_seed(given.seed)
    levels = []
    for level, size in enumerate(given.index.level_sizes):
        codes = np.repeat(given.index.codes[:, level].astype(np.int64), lengths)
        code, word, logits = _word_information(codes, words, len(given.old))
        logits += LOGIT_NOISE * torch.randn(len(logits), generator=generator).numpy()
        shares = np.exp(logits)
        shares /= np.bincount(code, shares)[code]
        table = csr_array((shares, (code, word)), shape=(size, len(given.old)))
        rows = torch.from_numpy(table @ given.old.numpy()).float()
        for wordless in np.setdiff1d(np.arange(size), codes):
            # Exponential weights over their sum are spread evenly over the simplex.
            weights = torch.empty(len(given.old)).exponential_(generator=generator)
            rows[wordless] = (weights / weights.sum()) @ given.old
        levels.append(rows)
    return torch.cat(levels)


def from_skip_gram(given: Given) -> torch.Tensor:
    """Start a code at the convex combination of words that skip-gram learns for it (CW2V).

    See ``genrec.model.skip_gram_rows``. Unlike with ``from_hull`` the weights are trained, and on
    what stands beside the code in training histories as well.
    """
    return skip_gram_rows(given.old, given.encoded, given.index, given.sequences, given.seed)


def _word_information(
    codes: NDArray[np.int64], words: NDArray[np.int64], vocabulary: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return how much more often than by chance codes and words meet.

    Args:
        codes: int64[N], the code at each word of the titles.
        words: int64[N], that word.
        vocabulary: Number of words there are.

    Returns:
        Code and word of each pair that occurs, int64[p], and their positive pointwise mutual
        information, float64[p].
    """
    pairs, count = np.unique(codes * vocabulary + words, return_counts=True)
    code, word = np.divmod(pairs, vocabulary)
    by_chance = np.bincount(codes)[code] * (np.bincount(words)[word] / max(len(words), 1))
    return code, word, np.log(np.maximum(count / by_chance, 1))


def _middle(old: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of the words, and the median of their distances to it."""
    mean = old.mean(0)
    return mean, (old - mean).norm(dim=1).median()


def _doubles(old: torch.Tensor) -> Iterator[torch.Tensor]:
    """Return the rows in double precision, block by block."""
    return (block.double() for block in torch.split(old, _BLOCK))


def _scaled(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows at length 1."""
    return nn.functional.normalize(rows, dim=1)


NEW_ROWS: dict[str, NewRows] = {
    "titles": from_titles,
    "mean": from_mean,
    "normal": from_normal,
    "convex": from_hull,
    "codebook": from_codebooks,
    "cw2v": from_skip_gram,
}
