#!/usr/bin/env python3
"""Count the parameters of a model configuration, module by module, without allocating a weight.

python utils/count_parameters.py [--config FILE] [key.path=value ...]
python utils/count_parameters.py --sizes

FILE may be a Fun-ASR model directory, or the config.yaml of one: no weights are needed, only the language
model's config.json.  What is trained is what the configuration does not freeze.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nest_ssl.bin.terminal import run  # noqa: E402  (the checkout need not be installed)
from nest_ssl.checkpoints.funasr_dir import CONFIG as FUN_ASR_CONFIG  # noqa: E402
from nest_ssl.checkpoints.funasr_dir import MODEL as FUN_ASR  # noqa: E402
from nest_ssl.config import load_config, resolved  # noqa: E402
from nest_ssl.models.fun_asr_nano import FunASRNano  # noqa: E402
from nest_ssl.models.registry import model_class_of  # noqa: E402

CONFIG = ROOT / "conf" / "nest_fast-conformer.yaml"

# The sizes named in the configuration's header: what people call them, and their overrides of model.encoder.
SIZES = {
    "Small": ("14M", ["d_model=176", "n_heads=4", "n_layers=16"]),
    "Medium": ("32M", ["d_model=256", "n_heads=4", "n_layers=16"]),
    "Large": ("120M", []),
    "XLarge": ("616M", ["d_model=1024", "n_heads=8", "n_layers=24", "use_bias=false"]),
    "XXLarge": ("1.2B", ["d_model=1024", "n_heads=8", "n_layers=42", "conv_kernel_size=5", "use_bias=false"]),
}
COLUMNS = ["total", "trained", "frozen"]
NOTE = (
    "Large is quoted as 120M because NeMo's configuration rounds its sizes to nicknames (14M, 32M, 120M, "
    "616M, 1.2B): counted, it has 113.1M parameters, of which 112.96M are trained."
)


def main(argv: list[str]) -> int:
    """Print the table that `argv` asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=CONFIG, help="YAML file, or Fun-ASR directory")
    parser.add_argument(
        "--sizes", action="store_true", help="count the five sizes named in the configuration"
    )
    parser.add_argument("overrides", nargs="*", help="key.path=value, as for the other verbs")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.sizes:
        print(
            _table(
                "size", ["encoder", "decoder", *COLUMNS], _size_rows(arguments.config, arguments.overrides)
            )
        )
    else:
        counts = module_counts(arguments.config, arguments.overrides)
        rows = {**counts, "all": _sums(counts)}
        print(_table("module", COLUMNS, {name: _row(*count) for name, count in rows.items()}))
    if arguments.config == CONFIG:
        print(f"\n{NOTE}")
    return 0


def module_counts(config: Path, overrides: list[str]) -> dict[str, tuple[int, int]]:
    """Total and trained parameters of every part of the model, by its name; shared ones in one part only."""
    model = _model(config, overrides)
    parts = dict(model.named_children())
    # With mask_position post_conv the encoder holds the masking too, and pre_encoder nothing of its own.
    counted: dict[str, tuple[int, int]] = {}
    seen: set[int] = set()
    for name in sorted(parts, key=lambda name: name != "mask_processor"):
        counted[name] = parameter_counts(parts[name], seen)
        seen.update(id(p) for p in parts[name].parameters())
    return {name: counted[name] for name in parts}


def _model(config: Path, overrides: list[str]) -> torch.nn.Module:
    path = config / FUN_ASR_CONFIG if config.is_dir() else config
    found = load_config(path, overrides)
    with torch.device("meta"):
        if found.get("model") == FUN_ASR:
            return FunASRNano(resolved(found, str(path)), path.parent)
        if "model" not in found:
            raise ValueError(f"{path}: there is no key model; it names what is counted")
        return model_class_of(found.model)(found.model)


def parameter_counts(module: torch.nn.Module, seen: Collection[int] = ()) -> tuple[int, int]:
    """Total and trained parameters of a module, without those whose id was `seen`."""
    parameters = [p for p in module.parameters() if id(p) not in seen]
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def _size_rows(config: Path, overrides: list[str]) -> dict[str, list[int]]:
    rows = {}
    for name, (nickname, options) in SIZES.items():
        counts = module_counts(config, [*overrides, *(f"model.encoder.{option}" for option in options)])
        rows[f"{name} ({nickname})"] = [counts["encoder"][0], counts["decoder"][0], *_row(*_sums(counts))]
    return rows


def _sums(counts: dict[str, tuple[int, int]]) -> tuple[int, int]:
    return sum(total for total, _ in counts.values()), sum(trained for _, trained in counts.values())


def _row(total: int, trained: int) -> list[int]:
    return [total, trained, total - trained]


def _table(title: str, columns: list[str], rows: dict[str, list[int]]) -> str:
    width = max(len(name) for name in [title, *rows])
    lines = [f"{title:<{width}}" + "".join(f"{column:>16}" for column in columns)]
    lines += [
        f"{name:<{width}}" + "".join(f"{count:>16,}" for count in counts) for name, counts in rows.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
