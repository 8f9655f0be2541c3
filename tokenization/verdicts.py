"""What the figures of an index mean: a sentence for each, good or worth a look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["good", "look", "unknown"]

# Where "good" ends: between indices that serve well and shuffled codes, on a few public sets.
# They point at what to look at; they prove nothing. Distances are squared.
MOST_SHARING_BEFORE = 0.2
MOST_MOVED = 0.1
MOST_ADDED_DISTANCE = 1.0
LEAST_USED = 0.5
LEAST_EVEN = 0.5
LEAST_EVEN_LATER = 0.25
LARGEST_SHARE = 0.05
LARGEST_TIMES_EVEN = 5.0
MOST_ERROR = 0.6
LEAST_NEIGHBOUR_LIFT = 5.0
LEAST_NEIGHBOUR_SHARE = 0.15
LEAST_CHOICE_LIFT = 2.0
LEAST_INFORMATION = 0.1
LEAST_BITS_SAVED = 0.05


@dataclass(frozen=True)
class Verdict:
    """One figure, judged.

    Attributes:
        name: What was measured.
        value: The figure, ready to be shown; a dash where there is none.
        state: ``good``, ``look`` (worth a look) or ``unknown`` (not measured).
        words: One or two sentences on what it means.
    """

    name: str
    value: str
    state: State
    words: str


def verdicts(quality: dict[str, Any]) -> list[Verdict]:
    """Judge every figure of an index.

    Args:
        quality: What ``quality.measure`` returned; ``forecast``, what ``forecast.forecast``
            returned, may be added under that key.

    Returns:
        One verdict a figure, in the order of the report; figures that were not measured are
        ``unknown`` and say what was missing.
    """
    return [judge(quality) for judge in _JUDGES]


def percent(share: float) -> str:
    """Write a share in percent, with as many digits as it needs.

    >>> [percent(share) for share in (0.5, 0.0312, 0.00042, 0.0)]
    ['50 %', '3.1 %', '0.042 %', '0 %']
    """
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.2g} %"


def _unknown(name: str, why: str) -> Verdict:
    return Verdict(name, "–", "unknown", f"Not measured: {why}.")


def _own_codes(quality: dict[str, Any]) -> Verdict:
    sharing, items = quality["collisions_after"]["items_sharing"], quality["items"]
    if not sharing:
        words = "Every item has codes of its own, so a model's answer names exactly one item."
        return Verdict("Items that share their codes", "0", "good", words)
    words = (
        f"{percent(sharing / max(items, 1))} of the items have the same codes as another, up to "
        f"{quality['collisions_after']['largest_group']} together. Such items can only be ranked "
        "by popularity."
    )
    return Verdict("Items that share their codes", f"{sharing:,}", "look", words)


def _collisions_before(quality: dict[str, Any]) -> Verdict:
    name = "Shared before collisions were resolved"
    before = quality["collisions_before"]
    if before is None:
        return _unknown(name, "the codes come from elsewhere")
    share = before["items_sharing"] / max(quality["items"], 1)
    if share <= MOST_SHARING_BEFORE:
        words = "The codes tell most items apart by themselves."
        return Verdict(name, percent(share), "good", words)
    words = (
        "The codes alone do not tell these items apart. Another level, more codes, or vectors "
        "that say more about the items would help."
    )
    return Verdict(name, percent(share), "look", words)


def _moved(quality: dict[str, Any]) -> Verdict:
    name = "Moved to another code"
    moved, added = quality["items_moved"], quality["added_distance"]
    if moved is None:
        return _unknown(name, "nothing is known about how collisions were resolved")
    share = moved / max(quality["items"], 1)
    far = added is not None and added > MOST_ADDED_DISTANCE
    number = "few" if share <= MOST_MOVED else "many"
    words = f"To keep items apart, {number} of them had to leave the code that fits best"
    if not moved:
        words = "Every item kept the code that fits best"
    if added is not None:
        words += f"; they are now {(1 + added) ** 0.5:.3g} times as far from what their codes mean"
    words += "."
    state: State = "look" if share > MOST_MOVED or far else "good"
    return Verdict(name, percent(share), state, words)


def _used(quality: dict[str, Any]) -> Verdict:
    levels = quality["levels_before"] or quality["levels_after"]
    worst = min(levels, key=lambda row: row["used"] / row["size"])
    share, dead = worst["used"] / worst["size"], sum(row["dead"] for row in levels)
    state: State = "good" if share >= LEAST_USED else "look"
    words = "Every code of every level is in use."
    if dead:
        words = (
            f"Level {worst['level'] + 1} uses {worst['used']:,} of its {worst['size']:,} codes; "
            f"{dead:,} of all codes are dead."
        )
    if state == "look" and quality.get("quantized", True):
        words += " Fewer codes a level would lose nothing."
    return Verdict("Codes in use, worst level", percent(share), state, words)


def _even(quality: dict[str, Any]) -> Verdict:
    levels = quality["levels_before"] or quality["levels_after"]
    # Later levels tell apart what is left of few items each, so less is asked of them.
    least = [LEAST_EVEN] + [LEAST_EVEN_LATER] * (len(levels) - 1)
    shares = [row["perplexity"] / row["size"] for row in levels]
    worst = min(range(len(levels)), key=lambda level: shares[level] / least[level])
    row = levels[worst]
    name, value = "Evenness, worst level", f"{row['perplexity']:.3g} of {row['size']:,}"
    words = (
        f"The codes of level {worst + 1} are as varied as {row['perplexity']:.3g} codes that are "
        "all used alike. "
    )
    if shares[worst] >= least[worst]:
        return Verdict(name, value, "good", words + "Items spread well.")
    words += "Items crowd into a part of them, about which the code then says little."
    if quality.get("quantized", True):
        words += " With residual_kmeans, index.normalise_residuals and index.balanced spread them."
    return Verdict(name, value, "look", words)


def _largest(quality: dict[str, Any]) -> Verdict:
    share, size = quality["prefixes"][0]["largest_share"], quality["level_sizes"][0]
    name = "Largest first code"
    words = f"{quality['prefixes'][0]['largest']:,} items begin with the same code"
    if share <= max(LARGEST_SHARE, LARGEST_TIMES_EVEN / size):
        return Verdict(name, percent(share), "good", words + "; no group swallows the catalogue.")
    words += f", {share * size:.3g} times an even share; see the worst groups."
    return Verdict(name, percent(share), "look", words)


def _error(quality: dict[str, Any]) -> Verdict:
    name = "Reconstruction error"
    if not quality["error"]:
        return _unknown(name, "the codes stand for no vectors, or the vectors are not here")
    before = quality["error"][-1]["relative_error"]
    after = quality.get("error_after")
    error = before if after is None else after
    words = f"The codes keep {percent(max(1 - error, 0))} of what tells the vectors apart."
    if error != before:
        words += f" Before items moved the error was {before:.3f}."
    if error > MOST_ERROR:
        words += " More levels or larger ones would keep more."
    return Verdict(name, f"{error:.3f}", "look" if error > MOST_ERROR else "good", words)


def _neighbours(quality: dict[str, Any]) -> Verdict:
    name = "Nearest vectors with the same first code"
    agreement = quality["neighbour_agreement"]
    if not agreement or not agreement["prefixes"]:
        return _unknown(name, "there are no vectors, or no two items share a first code")
    row = agreement["prefixes"][0]
    words = (
        f"Of an item's {agreement['neighbours']} nearest vectors {percent(row['share'])} begin "
        f"with the same code, of all other items {percent(row['random'])}. "
    )
    good = row["lift"] >= LEAST_NEIGHBOUR_LIFT and row["share"] >= LEAST_NEIGHBOUR_SHARE
    words += "Like items have like codes." if good else "Like items are often told apart at once."
    return Verdict(name, percent(row["share"]), "good" if good else "look", words)


def _choices(quality: dict[str, Any]) -> Verdict:
    name = "Chosen one after the other with the same first code"
    together = quality["co_consumption"]
    if not together or not together["prefixes"]:
        return _unknown(name, "there are no training sequences, or no shared first codes")
    row = together["prefixes"][0]
    words = (
        f"{percent(row['share'])} of items chosen next begin with the same code, "
        f"{percent(row['random'])} by chance. "
    )
    good = row["lift"] >= LEAST_CHOICE_LIFT
    words += (
        "The codes know what people choose together."
        if good
        else "The codes know little of what people choose together."
    )
    return Verdict(name, f"{row['lift']:.3g} times chance", "good" if good else "look", words)


def _categories(quality: dict[str, Any]) -> Verdict:
    name = "First code and category"
    agreement = quality["category_agreement"]
    if not agreement:
        return _unknown(name, "fewer than two categories are known")
    purity, chance = agreement["purity"], agreement["purity_shuffled"]
    information = agreement["normalised_mutual_information"]
    gain = information - agreement["normalised_mutual_information_shuffled"]
    words = (
        f"{percent(purity)} of the items are of their code's commonest category, "
        f"{percent(chance)} if categories are shuffled. "
    )
    words += (
        "The first code says much about the category."
        if gain >= LEAST_INFORMATION
        else "The first code says little about the category, which is fine when it follows what "
        "people choose instead."
    )
    state: State = "good" if gain >= LEAST_INFORMATION else "look"
    return Verdict(name, f"{information:.2f} of 1", state, words)


def _forecast(quality: dict[str, Any]) -> Verdict:
    name = "Forecast of recall@10"
    forecast = quality.get("forecast")
    if not forecast:
        return _unknown(name, "no forecast was made")
    recall, yardstick = forecast["recall@10"], forecast["transition"]["recall@10"]
    saved = forecast["bits_shuffled"] - forecast["bits"]
    words = (
        f"A simple model of these codes finds the next item for {percent(recall)} of "
        f"{forecast['users']:,} users; counting which item followed which finds "
        f"{percent(yardstick)}. "
    )
    good = recall >= yardstick and saved >= LEAST_BITS_SAVED
    if recall < yardstick:
        words += "Codes should not fall below plain counting."
    elif saved >= LEAST_BITS_SAVED:
        words += f"What the codes mean saves {saved:.2f} bits an item over the same codes shuffled."
    else:
        words += "It would do as well with the same codes shuffled, so their meaning does not help."
    return Verdict(name, f"{recall:.3f}", "good" if good else "look", words)


_JUDGES: Sequence[Callable[[dict[str, Any]], Verdict]] = (
    _own_codes,
    _collisions_before,
    _moved,
    _used,
    _even,
    _largest,
    _error,
    _neighbours,
    _choices,
    _categories,
    _forecast,
)
