"""`strategy` fsdp: each process keeps a part of every weight, by PyTorch's FSDP2. No training step, no files."""

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed import broadcast
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from r2gengpt.checkpoint import trained_names, trained_tensors, whole_tensor
from r2gengpt.errors import InputError


def layers_of(language_model: Any) -> list[nn.Module]:
    """The layers that the library itself never splits.

    Raises:
        InputError: the architecture names none.
    """
    names = set(getattr(language_model, "_no_split_modules", None) or ())
    found = [module for module in language_model.modules() if type(module).__name__ in names]
    if not found:
        kind = language_model.config.model_type
        raise InputError(
            f"language models of type {kind} name no layers to share out: choose ddp", field="strategy", value="fsdp"
        )
    return found


def like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """This process's part of an optimizer's whole tensor, cut as its parameter is; anything else as it is."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


class ShardedStrategy(DDPStrategy):  # type: ignore[misc]  # the library is untyped
    """Lightning's DDP, but for the weights: they are gathered layer by layer when a pass needs them.

    Each layer of the language model is a unit; the rest (embeddings, head, encoder, projector) is another, whole from
    the start of a forward pass to the end of the backward pass. What is saved is whole.
    """

    def configure_ddp(self) -> None:
        """Cut all weights in place of wrapping the model; every process has loaded the same ones."""
        model = self.lightning_module.model
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        self.layers: list[Any] = layers_of(model.language_model)
        for layer in self.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh, reshard_after_forward=False)
        register_fsdp_forward_method(model, "loss")  # which enters the language model by itself
        super().model_to_device()
        trained = set(trained_names(model))
        for name, buffer in model.named_buffers():
            if name in trained:
                broadcast(buffer, src=0)

    def model_to_device(self) -> None:
        """Nothing: a device need not hold the whole model, so `configure_ddp` moves it part by part."""

    def on_validation_start(self) -> None:
        """Where reports are written, keep what the first pass gathers: processes end reports at different lengths."""
        if self.lightning_module.needs_text:
            self.lightning_module.model.set_reshard_after_forward(False)

    def on_validation_end(self) -> None:
        """Back to a part in each process."""
        for layer in self.layers:
            layer.set_reshard_after_forward(True)
        for module in self.lightning_module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        """The trained tensors, whole, in every process."""
        return {f"model.{name}": tensor for name, tensor in trained_tensors(self.lightning_module.model).items()}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's state, whole, in the form of one process."""
        found = super().optimizer_state(optimizer)
        state = {key: {n: whole_tensor(value) for n, value in entry.items()} for key, entry in found["state"].items()}
        return {**found, "state": state}

    def load_optimizer_state_dict(self, checkpoint: dict[str, Any]) -> None:
        """Each process takes its part of a whole state."""
        for optimizer, found in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {k: {n: like(v, parameters[k]) for n, v in entry.items()} for k, entry in found["state"].items()}
            optimizer.load_state_dict({**found, "state": state})

    def teardown(self) -> None:
        """As Lightning's, but the weights stay where they are: the last checkpoint is yet to be gathered."""
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()
