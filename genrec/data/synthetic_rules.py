"""The rules of the embedded store: the true chance of every next item.

For a user with some purchases:

1. With chance ``EXPLORE`` the next item is any item, by its popularity.
2. Else it goes with an earlier purchase: the last one, or with chance ``RETURN`` the one before.
3. Its category is one of the two that complement the category of that purchase.
4. Its brand is, with chance ``LOYALTY``, the user's leading brand: the one bought most often so
   far, the one bought last among equals. Else it is any brand, by popularity.
5. Its quality tier is the tier of that purchase or a neighbouring one.
6. Nothing is bought twice.

So what comes next is decided by what items are (category, brand, tier) and by more than the last
item; a single item is bought only about twenty times, too few to count what follows it.
"""

import numpy as np
from numpy.typing import NDArray

from genrec.data.synthetic_catalog import RING, ItemAttributes

EXPLORE = 0.12
RETURN = 0.15
LOYALTY = 0.75
FIRST_COMPLEMENT = 0.7
SAME_TIER = 0.6


class Rules:
    """The true next-item probabilities of a store, from the attributes of its items.

    With q the popularity, x the purchase that is continued and b the leading brand:
    P(j) = EXPLORE q(j) + (1 - EXPLORE) category(j | x) tier(j | x) brand(j | b) share(j), where
    share spreads over items equal in category, brand and tier by q; items of the history get 0
    and the rest is scaled to sum to 1.
    """

    def __init__(self, attributes: ItemAttributes) -> None:
        self.attributes = attributes
        categories, brands, tiers = attributes.sizes
        popularity = attributes.popularity
        self._cell = (attributes.category * brands + attributes.brand) * tiers + attributes.tier
        self._brand_popularity = np.bincount(attributes.brand, weights=popularity)
        self._category_chances = category_chances(categories)
        self._tier_chances = tier_chances(tiers)

        share = popularity / np.bincount(self._cell, weights=popularity)[self._cell]
        complements = self._category_chances[:, attributes.category]
        tiers_near = self._tier_chances[:, attributes.tier]
        # float64[categories * tiers, n]: chance of category and tier, given those of x.
        self._goes_with = (complements[:, None] * tiers_near[None] * share).reshape(
            categories * tiers, -1
        )
        self._kind = attributes.category * tiers + attributes.tier
        brand_chances = LOYALTY * np.eye(brands) + (1 - LOYALTY) * self._brand_popularity
        # float64[brands, n]: chance of an item's brand, given the leading brand.
        self._brand = brand_chances[:, attributes.brand]

    def probabilities(self, histories: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the chance of every item to come next, float64[n, items]; rows sum to 1.

        Args:
            histories: Catalogue rows, integers [n, t], oldest first: n users with t purchases
                each; t may be 0.
        """
        users, steps = histories.shape
        popularity = self.attributes.popularity
        if steps == 0:
            return np.tile(popularity, (users, 1))
        weights: NDArray[np.float64] = self._goes_with[self._kind[histories[:, -1]]]
        if steps > 1:
            weights = (1 - RETURN) * weights
            weights += RETURN * self._goes_with[self._kind[histories[:, -2]]]
        weights *= self._brand[self.leading_brand(histories)]
        weights *= 1 - EXPLORE
        weights += EXPLORE * popularity
        np.put_along_axis(weights, histories.astype(np.int64), 0.0, axis=1)
        weights /= weights.sum(axis=1, keepdims=True)
        return weights

    def draw(
        self, histories: NDArray[np.integer], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw the next item of each user, int64[n], by walking through the rules one by one.

        What a user already has is drawn again, which is the same as scaling the rest to 1.

        Args:
            histories: Catalogue rows, integers [n, t], oldest first; fewer than all items.
            generator: Source of chance.
        """
        users = len(histories)
        drawn = np.zeros(users, dtype=np.int64)
        waiting = np.arange(users)
        while len(waiting):
            proposal = self._propose(histories[waiting], generator)
            drawn[waiting] = proposal
            waiting = waiting[(histories[waiting] == proposal[:, None]).any(axis=1)]
        return drawn

    def _propose(
        self, histories: NDArray[np.integer], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw an item for each history, among all items."""
        users, steps = histories.shape
        _, brands, tiers = self.attributes.sizes
        anything: NDArray[np.int64] = np.searchsorted(
            np.cumsum(self.attributes.popularity)[:-1], generator.random((users,)), side="right"
        )
        if steps == 0:
            return anything
        back = (generator.random(users) < RETURN) & (steps > 1)
        source = np.where(back, histories[:, -2 if steps > 1 else -1], histories[:, -1])
        category = _pick(self._category_chances[self.attributes.category[source]], generator)
        tier = _pick(self._tier_chances[self.attributes.tier[source]], generator)
        loyal = generator.random(users) < LOYALTY
        any_brand = _pick(np.tile(self._brand_popularity, (users, 1)), generator)
        brand = np.where(loyal, self.leading_brand(histories), any_brand)
        fitting = self._pick_in_cell((category * brands + brand) * tiers + tier, generator)
        return np.where(generator.random(users) < EXPLORE, anything, fitting)

    def _pick_in_cell(
        self, cell: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw an item of each cell (same category, brand and tier), by popularity."""
        order = np.argsort(self._cell, kind="stable")
        ends = np.cumsum(np.bincount(self._cell))[cell]
        reached = np.cumsum(self.attributes.popularity[order])
        starts = ends - np.bincount(self._cell)[cell]
        below = np.where(starts > 0, reached[starts - 1], 0.0)
        wanted = below + generator.random(len(cell)) * (reached[ends - 1] - below)
        place = np.searchsorted(reached, wanted, side="right")
        return order[np.clip(place, starts, ends - 1)]

    def leading_brand(self, histories: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return each user's most bought brand, int64[n]; among equals the one bought last."""
        users, steps = histories.shape
        everyone = np.arange(users)
        rating = np.zeros((users, self.attributes.sizes[1]))
        for step in range(steps):
            brand = self.attributes.brand[histories[:, step]]
            # A count in the whole part, the time of the latest purchase in the fraction.
            rating[everyone, brand] = np.floor(rating[everyone, brand]) + 1 + step / (steps + 1)
        leader: NDArray[np.int64] = rating.argmax(axis=1)
        return leader


def _pick(chances: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw a column in each row of chances, float64[n, columns], which sum to 1 in each row."""
    reached = np.cumsum(chances, axis=1)[:, :-1]
    columns: NDArray[np.int64] = (reached <= generator.random((len(chances), 1))).sum(axis=1)
    return columns


def category_chances(categories: int) -> NDArray[np.float64]:
    """Return float64[categories, categories]: row c holds the chances of what complements c.

    The first complement is the next category of the department, round and round; the second lies
    two places on in the next department. Both are permutations, so no category runs dry.
    """
    here = np.arange(categories)
    department, place = here // RING, here % RING
    first = department * RING + (place + 1) % RING
    second = (department * RING + RING) % categories + (place + 2) % RING
    chances = np.zeros((categories, categories))
    chances[here, first] += FIRST_COMPLEMENT
    chances[here, second] += 1 - FIRST_COMPLEMENT
    return chances


def tier_chances(tiers: int) -> NDArray[np.float64]:
    """Return float64[tiers, tiers]: mostly the same tier, else one up or down; ends stay."""
    step = (1 - SAME_TIER) / 2
    here = np.arange(tiers)
    chances = SAME_TIER * np.eye(tiers)
    np.add.at(chances, (here, np.maximum(here - 1, 0)), step)
    np.add.at(chances, (here, np.minimum(here + 1, tiers - 1)), step)
    return chances
