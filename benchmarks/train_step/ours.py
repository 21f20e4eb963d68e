"""Our side of the benchmark: the step of nest_ssl.training.loop, as a run takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from nest_ssl.config import build, load_config, resolved
from nest_ssl.data.noise_batch import AudioNoiseBatch
from nest_ssl.files.system import keep_freed_memory
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from nest_ssl.modules.targets import TARGETS
from nest_ssl.training.distributed import Ranks
from nest_ssl.training.loop import Trainer
from nest_ssl.training.optim import build_optimizer
from nest_ssl.training.options import TrainerOptions
from nest_ssl.training.window import Window
from train_step.inputs import fresh, seed_all
from train_step.regions import Regions

INSIDE = {
    "step": ("forward and backward",),
    "forward and backward": ("forward",),
    "forward": ("features", "mask", "quantize", "encode"),
}
NAMES = {"step": "optimiser", "forward and backward": "backward", "forward": "loss"}  # what is left of each


class Side:
    """Builds the model from the YAML, and leaves configuration and weights for the other side."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.device = torch.device(options["device"])
        if self.device.type == "cpu":
            keep_freed_memory()  # as the trainer's ranks do
        overrides = [*options["overrides"], "model.train_ds.manifest_filepath=none"]
        config = load_config(options["config"], [*overrides, "~model.validation_ds"])
        section = resolved(config.model, "model")
        augmentor = section.pop("train_ds").get("batch_augmentor")
        torch.manual_seed(options["seed"])
        self.model = EncDecDenoiseMaskedTokenPredModel(cfg=OmegaConf.create(section))
        if options["share"]:
            (folder / "config.json").write_text(
                json.dumps({"model": section, "augmentor": augmentor}), encoding="utf-8"
            )
            state = {name: value.contiguous() for name, value in self.model.state_dict().items()}
            save_file(state, folder / "weights.safetensors")
        self.model.to(self.device)
        self.augmentor = build(augmentor, TARGETS, "batch_augmentor") if augmentor else None
        optim = {**section["optim"], "lr": options["lr"]}
        optimizer = build_optimizer(self.model.parameter_groups(optim), optim)
        precision = {"fp32": 32, "bf16": "bf16"}[options["precision"]]
        trainer_options = TrainerOptions.from_config({"max_steps": 10**9, "precision": precision})
        data = _NoData()
        ranks = Ranks(0, 0, 1, self.device)
        self.trainer = Trainer(
            *(self.model, optimizer, [lambda step: options["lr"]] * len(optimizer.param_groups), 10**9),
            *(data, None, trainer_options, ranks, None, "", None, None),  # type: ignore[arg-type]
        )
        self.trainer._reseed = lambda *place: seed_all(self.number)  # type: ignore[method-assign]
        if options["compile"]:
            self.model.encoder.compile(dynamic=False)
        self.number = 0
        self.loss: tuple[torch.Tensor, torch.Tensor] | None = None
        self._keep_the_loss()
        self.regions = Regions(self.device)
        for owner, method, region in (
            (self.model, "_features", "features"),
            (self.model.mask_processor, "forward", "mask"),
            (self.model.quantizer, "tokens", "quantize"),
            (self.model.encoder, "__call__" if options["compile"] else "forward", "encode"),
            (self.model, "training_loss", "forward"),
            (self.trainer, "_backward", "forward and backward"),
            (self.trainer, "_step", "step"),
            (self, "_augmented", "augment"),
        ):
            self.regions.time_of(owner, method, region)

    def step(self, tensors: dict[str, torch.Tensor], number: int) -> None:
        """One optimiser step; `loss_value` gives its loss."""
        self.number = number
        seed_all(number)
        batch = self._augmented(fresh(tensors, AudioNoiseBatch))
        self.trainer._step([batch], Window())

    def loss_value(self) -> float:
        assert self.loss is not None
        return float(self.loss[0].double() / self.loss[1])

    def profile(self) -> dict[str, float]:
        """Milliseconds by region since the regions were started."""
        exclusive = self.regions.exclusive(INSIDE)
        return {NAMES.get(name, name): 1e3 * seconds for name, seconds in exclusive.items()}

    def _augmented(self, batch: Any) -> Any:
        return self.augmentor(batch) if self.augmentor else batch

    def _keep_the_loss(self) -> None:
        compute = self.model.training_loss

        def training_loss(batch: Any) -> Any:
            loss_sum, weight, stats = compute(batch)
            self.loss = (loss_sum.detach(), weight)
            return loss_sum, weight, stats

        self.model.training_loss = training_loss  # type: ignore[method-assign]


class _NoData:
    """The trainer asks its data for a name only."""

    def fingerprint(self) -> str:
        return ""
