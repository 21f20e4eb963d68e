"""The two models of one directory, and the same rows collated by either side."""

from __future__ import annotations

import contextlib
import io
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nest_ssl.data.fun_asr_data import DataFacts, fun_asr_data
from nest_ssl.models.fun_asr_nano import FunASRNano

# Of both sides: nothing random, and no limit that one of them applies otherwise.
SETTINGS = {
    "frontend_conf": {"dither": 0.0},
    "dataset_conf": {"prompt_classes": None, "use_dynamic_output_ratio": 0.0, "num_workers": 0},
}


class FunASRMissing(Exception):
    """FunASR, or something that it needs, cannot be imported."""


class Peers:
    """`theirs` and `ours` are the models, in evaluation mode; batches are made when they are asked for."""

    def __init__(self, model: Path, data: Path, rows: int) -> None:
        self.data = data
        try:
            with quiet():
                import funasr
                from funasr import AutoModel
                from funasr.register import tables
        except ImportError as error:
            raise FunASRMissing(
                f"FunASR cannot be imported ({error}); run this with the Python of an environment that has "
                "it (pip install funasr)"
            ) from error
        if tables.encoder_classes.get("SenseVoiceEncoderSmall") is None:
            raise FunASRMissing(
                "FunASR is there, but not all that it needs: it leaves out what it cannot import (try "
                "`import funasr.models.sense_voice.model` to see which package is missing)"
            )
        logging.disable(logging.WARNING)
        self.version = str(getattr(funasr, "__version__", "?"))
        torch.manual_seed(0)
        with quiet():
            self.auto: Any = AutoModel(
                model=str(model), device="cpu", disable_update=True, disable_pbar=True, ncpu=1, **SETTINGS
            )
        self.theirs: Any = self.auto.model
        self.ours: Any = FunASRNano.from_pretrained(model, overrides=SETTINGS)
        self.dataset = self._dataset(tables)
        self.count = min(rows, len(self.dataset))

    def told(self) -> str:
        """One line: versions and what is compared."""
        return (
            f"FunASR {self.version}, torch {torch.__version__}, threads {torch.get_num_threads()}, "
            f"{self.count} rows of {self.data}"
        )

    def _dataset(self, tables: Any) -> Any:
        section = dict(self.auto.kwargs["dataset_conf"])
        section |= {"batch_size_token_max": 10**9, "is_training": True}
        with quiet():
            return tables.dataset_classes["FunASR"](
                str(self.data),
                frontend=self.auto.kwargs["frontend"],
                tokenizer=self.auto.kwargs["tokenizer"],
                **section,
            )

    @cached_property
    def keys(self) -> list[str]:
        """The rows compared, as FunASR names them."""
        return [str(self.dataset.index_ds[number].get("key")) for number in range(self.count)]

    @cached_property
    def their_batch(self) -> dict[str, Tensor]:
        """The rows by FunASR's dataset and collator."""
        with quiet():
            batch = self.dataset.collator([self.dataset[number] for number in range(self.count)])
        return {key: value for key, value in batch.items() if isinstance(value, Tensor)}

    @cached_property
    def our_batch(self) -> dict[str, Tensor]:
        """The same rows by ours; ValueError where ours leaves one out."""
        from nest_ssl.data.fun_asr_batch import collate

        model = self.ours
        facts = DataFacts(
            model.tokenizer, model.ctc_tokenizer, model.frontend, model.frames_of, model.llm_tokens_of
        )
        config = {**model.config, "valid_data_set_list": str(self.data)}
        dataset = fun_asr_data(config, facts, "valid").dataset
        places = {dataset.corpus[number].utterance_id: number for number in range(len(dataset))}
        lost = [key for key in self.keys if key not in places]
        if lost:
            raise ValueError(f"{self.data}: row {lost[0]} is in FunASR's data set and not in ours")
        return collate([dataset[places[key]] for key in self.keys]).tensors


@contextlib.contextmanager
def quiet() -> Any:
    """FunASR prints a good deal; what it prints is of no interest here."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
