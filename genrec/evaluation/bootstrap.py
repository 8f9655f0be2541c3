"""How far a mean could move with other users: percentile bootstrap over users.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3: draw as many users
with replacement as there are, take the mean again, repeat; the 2.5 % and 97.5 % points of those
means bound the interval. Users are drawn, not events, because the events of one user are alike.
"""

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from genrec.errors import ConfigError, DataError

_BLOCK_ENTRIES = 4_000_000  # Counts held at once: 32 MB as int64.


def resampled_means(
    values: NDArray[np.float64],
    users: NDArray[np.integer],
    samples: int,
    seed: int,
    *,
    quiet: bool = True,
) -> NDArray[np.float64]:
    """Return the mean of every column under resampled users.

    All columns see the same draws, so the difference of two columns of the result is the paired
    bootstrap of their difference.

    Args:
        values: float64[n, c], one row an example, one column a metric of a model.
        users: int[n], the user of each example.
        samples: Number of resamples.
        seed: Seed of the draws.
        quiet: No progress bar.

    Returns:
        float64[samples, c].

    Raises:
        ConfigError: When fewer than one resample is asked for.
        DataError: When there are no examples, or rows and users differ in number.
    """
    if samples < 1:
        raise ConfigError(f"bootstrap samples is {samples}; it must be at least 1.")
    if len(values) != len(users) or not len(users):
        raise DataError(
            f"{len(values)} rows of values for {len(users)} users; give one user a row and at "
            "least one row."
        )
    _, user = np.unique(users, return_inverse=True)
    n_users = int(user.max()) + 1
    sums = np.stack(
        [np.bincount(user, weights=column, minlength=n_users) for column in values.T], axis=1
    )
    counts = np.bincount(user, minlength=n_users).astype(np.float64)
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK_ENTRIES // n_users)
    means = np.empty((samples, values.shape[1]))
    for start in track(
        range(0, samples, block),
        description="bootstrap",
        console=Console(stderr=True),
        disable=quiet,
    ):
        rows = min(block, samples - start)
        draws = random.integers(0, n_users, size=(rows, n_users))
        draws += np.arange(rows)[:, None] * n_users
        weights = np.bincount(draws.ravel(), minlength=rows * n_users).reshape(rows, n_users)
        total = weights.astype(np.float64) @ np.column_stack([sums, counts])
        means[start : start + rows] = total[:, :-1] / total[:, -1:]
    return means


def interval(means: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled means.

    >>> interval(np.arange(101.0), level=0.5)
    (25.0, 75.0)

    Args:
        means: float64[samples].
        level: Share of the means that lies inside.
    """
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
