"""Which processes take part in an evaluation. Starts none itself; Lightning does."""

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from r2gengpt.config import TrainConfig
from r2gengpt.errors import InputError, installing

if TYPE_CHECKING:
    from r2gengpt.processes import Share


def shares(options: TrainConfig) -> "AbstractContextManager[Share]":
    """The processes of an evaluation: this one alone, or those for several devices, by Lightning as in training.

    Raises:
        InputError: the device is not there, or Lightning is not installed where several are asked for.
    """
    import torch

    from r2gengpt.locate import ModelChoice
    from r2gengpt.processes import Share

    device = ModelChoice(accelerator=options.accelerator).device()
    has_lightning = importlib.util.find_spec("lightning") is not None
    outside = any(os.environ.get(name, "1") != "1" for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    more_here = options.devices == "auto" and device == "cuda" and torch.cuda.device_count() > 1 and has_lightning
    if options.devices in ("auto", "1") and options.num_nodes == 1 and not outside and not more_here:
        return nullcontext(Share(0, 1, torch.device(device)))
    if not has_lightning:
        raise InputError(f"--devices {options.devices}: needs lightning ({installing('train')}), or --devices 1")
    from r2gengpt.training.distributed.processes import joined

    return joined(options)
