"""The modules of the quality benchmark and its plan, for the tests of both."""

import importlib
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
quality, content, measure, page, plans, runs, summary, trend = (
    importlib.import_module(f"quality{name}")
    for name in ("", "_content", "_measure", "_page", "_plan", "_runs", "_summary", "_trend")
)
StepError = importlib.import_module("flow_runs").StepError
sys.path.remove(str(BENCHMARKS))

PLAN = plans.read_plan(quality.PLAN)


def changed_plan(**changes):
    """Return the plan with other values, ``table__key__key=value`` each."""
    values = PLAN.model_dump()
    for path, value in changes.items():
        *steps, last = path.split("__")
        place = values
        for step in steps:
            place = place[step]
        place[last] = value
    return plans.Plan.model_validate(values)
