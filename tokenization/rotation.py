"""The rotation of OPQ: turned so that pieces of a vector can be coded one by one."""

import faiss
import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.kmeans import Floats, as_float32

# Rounds of product quantization and rotation in turn, and from how many vectors.
_ROUNDS = 20
_MOST_VECTORS = 16384
# Codes of a piece meanwhile, as a power of two.
_MOST_BITS = 8

# Directions with less than this share of the largest variance count as equally empty.
_EMPTY = 1e-6


def learn_rotation(x: Floats, pieces: int, codes: int) -> Floats:
    """Return the rotation under which product quantization of vectors loses little.

    OPQ (Ge, He, Ke, Sun, "Optimized product quantization", 2014): the parametric solution first,
    which deals out the principal directions so that all pieces have about the same product of
    variances; then faiss refines it in turn with the codebooks, the non-parametric solution. Call
    it under ``one_thread``.

    Args:
        x: float32[n, w] with more than ``codes`` distinct rows.
        pieces: Number of pieces; divides w.
        codes: Size of each codebook.

    Returns:
        float32[w, w], orthonormal; row j is what becomes dimension j.
    """
    width = x.shape[1]
    # Sums over all vectors must not overflow either. The rotation is the same at any scale, and a
    # power of two changes no digit.
    x = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))
    if len(x) < width:
        # faiss needs as many vectors as dimensions, or it writes beyond its memory. Repeating all
        # of them equally often changes no variance and no mean.
        x = np.tile(x, (-(-width // len(x)), 1))
    bits = max(1, min(_MOST_BITS, codes.bit_length() - 1))
    codebooks = faiss.ProductQuantizer(width, pieces, bits)
    codebooks.cp.min_points_per_centroid = 1
    rotation = faiss.OPQMatrix(width, pieces)
    rotation.pq = codebooks
    rotation.niter = _ROUNDS
    rotation.max_train_points = max(_MOST_VECTORS, width)
    faiss.copy_array_to_vector(_dealt_directions(x, pieces).reshape(-1), rotation.A)
    rotation.train(x)
    return as_float32(faiss.vector_to_array(rotation.A).reshape(width, width))


def _dealt_directions(x: Floats, pieces: int) -> Floats:
    """Return the principal directions of float32[n, w], n >= w, piece by piece, float32[w, w]."""
    width = x.shape[1]
    principal = faiss.PCAMatrix(width, width)
    principal.train(x)
    directions = faiss.vector_to_array(principal.PCAMat).reshape(width, width)
    variance = faiss.vector_to_array(principal.eigenvalues)
    least = max(float(variance[0]) * _EMPTY, float(np.finfo(np.float32).tiny))
    # Largest first, each to the piece whose product of variances is the smallest so far.
    weights = np.log(np.maximum(variance, least) / least)
    dealt: list[list[int]] = [[] for _ in range(pieces)]
    total = np.zeros(pieces)
    for direction in range(width):
        piece = int(np.argmin(total))
        dealt[piece].append(direction)
        total[piece] += weights[direction]
        if len(dealt[piece]) == width // pieces:
            total[piece] = np.inf
    return as_float32(directions[np.concatenate(dealt)])


def rotate(x: Floats, rotation: Floats) -> Floats:
    """Rotate vectors float32[n, w]. Call it under ``one_thread``."""
    return as_float32(_transform(rotation).apply(x))


def rotate_back(x: Floats, rotation: Floats) -> Floats:
    """Undo ``rotate``. Call it under ``one_thread``."""
    return as_float32(_transform(rotation).reverse_transform(x))


def rotate_alike(x: Floats, rotation: Floats) -> Floats:
    """Rotate vectors so that equal ones stay equal to the bit, however many others there are.

    Args:
        x: float32[n, w].
        rotation: float32[v, w], the first v rows of a rotation.

    Returns:
        float32[n, v]. Each number is one inner product, summed in the same order for all rows;
        it takes longer than ``rotate``.
    """
    product: NDArray[np.float32] = np.einsum("nd,vd->nv", x, rotation)
    return product


def _transform(rotation: Floats) -> faiss.LinearTransform:
    width = len(rotation)
    transform = faiss.LinearTransform(width, width, False)
    faiss.copy_array_to_vector(rotation.reshape(-1), transform.A)
    transform.is_trained = True
    transform.is_orthonormal = True
    return transform
