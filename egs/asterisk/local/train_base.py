"""Train the small stand-in for a released checkpoint on wideband prompts, in three parts.

1 ctc: the encoder learns by CTC alone, from a NEST model or from random weights.  2 heads: adaptor, language
model and CTC branch learn on that encoder, which rests: the gradients of their random weights would undo what
it knows.  3 base: everything together, at a lower rate; with 0 steps, part 2 is the base.  An encoder that
CTC training does not know (SANM) goes through part 3 alone, with the steps of all.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from verbs import begin, run_verb


def main() -> None:
    arguments = parse()
    if arguments.encoder != "conformer":
        print(f"the encoder ({arguments.encoder}) starts from random weights")
        learn_at_once(arguments)
        return
    learn_ctc(arguments)
    print(f"the encoder started from {'the NEST model' if arguments.start == 'nest' else 'random weights'}")
    learn_heads(arguments)
    learn_everything(arguments)


def learn_ctc(arguments: argparse.Namespace) -> None:
    """Part 1.  A NEST model takes a higher rate than random weights do: see RESULTS.md."""
    exp, nest = arguments.exp, arguments.start == "nest"
    pretrained = exp / "pretrain" / "final.nemo"
    run_verb("tokenizer", "--manifest", arguments.train, "--kind", "char", "--out", exp / "tokenizer")
    settings = [
        f"exp_manager.explicit_log_dir={exp / 'ctc'}",
        f"{'init_from_nemo_model' if nest else 'init_config_from'}={pretrained}",
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
    begin(exp / "ctc", settings, [arguments.ctc_conf, pretrained, arguments.train])
    run_verb("finetune_ctc", "--config", arguments.ctc_conf, *settings)


def learn_heads(arguments: argparse.Namespace) -> None:
    """Part 2."""
    exp, config, encoder = arguments.exp, arguments.conf / "base_heads.yaml", arguments.exp / "ctc/final.nemo"
    new, trainer = new_model(arguments), trainer_settings(arguments)
    words = ["--config", config, "--model", exp / "init", *rows(arguments)]
    made_from = [arguments.conf / "model.yaml", config, encoder, arguments.train]
    begin(exp / "heads", [*new, *words, *trainer, arguments.steps], made_from)
    if not (exp / "heads" / "train.log").is_file():  # else the training goes on
        run_verb("init_model", *new, "--encoder-from", encoder, "--force")
    run_verb("finetune", *words, "--out", exp / "heads", max_steps(arguments.steps[1]), *trainer)


def learn_everything(arguments: argparse.Namespace) -> None:
    """Part 3."""
    exp, config, start = arguments.exp, arguments.conf / "base.yaml", arguments.exp / "heads" / "model"
    if not arguments.steps[2]:
        if (exp / "base").is_dir():  # of a run with steps, or a copy that was interrupted
            shutil.rmtree(exp / "base")
        shutil.copytree(exp / "heads", exp / "base")
        return
    trainer = trainer_settings(arguments)
    words = ["--part", "all", "--config", config, "--model", start, *rows(arguments), "--out", exp / "base"]
    begin(exp / "base", [*words, *trainer, arguments.steps], [config, start / "model.pt", arguments.train])
    run_verb("finetune", *words, max_steps(arguments.steps[2]), *trainer)


def learn_at_once(arguments: argparse.Namespace) -> None:
    """Part 3 alone, from random weights."""
    exp, model, config = arguments.exp, arguments.conf / "model.yaml", arguments.conf / "base.yaml"
    new, trainer = new_model(arguments), trainer_settings(arguments)
    words = ["--part", "all", "--config", config]
    begin(
        exp / "base",
        [*new, *words, *rows(arguments), arguments.steps, *trainer],
        [model, config, arguments.train],
    )
    run_verb("init_model", *new, "--force")
    words += ["--model", exp / "init", *rows(arguments), "--out", exp / "base"]
    run_verb("finetune", *words, max_steps(sum(arguments.steps)), *trainer)


def new_model(arguments: argparse.Namespace) -> list[object]:
    """The words that make the model with random weights."""
    words = ["--config", arguments.conf / "model.yaml", "--seed", arguments.seed, "--texts", arguments.train]
    return [*words, "--encoder", arguments.encoder, "--out", arguments.exp / "init"]


def rows(arguments: argparse.Namespace) -> list[str]:
    return ["--train", arguments.train, "--valid", arguments.valid]


def trainer_settings(arguments: argparse.Namespace) -> list[str]:
    """Settings of parts 2 and 3."""
    return [
        f"++seed={arguments.seed}",
        f"++train_conf.accelerator={arguments.accelerator}",
        f"++train_conf.devices={arguments.devices}",
        *arguments.settings,
    ]


def max_steps(steps: int) -> str:
    return f"++train_conf.max_steps={steps}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="folder of the experiment")
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
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    main()
