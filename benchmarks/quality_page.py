"""The Markdown page of the quality benchmark: the goal first, then one table a set."""

from collections.abc import Mapping, Sequence
from typing import Any

from quality_measure import Record
from quality_plan import Plan
from quality_summary import NDCG, Summary, best, cost_rows, goal_rows, ratio, table_rows
from results_file import cell, machine_words, table

HEADER = ["row", "kind", "seeds", "recall@10", "ndcg@10", "over seeds", "over users", "recall@50",
          "of the best baseline", "tokens read", "train s", "parameters", "history",
          "machine"]  # fmt: skip


def page(plan: Plan, body: Mapping[str, Any]) -> str:
    """Return the page for what the JSON file holds."""
    records: list[Record] = [row for row in body["rows"] if "failed" not in row]
    machines = list(dict.fromkeys(machine_words(row["machine"]) for row in records))
    parts = [
        "# Quality",
        f"Made by `{body['command']}`, one result at a time. All rows of a set are in one run: the "
        "same data, the same test users, the same seeds.",
        *_goal(plan, records),
        "## Protocol",
        _protocol(plan, records, body["notes"]),
    ]
    for name, wanted in plan.tables.items():
        shown = _table(plan, name, records, machines)
        if shown:
            parts += [f"## {wanted.title}", *([wanted.words] if wanted.words else []), *shown]
    parts += _costs(plan, records)
    parts += _failures(body["rows"])
    parts += ["## Machines", "\n".join(f"- {_letter(machines, one)}: {one}" for one in machines)]
    others = {key: value for key, value in body["notes"].items() if key != "protocol"}
    notes = {"Seeds": body["seeds"], "Noise": body["noise"], **others}
    parts += ["## Notes", "\n".join(f"- {key}: {cell(value)}" for key, value in notes.items())]
    return "\n\n".join(parts) + "\n"


def _goal(plan: Plan, records: Sequence[Record]) -> list[str]:
    rows = goal_rows(plan, records)
    met = sum(row["met"] is True for row in rows)
    possible = met + sum(row["met"] is None for row in rows)
    verdict = "met" if met >= plan.goal.sets else "open"
    verdict = verdict if possible >= plan.goal.sets else "**missed**"
    lines = []
    for row in rows:
        words = {True: "met", False: "**missed**", None: "not measured"}[row["met"]]
        title = plan.sets[row["set"]].title
        shown, over = (_with(*row[name]) if row[name] else "" for name in ("ratio", "over_blend"))
        named = (*_named(row["baseline"]), *_named(row["generative"]), shown, words)
        lines.append([title, *named, *_named(row["blend"]), over])
    header = ["set", "best baseline", "ndcg@10", "best generative", "ndcg@10", "ratio", "verdict",
              "baselines blended", "ndcg@10", "ratio to it"]  # fmt: skip
    parts = [
        "## Goal",
        f"The best generative row at least {plan.goal.ratio:.2f} times the NDCG@10 of the best "
        f"tuned baseline, on {plan.goal.sets} of {len(rows)} sets: {verdict}, "
        f"{met} so far. Brackets: 95 % t-interval over seeds. The last columns say what baselines "
        "give together, without a model that was trained for this.",
        table(header, lines),
    ]
    references = _references(plan, records)
    return [*parts, references] if references else parts


def _named(summary: Summary | None) -> tuple[str, str]:
    if summary is None:
        return "", ""
    return f"{summary.row} ({_seeds(summary)})", f"{summary.means[NDCG]:.4f}"


def _references(plan: Plan, records: Sequence[Record]) -> str:
    """Say how rows stand to figures of others under the same protocol."""
    lines = []
    for set_name, chosen in plan.sets.items():
        found = {one.row: one for one in table_rows(plan, plan.goal.table, set_name, records)}
        for row, figures in chosen.references.items():
            for name, value in figures.items() if row in found else ():
                own = found[row].means[name]
                words = "reached" if own >= value else "**not reached**"
                lines.append([chosen.title, row, name, f"{value:.4f}", f"{own:.4f}", words])
    header = ["set", "row", "figure", "of others", "here", "verdict"]
    return table(header, lines) if lines else ""


