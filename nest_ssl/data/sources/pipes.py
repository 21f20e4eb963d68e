"""Commands in wav.scp ("sph2pipe -f wav a.sph |"), run without a shell and only where that was allowed."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

SIGPIPE = 13  # how a program ends whose reader needs no more
SHOWN_CHARACTERS = 300


def split_pipe(command: str) -> list[list[str]]:
    """Give the words of each program of "a x | b y |"; ValueError for what only a shell understands."""
    lexer = shlex.shlex(command.strip(), posix=True, punctuation_chars="|<>;&()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ValueError(f"the command cannot be split into words ({error}): {command}") from error
    if not words or words[-1] != "|":
        raise ValueError(f"the command does not end with a single '|': {command}")
    programs: list[list[str]] = [[]]
    for word in words[:-1]:
        if word == "|":
            programs.append([])
        elif set(word) <= set("|<>;&()") or "$(" in word or "`" in word or word.startswith("$"):
            raise ValueError(
                f"{word!r} needs a shell, and commands run without one; write programs, arguments and '|' "
                f"only, or decode the audio first: {command}"
            )
        else:
            programs[-1].append(word)
    if not all(programs):
        raise ValueError(f"there is no program between two '|': {command}")
    return programs


def run_pipe(command: str) -> bytes:
    """Run the programs of a command, each reading what the one before prints; gives what the last prints.

    Raises ValueError with the program's own words if one is missing or fails, or if nothing is printed.
    """
    programs = split_pipe(command)
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile() as complaints:
        try:
            for words in programs:
                source = running[-1].stdout if running else subprocess.DEVNULL
                try:
                    process = subprocess.Popen(words, stdin=source, stdout=subprocess.PIPE, stderr=complaints)
                except OSError as error:
                    raise ValueError(
                        f"{words[0]} cannot be run ({error.strerror}){_advice(words[0])}"
                    ) from error
                if running and running[-1].stdout is not None:
                    running[-1].stdout.close()  # the programs alone hold the pipe between them
                running.append(process)
            last = running[-1].stdout
            assert last is not None
            content = last.read()
            last.close()
            statuses = [process.wait() for process in running]
        except BaseException:
            for process in running:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
            raise
        for words, status, is_last in zip(
            programs, statuses, [False] * (len(statuses) - 1) + [True], strict=True
        ):
            if status != 0 and (is_last or status != -SIGPIPE):
                complaints.seek(0)
                said = complaints.read().decode("utf-8", "replace").strip()[-SHOWN_CHARACTERS:]
                raise ValueError(f"{words[0]} ended with status {status}: {said or 'it printed no message'}")
    if not content:
        raise ValueError(f"the command printed no audio: {command}")
    return with_true_sizes(content)


def pipe_origin(command: str) -> str:
    """Give what stands for the audio of a command: its words, and where its relative paths start."""
    return f"{Path.cwd()}\n{command}"


def with_true_sizes(content: bytes) -> bytes:
    """Give a wav whose header states the sizes it has: programs that print into a pipe do not know them."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return content
    position = 12
    while position + 8 <= len(content):
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        if content[position : position + 4] == b"data":
            present = len(content) - position - 8
            if length in (0, present) or length > present:
                sizes = (len(content) - 8).to_bytes(4, "little"), present.to_bytes(4, "little")
                return content[:4] + sizes[0] + content[8 : position + 4] + sizes[1] + content[position + 8 :]
            return content
        position += 8 + length + length % 2
    return content


def _advice(program: str) -> str:
    if program.rsplit("/", maxsplit=1)[-1] == "sph2pipe":
        return "; SPHERE files are read here directly: name the .sph file in wav.scp, without a command"
    return "; install it, or decode the audio first"
