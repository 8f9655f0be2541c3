"""Seeds put together: means, intervals, ratios, the goal, and the price of equal quality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from quality_measure import METRICS, WITH_INTERVAL, Record
from quality_plan import CostPlan, Plan
from scipy import stats

NDCG = "ndcg@10"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """A row of a table: its seeds together.

    Attributes:
        row: Name of the row.
        records: Its results, one a seed, by seed.
        means: Metric -> mean over the seeds.
        over_seeds: Metric -> 95 % t-interval of the mean over seeds; none for one seed.
        over_users: Metric -> 95 % bootstrap interval over users, ends averaged over the seeds.
    """

    row: str
    records: Mapping[int, Record]
    means: Mapping[str, float]
    over_seeds: Mapping[str, Interval]
    over_users: Mapping[str, Interval]

    def mean(self, name: str) -> float | None:
        """Return the mean of any figure; None when no seed has it."""
        values = [record[name] for record in self.records.values() if record.get(name) is not None]
        return float(np.mean(values)) if values else None


def summarise(row: str, records: Sequence[Record]) -> Summary:
    """Put the results of a row's seeds together."""
    by_seed = {record["seed"]: record for record in sorted(records, key=lambda one: one["seed"])}
    values = {name: [one[name] for one in by_seed.values()] for name in METRICS}
    intervals = {name: t_interval(values[name]) for name in METRICS}
    return Summary(
        row,
        by_seed,
        {name: float(np.mean(column)) for name, column in values.items()},
        {name: ends for name, ends in intervals.items() if ends},
        {name: ends for name in WITH_INTERVAL if (ends := _over_users(name, by_seed))},
    )


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return Student's interval of a mean; None for fewer than two values.

    >>> low, high = t_interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    n = len(values)
    if n < 2:
        return None
    half = stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    mean = np.mean(values)
    return float(mean - half), float(mean + half)


def _over_users(name: str, records: Mapping[int, Record]) -> Interval | None:
    ends = [
        (one[f"{name}_low"], one[f"{name}_high"])
        for one in records.values()
        if f"{name}_low" in one
    ]
    if not ends:
        return None
    low, high = np.mean(ends, axis=0)
    return float(low), float(high)


def ratio(one: Summary, other: Summary) -> tuple[float, Interval | None] | None:
    """Return how many times the NDCG@10 of another row a row has, and the interval over seeds.

    Only seeds that both have count; None when there is none, or the other row found nothing.
    """
    seeds = sorted(one.records.keys() & other.records.keys())
    pairs = [(one.records[seed][NDCG], other.records[seed][NDCG]) for seed in seeds]
    if not pairs or any(base == 0 for _, base in pairs):
        return None
    own, base = np.mean(pairs, axis=0)
    return float(own / base), t_interval([mine / theirs for mine, theirs in pairs])


def best(summaries: Sequence[Summary], kind: str, plan: Plan) -> Summary | None:
    """Return the row of a kind with the highest mean NDCG@10; None when there is none."""
    own = [one for one in summaries if plan.rows[one.row].kind == kind]
    return max(own, key=lambda one: one.means[NDCG], default=None)


def table_rows(plan: Plan, table: str, set_name: str, records: Sequence[Record]) -> list[Summary]:
    """Return the rows of a table on one set, those that were measured, in the order of the plan."""
    wanted = plan.tables[table]
    found = []
    for row in wanted.rows:
        key = set_name, wanted.protocol, row
        own = [one for one in records if (one["set"], one["protocol"], one["row"]) == key]
        if own:
            found.append(summarise(row, own))
    return found


def goal_rows(plan: Plan, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return for each set of the goal's table how its best rows stand to the goal."""
    rows = []
    for set_name in plan.tables[plan.goal.table].sets:
        summaries = table_rows(plan, plan.goal.table, set_name, records)
        baseline, generative = (best(summaries, kind, plan) for kind in ("baseline", "generative"))
        found = ratio(generative, baseline) if baseline and generative else None
        blend = best(summaries, "blend", plan)
        rows.append(
            {
                "set": set_name,
                "baseline": baseline,
                "generative": generative,
                "ratio": found,
                "met": None if found is None else found[0] >= plan.goal.ratio,
                "blend": blend,
                "over_blend": ratio(generative, blend) if blend and generative else None,
            }
        )
    return rows


def cost_rows(plan: Plan, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return what item streams and instructions cost up to equal validation NDCG@10."""
    rows = []
    for cost in plan.costs:
        own = [one for one in records if one["row"] in (cost.stream, cost.instruction)]
        for key in dict.fromkeys((one["set"], one["protocol"], one["seed"]) for one in own):
            pair = {
                one["row"]: one for one in own if (one["set"], one["protocol"], one["seed"]) == key
            }
            if len(pair) == 2 and all(one.get("curve") for one in pair.values()):
                rows.append({"set": key[0], "seed": key[2], **_cost(cost, pair)})
    return rows


def _cost(cost: CostPlan, pair: Mapping[str, Record]) -> dict[str, Any]:
    curves = [pair[row]["curve"] for row in (cost.stream, cost.instruction)]
    level = min(max(point[NDCG] for point in curve) for curve in curves)
    stream, instruction = (reached(curve, level) for curve in curves)
    return {
        "name": cost.name,
        NDCG: level,
        "stream": stream,
        "instruction": instruction,
        "fewer_tokens": instruction["tokens"] / stream["tokens"],
        "fewer_seconds": instruction["seconds"] / max(stream["seconds"], 0.1),
    }


def reached(curve: Sequence[Mapping[str, float]], level: float) -> Mapping[str, float]:
    """Return the first validation at or above a level; the curve gets there."""
    return next(point for point in curve if point[NDCG] >= level)