def _protocol(plan: Plan, records: Sequence[Record], notes: Mapping[str, Any]) -> str:
    used = [name for name in plan.protocols if any(one["protocol"] == name for one in records)]
    facts = [f"{name}: {plan.protocols[name].words}" for name in used]
    facts.append(str(notes["protocol"]))
    return "\n".join(f"- {fact}" for fact in facts)


def _table(plan: Plan, name: str, records: Sequence[Record], machines: list[str]) -> list[str]:
    """Return the parts of one table: a heading and rows for each set that was measured."""
    parts = []
    reference = plan.tables[name].reference
    for set_name, chosen in plan.sets.items():
        summaries = table_rows(plan, name, set_name, records)
        if not summaries or not (set_name in plan.tables[name].sets or chosen.stand_in):
            continue
        baseline = best(summaries, "baseline", plan)
        known = {one.row: one for one in summaries}
        header = [*HEADER, f"of {reference}"] if reference else HEADER
        lines = []
        for one in summaries:
            line = _line(one, plan.rows[one.row].kind, baseline, machines)
            lines.append([*line, _ratio(one, known.get(reference))] if reference else line)
        examples = sorted({record["examples"] for one in summaries for record in _all(one)})
        counts = " or ".join(f"{count:,}" for count in examples)
        parts += [f"### {chosen.title}", f"{counts} test examples.", table(header, lines)]
    return parts


def _line(one: Summary, kind: str, baseline: Summary | None, machines: list[str]) -> list[str]:
    stale = any(record.get("stale") for record in _all(one))
    used = sorted({_letter(machines, machine_words(record["machine"])) for record in _all(one)})
    return [
        f"{one.row} (earlier settings)" if stale else one.row,
        kind,
        _seeds(one),
        f"{one.means['recall@10']:.4f}",
        f"{one.means[NDCG]:.4f}",
        _interval(one.over_seeds.get(NDCG)),
        _interval(one.over_users.get(NDCG)),
        f"{one.means['recall@50']:.4f}",
        _ratio(one, baseline),
        _count(one.mean("tokens_read")),
        _count(one.mean("train_seconds")),
        _count(one.mean("parameters")),
        " ".join(sorted({str(record["history"]) for record in _all(one)})),
        " ".join(used),
    ]


def _costs(plan: Plan, records: Sequence[Record]) -> list[str]:
    rows = cost_rows(plan, records)
    if not rows:
        return []
    lines = [
        [
            plan.sets[row["set"]].title,
            row["name"],
            str(row["seed"]),
            f"{row[NDCG]:.4f}",
            f"{_count(row['stream']['tokens'])} / {_count(row['stream']['seconds'])} s",
            f"{_count(row['instruction']['tokens'])} / {_count(row['instruction']['seconds'])} s",
            f"{row['fewer_tokens']:.1f}",
            f"{row['fewer_seconds']:.1f}",
        ]
        for row in rows
    ]
    header = ["set", "model", "seed", "validation ndcg@10", "stream", "instruction",
              "times fewer tokens", "times fewer seconds"]  # fmt: skip
    words = (
        "Tokens read and seconds of training up to the first validation at or above the level that "
        "both forms reach, the lower of their best ones. Words of prompts and padding count; the "
        "time of validations does not."
    )
    return ["## Training cost at equal quality", words, table(header, lines)]


def _failures(rows: Sequence[Record]) -> list[str]:
    lines = [
        [row["set"], row["protocol"], row["row"], str(row["seed"]), cell(row["failed"])]
        for row in rows
        if "failed" in row
    ]
    if not lines:
        return []
    return ["## Failed", table(["set", "protocol", "row", "seed", "last words"], lines)]


def _all(summary: Summary) -> list[Record]:
    return list(summary.records.values())


def _seeds(summary: Summary) -> str:
    count = len(summary.records)
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _ratio(one: Summary, other: Summary | None) -> str:
    found = ratio(one, other) if other else None
    return "" if found is None else _with(*found)


def _with(value: float, ends: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


def _interval(ends: tuple[float, float] | None) -> str:
    return f"[{ends[0]:.4f}, {ends[1]:.4f}]" if ends else ""


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _letter(machines: list[str], words: str) -> str:
    return chr(ord("A") + machines.index(words))
