"""How verbs take their options: a parser whose --help fits a screen, and types that several verbs share."""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:  # verbs that take files alone start without it
    import torch

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, with conf/
WIDEST = 100  # columns of a help screen, also on a wider terminal
HELP_COLUMN = 28  # where the explanations of the options start


class Rare(str):
    """The help of an option that --help leaves out and --help-all shows: `help=Rare("...")`."""


class Parser(argparse.ArgumentParser):
    """A parser whose --help fits a screen, and whose errors say the option that was meant.

    `description` is a verb's docstring: paragraphs are filled to the terminal's width, indented lines stay as
    they are.  Options with a `Rare` help, and the text `details`, are shown by --help-all alone.  The usage
    line names what must be given; an option takes one line, so keep helps under 70 characters.
    """

    def __init__(self, verb: str = "", *, details: str = "", **options: Any):
        options.setdefault("prog", f"python -m nest_ssl.bin.{verb}")
        super().__init__(formatter_class=Screen, add_help=False, **options)
        self.details = details
        self._given: list[str] = []
        self._positionals.title = "words"
        self.add_argument("-h", "--help", action=_Show, help=argparse.SUPPRESS)
        self.add_argument("--help-all", action=_Show, help=argparse.SUPPRESS)

    def format_help(self, everything: bool = False) -> str:
        """The help screen; with `everything`, rare options and the details as well."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        left_out = 0
        for group in self._action_groups:
            rare = [action for action in group._group_actions if isinstance(action.help, Rare)]
            shown = [action for action in group._group_actions if everything or action not in rare]
            left_out += len(group._group_actions) - len(shown)
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(shown)
            formatter.end_section()
        if everything:
            formatter.add_text(self.details)
        formatter.add_text(self.epilog)
        more = [f"{left_out} more option{'s' * (left_out > 1)}"] if left_out else []
        more += ["details"] if self.details else []
        if more and not everything:
            formatter.add_text(f"--help-all shows {' and '.join(more)}.")
        return formatter.format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; the words are kept for the message of a mistyped option."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End with status 2, the message, the option that was meant, and the way out."""
        self.print_usage(sys.stderr)
        verb = self.prog.rpartition(".")[2]
        self.exit(2, f"{verb}: error: {message}{self._hint(message)}\n(--help shows the options)\n")

    def _hint(self, message: str) -> str:
        """What the first unknown option was meant to be, best of those that the message misses."""
        known = [word for word in self._option_string_actions if word.startswith("--")]
        words = [word.partition("=")[0] for word in self._given if word.startswith("--")]
        unknown = [word for word in words if not any(each.startswith(word) for each in known)]
        for word in unknown[:1]:
            missed = [each for each in known if re.search(rf"{each}(?![-\w])", message)]
            near = difflib.get_close_matches(word, missed, 1) or difflib.get_close_matches(word, known, 1)
            return f"; {word} is unknown" + "".join(f", did you mean {each}?" for each in near)
        return ""


class Screen(argparse.HelpFormatter):
    """Prose filled to the width, indented lines as they are; a usage line without the optional options."""

    def __init__(self, prog: str):
        width = min(shutil.get_terminal_size().columns, WIDEST) - 2
        super().__init__(prog, max_help_position=HELP_COLUMN, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for is_kept, found in groupby(text.strip().splitlines(), lambda line: line[:1] in ("", " ")):
            block = list(found)
            prose = " ".join(" ".join(block).split())
            lines += block if is_kept else textwrap.wrap(prose, width, break_on_hyphens=False)
        return "\n".join(lines)

    def _format_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Any, prefix: str | None
    ) -> str:
        if usage is not None:
            return f"{prefix or 'usage: '}{usage % {'prog': self._prog}}\n\n"
        needed, rest = [], []
        for action in actions:
            if action.option_strings and action.required:
                metavar = self._get_default_metavar_for_optional(action)
                needed.append(f"{action.option_strings[-1]} {self._format_args(action, metavar)}")
            elif not action.option_strings:
                rest.append(self._format_args(action, self._get_default_metavar_for_positional(action)))
        return f"{prefix or 'usage: '}{' '.join([self._prog, *needed, '[options]', *rest])}\n\n"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """`--manifest FILE`; a second spelling of an option goes without its value."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        """`FILE...` where argparse has `FILE [FILE ...]`."""
        if action.nargs in (argparse.ONE_OR_MORE, argparse.ZERO_OR_MORE):
            (name,) = self._metavar_formatter(action, default_metavar)(1)
            return f"{name}..." if action.nargs == argparse.ONE_OR_MORE else f"[{name}...]"
        return super()._format_args(action, default_metavar)


class _Show(argparse.Action):
    """Print the help and end."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(
            option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(parser, Parser)
        print(parser.format_help(everything=option_string == "--help-all"), end="")
        parser.exit()


def device(text: str) -> str:
    """The name of a device that is there: cpu, cuda, cuda:1, mps."""
    if text == "cpu":
        return text  # sure without torch
    import torch

    try:
        torch.empty(0, device=torch.device(text))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be used ({reason}); take cpu, or cuda where there is a GPU"
        ) from error
    return text


def chosen_device(name: str | None) -> torch.device:
    """The device of that name; without one a GPU if there is one."""
    import torch

    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def check_exists(path: Path) -> None:
    """Raise FileNotFoundError for a file or folder that is not there."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")


def channel(text: str) -> int | str:
    if text != "average" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor average")
    return int(text) if text.isdigit() else text


def output_file(text: str) -> Path:
    """A file to be written; refused now, not when the work is done, if it is a folder."""
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file in it")
    return Path(text)
