"""DeepSpeed's ZeRO, stages 1 and 2: each process keeps a piece of the optimizer and of gradients.

The weights are whole in every process, so that the first one can validate and write them. Between
steps nothing of DeepSpeed's is written: its own checkpoints are pickles.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from genrec.errors import ConfigError

_STAGES = (1, 2)
# Of all that AdamW keeps, what is not one number a weight.
_COUNT = "step"


def configure(plugin: Any, arguments: TrainingArguments) -> None:  # noqa: ANN401 - accelerate's
    """Make DeepSpeed's settings agree with the recipe, whatever the launcher's file says.

    The stage is the file's, and how it communicates.

    Raises:
        ConfigError: When the stage cuts the weights as well, or the file has an optimizer or a
            schedule of its own.
    """
    settings: dict[str, Any] = plugin.deepspeed_config
    zero = settings["zero_optimization"]
    if zero["stage"] not in _STAGES:
        raise ConfigError(
            f"the launcher's file has DeepSpeed's zero_stage {zero['stage']}, expected 1 or 2. To "
            "hold the weights in pieces as well launch with configs/accelerate/fsdp.yaml."
        )
    away = zero.get("offload_optimizer", {}).get("device", "none")
    if away != "none":
        raise ConfigError(
            f"the launcher's file has offload_optimizer_device {away}, which genrec has not been "
            "tried with; set it to none."
        )
    for name in ("optimizer", "scheduler"):
        if name in settings:
            raise ConfigError(
                f"the launcher's DeepSpeed file has a table {name}, but both are the recipe's "
                "(train.learning_rate, train.weight_decay, train.warmup); remove it."
            )
    settings |= {
        "train_micro_batch_size_per_gpu": arguments.per_device_train_batch_size,
        "gradient_accumulation_steps": arguments.gradient_accumulation_steps,
        "train_batch_size": "auto",
        "gradient_clipping": arguments.max_grad_norm,
        "fp16": {"enabled": False},
        "bf16": {"enabled": False},
    }


def plain_optimizer(
    zero: Any,  # noqa: ANN401 - DeepSpeed's, which has no types
    groups: Sequence[Sequence[nn.Parameter]],
) -> torch.optim.Optimizer:
    """Return the optimizer as one process without DeepSpeed would have it, its state whole.

    All processes call it. It is a copy, made to be written down.

    Args:
        zero: DeepSpeed's optimizer over one of torch's.
        groups: The parameters of the latter's groups as they were before they were cut.
    """
    plain = _without_state(zero, groups)
    for flat, own in zip(zero.optimizer.param_groups, groups, strict=True):
        held = zero.optimizer.state.get(flat["params"][0])
        if not held:
            continue  # no step yet
        for parameter in own:
            plain.state[parameter] = {
                name: _together(parameter, value) if name != _COUNT else value.clone()
                for name, value in held.items()
            }
    return plain


def take_state(
    zero: Any,  # noqa: ANN401
    groups: Sequence[Sequence[nn.Parameter]],
    plain: torch.optim.Optimizer,
) -> None:
    """Cut the state of an optimizer, and keep the piece of this process; undoes the above.

    Args:
        zero: DeepSpeed's optimizer, which has made no step.
        groups: As above.
        plain: Over the same groups.
    """
    for flat, own in zip(zero.optimizer.param_groups, groups, strict=True):
        states = {each: plain.state[each] for each in own if plain.state.get(each)}
        if not states:
            continue
        (piece,) = flat["params"]
        # Of one that never had a gradient there is nothing: its moments are zeros.
        known = next(iter(states.values()))
        held = {
            name: torch.zeros_like(piece) if name != _COUNT else value.clone()
            for name, value in known.items()
        }
        zero.optimizer.state[piece] = held
        for parameter, state in states.items():
            for name, value in state.items():
                if name != _COUNT:
                    for here, there in _shared(parameter, held[name], value.flatten()):
                        here.copy_(there)
    for flat, same in zip(zero.optimizer.param_groups, plain.param_groups, strict=True):
        flat.update({key: value for key, value in same.items() if key != "params"})


def _without_state(
    zero: Any,  # noqa: ANN401
    groups: Sequence[Sequence[nn.Parameter]],
) -> torch.optim.Optimizer:
    inner = zero.optimizer
    own: list[dict[str, Any]] = [
        {key: value for key, value in flat.items() if key != "params"} | {"params": list(group)}
        for flat, group in zip(inner.param_groups, groups, strict=True)
    ]
    made: torch.optim.Optimizer = type(inner)(own)
    return made


def _together(parameter: nn.Parameter, piece: Tensor) -> Tensor:
    """Put what the processes hold of a parameter's moments together."""
    whole = torch.zeros(parameter.numel(), dtype=piece.dtype, device=piece.device)
    for here, there in _shared(parameter, piece, whole):
        there.copy_(here)
    torch.distributed.all_reduce(whole)
    return whole.view_as(parameter)


def _shared(
    parameter: nn.Parameter, piece: Tensor, whole: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Find what of a parameter lies with this process: in its piece, and in the whole of it."""
    mapping: Any = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is not None:
        at, of = mapping.hp_fragment_address, mapping.lp_fragment_address
        yield piece.narrow(0, at.start, at.numel), whole.narrow(0, of.start, of.numel)
