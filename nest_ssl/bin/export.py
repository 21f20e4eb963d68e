"""Convert a trained model, and write a model card beside it.

Examples:
  python -m nest_ssl.bin.export --to safetensors exp/small/pretrain/final.nemo exp/small/export
  python -m nest_ssl.bin.export --to encoder exp/small/pretrain encoder.nemo --license apache-2.0
  python -m nest_ssl.bin.export --to merged exp/small/lora exp/small/merged --dtype upstream

A NEST or CTC model, --to:
  nemo         the whole model as a .nemo archive, which NeMo restores strictly
  ckpt         the whole model as a .ckpt for NeMo's init_from_ptl_ckpt
  safetensors  the whole model as a directory of model.safetensors and config.yaml
  encoder      preprocessor and encoder alone, for NeMo's CTC and RNNT models (.nemo, .ckpt, folder)
  onnx         the encoder as an ONNX graph, compared with onnxruntime where that is installed

A Fun-ASR directory, --to:
  funasr       the whole model in FunASR's layout; LoRA adapters stay apart
  merged       the same with the adapters folded into the weights
  safetensors  the whole model as model.safetensors and config.yaml
  encoder      the audio encoder alone, as a directory of safetensors, or .nemo (ConformerEncoder)
  nemo         the ConformerEncoder inside, for NeMo and for pretrain and finetune_ctc here
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from nest_ssl.bin.arguments import Parser, Rare, check_exists
from nest_ssl.bin.terminal import run
from nest_ssl.checkpoints.funasr_dir import is_model_dir
from nest_ssl.checkpoints.funasr_layout import DTYPES

NEST_KINDS = ("nemo", "ckpt", "safetensors", "encoder", "onnx")  # of export_run.WRITERS
FUN_ASR_KINDS = ("funasr", "merged", "safetensors", "encoder", "nemo")  # of models/fun_asr_export
OPSET = 18  # of models/onnx_export

DETAILS = """\
MODEL is a .nemo file, a Lightning .ckpt of NeMo's, a directory of model.safetensors and config.yaml, a
training checkpoint, a run directory (its final.nemo), or bare weights (.safetensors) with --config FILE; or
a Fun-ASR directory (config.yaml with model: FunASRNano), or a run of nest_ssl.bin.finetune (its model/)."""


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    out: Path = arguments.out
    if out.exists() and not arguments.overwrite:
        raise ValueError(f"{out} exists; give --overwrite to replace it, or another name")
    check_exists(arguments.model)
    folder = fun_asr_folder(arguments.model)
    if folder is not None:
        check_fun_asr(folder, arguments)
    else:
        check_nest(arguments)

    # the words and files are right: only now torch, which takes seconds
    from nest_ssl.bin.export_run import export_fun_asr, export_nest

    return export_nest(arguments) if folder is None else export_fun_asr(folder, arguments)


def check_fun_asr(folder: Path, arguments: argparse.Namespace) -> None:
    """Raise ValueError for what a Fun-ASR directory does not take."""
    if arguments.to not in FUN_ASR_KINDS:
        raise ValueError(
            f"{folder} is a Fun-ASR directory, which --to {arguments.to} does not take; choose "
            f"{', '.join(FUN_ASR_KINDS)}"
        )
    for option in ("config", "license"):
        if getattr(arguments, option) is not None:
            raise ValueError(f"--{option} is for NEST models; {folder} is a Fun-ASR directory")


def check_nest(arguments: argparse.Namespace) -> None:
    """Raise ValueError for what a NEST or CTC model does not take."""
    for option in ("init_param", "llm_from", "dtype"):
        if getattr(arguments, option) is not None:
            raise ValueError(
                f"--{option.replace('_', '-')} is for Fun-ASR directories; {arguments.model} is none"
            )
    if arguments.to not in NEST_KINDS:
        raise ValueError(
            f"--to {arguments.to} takes a Fun-ASR directory (config.yaml with model: FunASRNano) or a run of "
            f"nest_ssl.bin.finetune; {arguments.model} is none"
        )


def fun_asr_folder(path: str | os.PathLike) -> Path | None:
    """The Fun-ASR directory that `path` is, or that a run of nest_ssl.bin.finetune left in it; else None.

    The run's own config.yaml looks like that of a model directory, and names the weights it began with.
    """
    for folder in (Path(path) / "model", Path(path)):
        if is_model_dir(folder):
            return folder
    return None


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("export", description=__doc__, details=DETAILS)
    add = parser.add_argument_group("what is written of what").add_argument
    kinds = sorted({*NEST_KINDS, *FUN_ASR_KINDS})
    add("--to", required=True, choices=kinds, metavar="KIND", help="what to write: see above")
    add("model", type=Path, metavar="MODEL", help="file or directory of the trained model")
    add("out", type=Path, metavar="OUT", help="file or directory to write")
    add("--overwrite", action="store_true", help="replace OUT if it exists")
    add("--config", type=Path, metavar="FILE", help="YAML of the model, for weights that carry none")
    add("--license", metavar="NAME", help="licence to state in the model card")
    add("--opset", type=int, default=OPSET, metavar="N", help=Rare("ONNX operator set [%(default)s]"))
    add = parser.add_argument_group("of Fun-ASR directories").add_argument
    add("--init-param", metavar="FILE", help="weights in place of the directory's")
    add("--llm-from", metavar="FILE", help="the language model where they have none")
    upstream = "[kept]; upstream: bf16 with CTC in fp32"
    add("--dtype", choices=DTYPES, help=upstream)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
