"""Programs: one verb per module, called as `python -m nest_ssl.bin.VERB`.

VERB.py has the words and looks whether the files are there, without torch; what a model is needed for is in
VERB_run.py, which `main` imports after that.
"""

import os
import sys
from types import TracebackType


def _hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Ctrl-C while a verb is still importing ends in one word, as it does later (terminal.run)."""
    if issubclass(kind, KeyboardInterrupt) and not os.environ.get("NEST_TRACEBACK"):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


# `python -m` imports this package with argv[0] "-m", before the verb; imported otherwise it has no effect.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _hook
