"""One model on several ranks: gradients are exchanged, running statistics are shared when they are used."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from nest_ssl.training.distributed import Ranks
from nest_ssl.training.protocol import Batch, TrainableModel


class _LossModule(torch.nn.Module):
    """Reaches `training_loss` through forward, where DistributedDataParallel hooks in."""

    def __init__(self, model: TrainableModel):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        return self.model.training_loss(batch)


def data_parallel(model: TrainableModel, ranks: Ranks) -> torch.nn.Module:
    module = _LossModule(model)
    if ranks.world_size == 1:
        return module
    device_ids = [ranks.device.index] if ranks.device.type == "cuda" else None
    # Buffers are not broadcast at every step: running statistics are shared when they are used
    # (Trainer._share_statistics).
    ddp = torch.nn.parallel.DistributedDataParallel
    known = inspect.signature(ddp.__init__).parameters
    keep_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # Otherwise DDP orders its buckets anew after the first step, by the gradients' arrival; from three ranks
    # on a resumed run would then add in another order than one that never stopped.
    options: dict[str, Any] = {keep_buffers: False, "find_unused_parameters": True}
    return ddp(module, device_ids=device_ids, **options)


def running_statistics(model: torch.nn.Module) -> list[torch.Tensor]:
    """Buffers that a forward pass in train mode changes (BatchNorm's)."""
    found = []
    for module in model.modules():
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            buffer = module._buffers.get(name)
            if buffer is not None:
                found.append(buffer)
    return found
