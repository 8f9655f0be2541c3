"""Stopping at the first loss or gradient that is no number, before it can spoil the weights."""

from pathlib import Path

from torch import Tensor

from genrec.errors import ConfigError
from genrec.training.batches import Plan
from genrec.training.checkpoints import last_checkpoint


def require_finite(
    value: Tensor,
    what: str,
    *,
    step: int,
    batch: int,
    plan: Plan,
    rates: str,
    folder: Path,
) -> None:
    """Refuse to go on from a value that is not finite.

    Args:
        value: A scalar of this step.
        what: Its name.
        step: Number of finished steps.
        batch: Place of the batch in the plan.
        plan: All batches.
        rates: The keys of the recipe that hold its step sizes, and what they are now.
        folder: Where checkpoints lie.

    Raises:
        ConfigError: It names the step, the users of the batch and the last good checkpoint.
    """
    if value.isfinite().all():
        return
    good = last_checkpoint(folder)
    kept = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
    raise ConfigError(
        f"the {what} is {float(value)} at step {step + 1}, on the batch of {plan.contents(batch)}. "
        f"Training stopped before it changed a weight; {kept}. "
        "Set runtime.dtype: float32 and train again, which goes on from there, or lower "
        f"{rates}, which begins anew."
    )
