"""NeMo's side of the benchmark: its model and augmentor, AdamW as its registry builds it; no Lightning.

Imports nothing of nest_ssl, so that NeMo's environment need not have what that needs.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from train_step.inputs import fresh, seed_all
from train_step.regions import Regions

INSIDE = {"forward": ("features", "mask", "quantize", "encode")}
NAMES = {"forward": "loss"}


class Side:
    """Builds the model from what our side left in the folder."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
        from nemo.collections.asr.modules import ssl_modules
        from nemo.utils import logging as nemo_logging
        from omegaconf import OmegaConf

        nemo_logging.setLevel(nemo_logging.CRITICAL)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.device = torch.device(options["device"])
        self.model = EncDecDenoiseMaskedTokenPredModel(cfg=OmegaConf.create(config["model"]))
        self.model.load_state_dict(load_file(folder / "weights.safetensors"))
        self.model.to(self.device).train()
        augmentor = {k: v for k, v in (config["augmentor"] or {}).items() if k != "_target_"}
        self.augmentor = ssl_modules.MultiSpeakerNoiseAugmentation(**augmentor) if augmentor else None
        optim = config["model"]["optim"]
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=options["lr"],
            betas=tuple(optim["betas"]),
            weight_decay=optim["weight_decay"],
        )
        self.bf16 = options["precision"] == "bf16"
        self.loss: torch.Tensor | None = None
        self.regions = Regions(self.device)
        for owner, method, region in (
            (self.model.preprocessor, "forward", "features"),
            (self.model.mask_processor, "forward", "mask"),
            (self.model.quantizer, "forward", "quantize"),
            (self.model.encoder, "forward", "encode"),
            (self, "_forward", "forward"),
            (self, "_backward", "backward"),
            (self, "_optimize", "optimiser"),
            (self, "_augmented", "augment"),
        ):
            self.regions.time_of(owner, method, region)

    def step(self, tensors: dict[str, torch.Tensor], number: int) -> None:
        """One optimiser step; `loss_value` gives its loss."""
        seed_all(number)
        batch = self._augmented(fresh(tensors))
        seed_all(number)
        for name, value in vars(batch).items():
            if isinstance(value, torch.Tensor):
                setattr(batch, name, value.to(self.device, non_blocking=True))
        loss = self._forward(batch)
        self._backward(loss)
        self._optimize()
        self.loss = loss.detach()

    def loss_value(self) -> float:
        assert self.loss is not None
        return float(self.loss)

    def profile(self) -> dict[str, float]:
        """Milliseconds by region since the regions were started."""
        exclusive = self.regions.exclusive(INSIDE)
        return {NAMES.get(name, name): 1e3 * seconds for name, seconds in exclusive.items()}

    def _augmented(self, batch: Any) -> Any:
        return self.augmentor(batch) if self.augmentor else batch

    def _forward(self, batch: Any) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext():
            log_probs, encoded_len, masks, tokens = self.model(
                input_signal=batch.audio,
                input_signal_length=batch.audio_len,
                noisy_input_signal=batch.noisy_audio,
                noisy_input_signal_length=batch.noisy_audio_len,
                apply_mask=True,
            )
            return self.model.loss(
                masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len
            )

    def _backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def _optimize(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
