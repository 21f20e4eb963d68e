"""Transcribe with Fun-ASR-Nano: by its language model, its CTC branch, or both.

Examples:
  python -m nest_ssl.bin.decode --model exp/lora/model call.wav
  python -m nest_ssl.bin.decode --model exp/lora/model --manifest test.jsonl --out hyp.jsonl \\
      --tune-on dev.jsonl --weight-out weights.json

The same command again goes on where a run was stopped; other settings are refused without --fresh.  A file
that cannot be decoded gets a row with "error" and stops nothing.  Exit status: 0 where every row has its
text, 3 where single rows have "error" instead, 1 where no row could be decoded.
"""

from __future__ import annotations

from nest_ssl.bin.decode_options import parse, prompt_options, refuse_unread_words
from nest_ssl.bin.terminal import run
from nest_ssl.checkpoints.funasr_dir import read_model_dir
from nest_ssl.decoding.fun_asr_items import items_of_files, items_of_rows


def main(argv: list[str]) -> int:
    arguments = parse(argv, __doc__)
    directory = read_model_dir(arguments.model, arguments.overrides, arguments.init_param)
    refuse_unread_words(arguments.overrides, directory)
    prompts = prompt_options(arguments, directory.config)
    selector = arguments.channel_selector
    rows = arguments.manifest or arguments.messages or []
    items = (
        items_of_rows(rows, prompts, selector) if rows else items_of_files(arguments.files, prompts, selector)
    )
    dev = items_of_rows(arguments.tune_on, prompts, selector) if arguments.tune_on else []

    # the words and files are right: only now torch, which takes seconds
    from nest_ssl.bin.decode_run import decode_all

    return decode_all(arguments, directory, prompts, items, dev)


if __name__ == "__main__":
    run(main)
