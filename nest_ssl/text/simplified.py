"""Traditional Chinese characters as simplified ones, by OpenCC (optional)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache


def to_simplified(text: str) -> str:
    """Give the text in simplified characters; ModuleNotFoundError where OpenCC is not installed."""
    return _converter()(text)


@lru_cache(maxsize=1)
def _converter() -> Callable[[str], str]:
    try:
        import opencc
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the scoring rule 'simplified' (電話 counts as 电话) needs OpenCC, which is not installed: "
            'pip install -e ".[chinese]" -c constraints.txt, or switch the rule off'
        ) from error
    convert: Callable[[str], str] = opencc.OpenCC("t2s").convert
    return convert
