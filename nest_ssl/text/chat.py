"""What stands around audio and text when Fun-ASR-Nano's language model reads them."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_SYSTEM = "You are a helpful assistant."  # FunASR's own where a line has none
START, END = "<|startofspeech|>", "<|endofspeech|>"  # around !PATH; they never reach the tokenizer
TURN_END = "<|im_end|>"
NO_THOUGHT = "<think>\n\n</think>\n\n"  # FunASR appends it to the prompt where do_think is false
# What FunASR-Nano puts before the prompt at inference, when hot words are given.
HOTWORD_HEADER = (
    "请结合上下文信息，更加准确地完成语音转写任务。如果没有相关信息，我们会留空。\n\n\n**上下文信息：**\n\n\n"
    "热词列表：[{words}]\n"
)


def inference_prompt(hotwords: Sequence[str] = (), language: str | None = None, itn: bool = True) -> str:
    """Give what the user says before the audio, as FunASR does at inference.

    hotwords: words to expect.  language: its name as the prompt has it, such as 中文; None leaves it open.
    itn: False asks for numbers as they are spoken.
    """
    header = HOTWORD_HEADER.format(words=", ".join(hotwords)) if hotwords else ""
    into = f"成{language}" if language is not None else ""
    return f"{header}语音转写{into}{'' if itn else '，不进行文本规整'}："


def source_pieces(system: str | None, user: str, first: bool = True, think: bool = True) -> tuple[str, str]:
    """Give the text before and after the audio of a turn, as FunASR tokenizes it piece by piece.

    system: None leaves the system's turn away, and so does `first` false.  think: False appends an empty
    thought, what FunASR's do_think false means.
    """
    before, _, rest = user.partition(START)
    after = rest.partition(END)[2]
    head = f"<|im_start|>system\n{system}{TURN_END}\n" if first and system is not None else ""
    tail = "" if think else NO_THOUGHT
    return f"{head}<|im_start|>user\n{before}", f"{after}{TURN_END}\n<|im_start|>assistant\n{tail}"
