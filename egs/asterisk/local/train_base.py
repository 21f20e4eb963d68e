"""Train the small stand-in for a released checkpoint on wideband prompts, in three parts.

1 ctc: the encoder learns by CTC alone, from a NEST model or from random weights.  2 heads: adaptor, language
model and CTC branch learn on that encoder, which rests: the gradients of their random weights would undo what
it knows.  3 base: everything together, at a lower rate.  An encoder that CTC training does not know (SANM)
goes through part 3 alone, with the steps of all.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from finetune_pair import begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument(
        "--conf", type=Path, required=True, help="folder of model.yaml, base_heads.yaml, base.yaml"
    )
    parser.add_argument("--ctc-conf", required=True, help="YAML of finetune_ctc")
    parser.add_argument("--train", required=True)
    parser.add_argument("--valid", required=True)
    parser.add_argument("--encoder", choices=("conformer", "sanm"), required=True)
    parser.add_argument("--start", choices=("nest", "random"), required=True)
    parser.add_argument("--steps", nargs=3, type=int, required=True, metavar=("CTC", "HEADS", "ALL"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--accelerator", required=True)
    parser.add_argument("settings", nargs="*", metavar="++KEY=VALUE", help="of parts 2 and 3")
    arguments = parser.parse_intermixed_args()
    exp, seed = arguments.exp, arguments.seed
    trainer = [f"++seed={seed}", f"++train_conf.accelerator={arguments.accelerator}"]
    trainer += [f"++train_conf.devices={arguments.devices}", *arguments.settings]
    rows = ["--train", arguments.train, "--valid", arguments.valid]
    new = ["--config", arguments.conf / "model.yaml", "--seed", seed, "--texts", arguments.train]
    new += ["--encoder", arguments.encoder, "--out", exp / "init"]
    everything = ["--part", "all", "--config", arguments.conf / "base.yaml"]
    if arguments.encoder != "conformer":
        print(f"the encoder ({arguments.encoder}) starts from random weights")
        made_from = [arguments.conf / "model.yaml", arguments.conf / "base.yaml", arguments.train]
        begin(exp / "base", told([*new, *everything, *rows, arguments.steps, *trainer]), made_from)
        verb("init_model", *new, "--force")
        steps = f"++train_conf.max_steps={sum(arguments.steps)}"
        verb("finetune", *everything, "--model", exp / "init", *rows, "--out", exp / "base", steps, *trainer)
        return
    learn_ctc(arguments)
    print(f"the encoder started from {'the NEST model' if arguments.start == 'nest' else 'random weights'}")
    heads = ["--config", arguments.conf / "base_heads.yaml", "--model", exp / "init", *rows]
    made_from = [
        arguments.conf / "model.yaml",
        arguments.conf / "base_heads.yaml",
        exp / "ctc" / "final.nemo",
    ]
    begin(exp / "heads", told([*new, *heads, *trainer, arguments.steps]), [*made_from, arguments.train])
    if not (exp / "heads" / "train.log").is_file():
        verb("init_model", *new, "--encoder-from", exp / "ctc" / "final.nemo", "--force")
    heads += ["--out", exp / "heads", f"++train_conf.max_steps={arguments.steps[1]}"]
    verb("finetune", *heads, *trainer)
    if not arguments.steps[2]:
        shutil.copytree(exp / "heads", exp / "base", dirs_exist_ok=True)
        return
    everything += ["--model", exp / "heads" / "model", *rows, "--out", exp / "base"]
    made_from = [arguments.conf / "base.yaml", exp / "heads" / "model" / "model.pt", arguments.train]
    begin(exp / "base", told([*everything, *trainer, arguments.steps]), made_from)
    verb("finetune", *everything, f"++train_conf.max_steps={arguments.steps[2]}", *trainer)


def learn_ctc(arguments: argparse.Namespace) -> None:
    """Part 1.  A NEST model takes a higher rate than random weights do: see RESULTS.md."""
    exp, nest = arguments.exp, arguments.start == "nest"
    verb("tokenizer", "--manifest", arguments.train, "--kind", "char", "--out", exp / "tokenizer")
    settings = [
        f"exp_manager.explicit_log_dir={exp / 'ctc'}",
        f"{'init_from_nemo_model' if nest else 'init_config_from'}={exp / 'pretrain' / 'final.nemo'}",
        f"model.tokenizer.dir={exp / 'tokenizer'}",
        f"model.train_ds.manifest_filepath={arguments.train}",
        f"model.validation_ds.manifest_filepath={arguments.valid}",
        f"model.train_ds.batch_duration={20 / max(1, arguments.devices):g}",
        f"trainer.max_steps={arguments.steps[0]}",
        "trainer.num_sanity_val_steps=-1",
        "trainer.val_check_interval=100",
        f"trainer.seed={arguments.seed}",
        f"trainer.devices={arguments.devices}",
        f"trainer.accelerator={arguments.accelerator}",
        *(["model.optim.lr=4e-3"] if nest else []),
    ]
    begin(exp / "ctc", settings, [arguments.ctc_conf, exp / "pretrain" / "final.nemo", arguments.train])
    verb("finetune_ctc", "--config", arguments.ctc_conf, *settings)


def told(words: list) -> list[str]:
    return [str(word) for word in words]


def verb(name: str, *words: object) -> None:
    """Run a verb; ends this program with its status if that is not 0."""
    done = subprocess.run([sys.executable, "-m", f"nest_ssl.bin.{name}", *map(str, words)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
