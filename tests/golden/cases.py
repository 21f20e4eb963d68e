"""Reference cases made with NeMo, and the comparisons that the full set and the committed sample share."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load, load_file
from torch import Tensor

from nest_ssl.checkpoints.state import load_state
from nest_ssl.models.registry import model_class_of
from nest_ssl.models.ssl_models import EncDecMaskedTokenPredModel

SAMPLE = Path(__file__).parent / "nemo"

# What NeMo itself meets when it is run again with other threads or another BLAS.
ACTIVATIONS = {"rtol": 0.0, "atol": 1e-5}
LOSS = {"rtol": 2e-6, "atol": 0.0}
# Some gradients are sums that cancel to zero but for rounding (biases before a batch norm).
GRADIENTS = {"rtol": 1e-4, "atol": 1e-5}

FEATURIZER = ("preprocessor.featurizer.window", "preprocessor.featurizer.fb")


@dataclass
class Case:
    """One configuration with its weights, waveforms and NeMo's results."""

    config: DictConfig
    meta: dict[str, Any]
    state: dict[str, Tensor]
    tensors: dict[str, Tensor]
    waves: dict[str, Tensor]

    def built(self) -> EncDecMaskedTokenPredModel:
        """The model as the configuration says, with weights drawn anew."""
        return model_class_of(self.config)(self.config)

    def model(self) -> EncDecMaskedTokenPredModel:
        """The model with NeMo's weights, in evaluation mode."""
        model = self.built()
        left_out = () if set(FEATURIZER) <= set(self.state) else FEATURIZER
        load_state(model, self.state, self.meta["name"], allowed_missing=left_out)
        return model.eval()

    def batch(self) -> SimpleNamespace:
        """The waveforms as a batch; fresh tensors, for dither is added in place."""
        clean = self.waves["input_signal"].clone()
        noisy = self.waves.get("noisy_signal", clean).clone()
        length = self.waves["input_length"]
        return SimpleNamespace(
            audio=clean,
            audio_len=length,
            noise=noisy - clean,
            noise_len=length,
            noisy_audio=noisy,
            noisy_audio_len=length,
        )

    def signals(self) -> dict[str, Any]:
        """The waveforms as keyword arguments of `forward`."""
        batch = self.batch()
        signals = {
            "input_signal": batch.audio,
            "input_signal_length": batch.audio_len,
            "apply_mask": self.meta["apply_mask"],
        }
        if "Denoise" in self.config.target:
            signals |= {
                "noisy_input_signal": batch.noisy_audio,
                "noisy_input_signal_length": batch.noisy_audio_len,
            }
        return signals


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file; of FILE.gz, as the committed sample has it, if there is no FILE."""
    if path.is_file():
        return load_file(path)
    return load(gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()))


def load_case(folder: Path, name: str) -> Case:
    """Read the case `name` of a folder laid out like the reference set."""
    meta = json.loads((folder / name / "meta.json").read_text())
    tensors = read_tensors(folder / name / "tensors.safetensors")
    waves = (
        tensors if "input_signal" in tensors else read_tensors(folder / meta["waves"] / "tensors.safetensors")
    )
    return Case(
        config=OmegaConf.load(folder / name / "config.yaml"),
        meta=meta,
        state=read_tensors(folder / name / "state_dict.safetensors"),
        tensors=tensors,
        waves=waves,
    )


def loss_of(model: EncDecMaskedTokenPredModel, outputs: tuple) -> Tensor:
    """NeMo's loss call on what `forward` gave."""
    log_probs, encoded_len, masks, tokens = outputs
    return model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len)


def evaluated(case: Case) -> tuple[EncDecMaskedTokenPredModel, tuple]:
    """The model, and what forward() gave in evaluation mode: NeMo's masks, tokens and activations."""
    model, expected = case.model(), case.tensors
    seen: dict[str, Tensor] = {}

    def sub_sampled(module: Any, inputs: Any, output: Any) -> None:
        seen["pre_encode"] = output[0] if isinstance(output, tuple) else output  # a linear layer: no lengths

    model.encoder.pre_encode.register_forward_hook(sub_sampled)
    model.encoder.register_forward_hook(lambda *args: seen.update(encoded=args[2][0]))
    torch.manual_seed(case.meta["mask_seed_eval"])
    with torch.no_grad():
        outputs = model(**case.signals())
    log_probs, encoded_len, masks, tokens = outputs
    assert torch.equal(masks.amin(dim=1), masks.amax(dim=1)), "all features of a frame are masked alike"
    assert torch.equal(masks[:, 0].to(torch.uint8), expected["mask"])
    assert torch.equal(tokens, expected["tokens"])
    assert torch.equal(encoded_len, expected["encoded_len"])
    for name, tensor in (*seen.items(), ("log_probs", log_probs)):
        torch.testing.assert_close(tensor, expected[name], **ACTIVATIONS)
    return model, outputs


def check_evaluation(case: Case) -> None:
    """forward() in evaluation mode: masks and tokens exactly, activations and loss closely."""
    model, outputs = evaluated(case)
    loss = loss_of(model, outputs)
    torch.testing.assert_close(loss, case.tensors["eval_loss"].squeeze(), **LOSS, equal_nan=True)


