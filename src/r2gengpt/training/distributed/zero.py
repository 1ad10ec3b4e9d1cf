"""`strategy` deepspeed_stage_N: DeepSpeed's ZeRO under Lightning, on CPUs too. No training step.

Source: Rajbhandari et al., arXiv 1910.02054.
"""

import contextlib
import os
import sys
from typing import Any

import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import nn

from r2gengpt.config import TrainConfig


class ZeroPrecision(DeepSpeedPrecision):  # type: ignore[misc]  # the library is untyped
    """The arithmetic that ddp has: trained weights in float32, products in bfloat16 with bf16-mixed.

    DeepSpeed's own bfloat16 would turn the whole model and its inputs into bfloat16.
    """

    def __init__(self, precision: str, device: str) -> None:
        super().__init__("32-true")
        self.mixed, self.device = precision == "bf16-mixed", device

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Frozen weights stay in the type that `dtype` gave them."""
        return module

    def convert_input(self, data: Any) -> Any:
        """Batches are left as they are."""
        return data

    def backward(self, tensor: torch.Tensor, *arguments: Any, **options: Any) -> None:
        """Lightning has divided the loss by `accumulate_grad_batches`; DeepSpeed would do it again."""
        super().backward(tensor, *arguments, scale_wrt_gas=False, **options)

    def forward_context(self) -> contextlib.AbstractContextManager[Any]:
        """Where steps run."""
        return torch.autocast(self.device, torch.bfloat16) if self.mixed else contextlib.nullcontext()


class ZeroStrategy(DeepSpeedStrategy):  # type: ignore[misc]  # the library is untyped
    """Lightning's, but it runs on CPUs, keeps stdout clean and leaves `dtype` and `precision` their meaning.

    Args:
        train: strategy deepspeed_stage_1, _2 or _3; precision 32-true or bf16-mixed.
    """

    def __init__(self, train: TrainConfig) -> None:
        device = "cuda" if train.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
        os.environ["DS_ACCELERATOR"] = device
        with contextlib.redirect_stdout(sys.stderr):  # where DeepSpeed's log goes for good
            super().__init__(
                stage=int(train.strategy.removeprefix("deepspeed_stage_")),
                logging_batch_size_per_gpu=1,  # of DeepSpeed's own log, which is off
                precision_plugin=ZeroPrecision(train.precision, device),
                exclude_frozen_parameters=True,  # from the state to resume from: they come from where they came from
            )
        self.whole: contextlib.ExitStack | None = None

    def setup_environment(self) -> None:
        """As Lightning's, which refuses what is no CUDA device and asks devices for numbers."""
        if self.root_device.type == "cpu":
            self.parallel_devices = [torch.device("cpu", index) for index in range(self.num_processes)]
        with contextlib.redirect_stdout(sys.stderr):
            DDPStrategy.setup_environment(self)

    def on_validation_start(self) -> None:
        """Where reports are written, gather all weights first: processes end reports at different lengths."""
        if self.zero_stage_3 and self.lightning_module.needs_text:
            from deepspeed.runtime.zero.stage3 import unwrap_model_for_generation

            self.whole = contextlib.ExitStack()
            self.whole.enter_context(unwrap_model_for_generation(self.deepspeed_engine))

    def validation_step(self, *arguments: Any, **options: Any) -> Any:
        """As Lightning's, but past the engine while weights are whole: it would wait for the other processes."""
        if self.whole is None:
            return super().validation_step(*arguments, **options)
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(*arguments, **options)

    def on_validation_end(self) -> None:
        """Back to a part in each process."""
        if self.whole is not None:
            self.whole.close()
            self.whole = None

    def save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        """A directory, to which each process adds its parts."""
        self.on_validation_end()
        super().save_checkpoint(*arguments, **options)
