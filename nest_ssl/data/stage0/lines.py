"""Step 6: FunASR-Nano's messages lines of the rows whose audio is ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nest_ssl.data.messages import to_messages
from nest_ssl.data.prompts import PromptSettings
from nest_ssl.data.stage0.rows import rows_in, sorter
from nest_ssl.text.llm_tokenizer import LlmTokenizer


def write_messages(
    manifest: Path,
    out: Path,
    dropped: Path,
    prompt: PromptSettings,
    tokenizer: LlmTokenizer,
    advance: Callable[[int], Any],
) -> None:
    """Write the messages file `out` of a manifest, and the rows that cannot be one to `dropped`."""
    with sorter("messages", out, dropped) as files:
        for row in rows_in(manifest):
            try:
                line = to_messages(row, prompt, tokenizer, manifest)
            except ValueError as error:
                files.drop(row, ["not_a_messages_line"], [str(error)])
            else:
                files.keep(line)
            advance(1)
