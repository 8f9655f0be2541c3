"""The trainer under DeepSpeed, which shares out the optimizer among the processes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genrec.training.optimizer_state import load_optimizer, save_optimizer
from genrec.training.trained_module import TrainedModule
from genrec.training.trainer import CodeTrainer
from genrec.training.zero import configure, plain_optimizer, take_state


class ZeroTrainer(CodeTrainer):
    """Trains as ``CodeTrainer`` does, with the optimizer and the gradients in pieces (ZeRO).

    Weights are whole in every process. Gradients of the model and of what is trained beside it are
    clipped together. Checkpoints are those of ``CodeTrainer``.
    """

    def _share_out(self, module: TrainedModule) -> None:
        """Let accelerate have DeepSpeed do it, as the launcher's file says."""
        self._require_accelerate(self.is_deepspeed_enabled)
        configure(self.accelerator.state.deepspeed_plugin, self.args)
        # DeepSpeed's own bfloat16 rounds the weights, and it switches off what is chosen around
        # the module.
        module.computes_in = torch.bfloat16 if self.args.bf16 else None
        # What the trainer itself does with DeepSpeed is to write and read its pickles.
        self.is_deepspeed_enabled = False

    def _put_groups_back(self) -> None:
        """Leave the groups as they are: each is one flat piece, of DeepSpeed's making."""

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Look at the length that DeepSpeed clipped: it made no step if this is not finite."""
        length = torch.as_tensor(self.accelerator.clip_grad_norm_(model.parameters(), 1.0))
        self._require_finite(length, "length of the gradient")
        return length

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        save_optimizer(self._module, self._plain(), self._schedule(), Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            plain = self._plain()
            load_optimizer(self._module, plain, self._schedule(), Path(checkpoint))
            take_state(self._inner_optimizer(), self._groups, plain)

    def _plain(self) -> torch.optim.Optimizer:
        inner: Any = self._inner_optimizer()
        return plain_optimizer(inner, self._groups)