def check_without_loss(case: Case) -> None:
    """A case whose decoder gives a frame more than there are tokens, where NeMo's loss fails."""
    model, outputs = evaluated(case)
    log_probs, _, masks, tokens = outputs
    frames = tokens.shape[1]
    assert log_probs.shape[1] == frames + 1
    loss = model.loss(masks=masks, decoder_outputs=log_probs[:, :frames], targets=tokens)
    torch.testing.assert_close(loss_of(model, outputs), loss)
    torch.manual_seed(case.meta["mask_seed_eval"])
    loss_sum, weight, _ = model.validation_loss(case.batch())
    torch.testing.assert_close(loss_sum / weight, loss, **LOSS)
    training = case.model().train()
    torch.manual_seed(case.meta["mask_seed_train"])
    training(**case.signals())
    state = training.state_dict()
    for key, tensor in case.tensors.items():
        if key.startswith("train.after."):
            torch.testing.assert_close(state[key.removeprefix("train.after.")], tensor, **ACTIVATIONS)


def check_validation_loss(case: Case) -> None:
    """validation_loss(): the same mean loss from the masked frames alone."""
    model = case.model()
    torch.manual_seed(case.meta["mask_seed_eval"])
    loss_sum, weight, _ = model.validation_loss(case.batch())
    torch.testing.assert_close(loss_sum / weight, case.tensors["eval_loss"].squeeze(), **LOSS)


def check_training(case: Case, through_forward: bool) -> None:
    """One forward and backward in training mode: loss, gradients, batch statistics."""
    model, expected = case.model().train(), case.tensors
    torch.manual_seed(case.meta["mask_seed_train"])
    if through_forward:
        outputs = model(**case.signals())
        assert torch.equal(outputs[2][:, 0].to(torch.uint8), expected["train.mask"])
        assert torch.equal(outputs[3], expected["train.tokens"])
        loss = loss_of(model, outputs)
    else:
        loss_sum, weight, _ = model.training_loss(case.batch())
        loss = loss_sum / weight
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected["train.loss"].squeeze(), **LOSS)
    norms = {
        name: p.grad.double().norm().item() for name, p in model.named_parameters() if p.grad is not None
    }
    assert norms.keys() == case.meta["grad_norms"].keys()
    for name, norm in case.meta["grad_norms"].items():
        torch.testing.assert_close(
            norms[name], norm, **GRADIENTS, msg=lambda text, name=name: f"{name}: {text}"
        )
    parameters, state = dict(model.named_parameters()), model.state_dict()
    for key, tensor in expected.items():
        if key.startswith("grad."):
            torch.testing.assert_close(parameters[key.removeprefix("grad.")].grad, tensor, **ACTIVATIONS)
        if key.startswith("train.after."):
            torch.testing.assert_close(state[key.removeprefix("train.after.")], tensor, **ACTIVATIONS)


def check_initial_weights(case: Case) -> None:
    """The seed gives NeMo's initial weights; the case changed only those that start as constants."""
    torch.manual_seed(case.meta["init_seed"])
    state = case.built().state_dict()
    assert list(state) == list(case.meta["state_dict_keys"])
    for key, (shape, dtype) in case.meta["state_dict_keys"].items():
        assert (list(state[key].shape), str(state[key].dtype)) == (shape, dtype), key
    drawn = [key for key in case.state if not any(part in key for part in ("norm", "pos_bias", "featurizer"))]
    assert len(drawn) > 40
    # Not to the last bit: processors without AVX2 draw normal numbers by another logarithm.
    different = [
        key for key in drawn if not torch.allclose(state[key], case.state[key], rtol=1e-5, atol=1e-6)
    ]
    assert different == []


def check_trajectory(case: Case) -> None:
    """Six AdamW steps with NeMo's masks and learning rates: losses, final weights and statistics."""
    model, expected = case.model().train(), case.tensors
    masks = iter([expected[f"traj.mask{step}"] for step in range(6)])

    def given_mask(input_feats: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        mask = next(masks)[:, None].bool().expand_as(input_feats)
        embedding = model.mask_processor.mask_embedding[None, :, None]
        return torch.where(mask, embedding, input_feats), mask.float()

    model.mask_processor.forward = given_mask
    optim = case.config.optim
    optimizer = torch.optim.AdamW(
        model.parameter_groups(optim), lr=optim.lr, betas=tuple(optim.betas), weight_decay=optim.weight_decay
    )
    for step in case.meta["traj"]:
        for group in optimizer.param_groups:
            group["lr"] = step["lr"]
        loss_sum, weight, _ = model.training_loss(case.batch())
        optimizer.zero_grad()
        (loss_sum / weight).backward()
        optimizer.step()
        torch.testing.assert_close((loss_sum / weight).item(), step["loss"], rtol=1e-5, atol=0.0)
    state = model.state_dict()
    for key, tensor in expected.items():
        if key.startswith("traj.final."):
            # The bias before a batch norm has a gradient of rounding noise, which AdamW scales to full
            # steps; it moves the running mean by as much, and nothing else.
            close = {"rtol": 0.0, "atol": 2e-3} if key.endswith("running_mean") else ACTIVATIONS
            torch.testing.assert_close(state[key.removeprefix("traj.final.")], tensor, **close)
