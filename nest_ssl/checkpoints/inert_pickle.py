"""Pickles read as data: an interpreter of the format that imports nothing and calls nothing a file names.

Python's own unpickler runs what a file asks for.  Here a class or function is only a `Name`; making an
object of one gives a `Record` of its arguments, unless the name is in the caller's table of constructors.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; it is not looked up."""

    dotted: str


@dataclass(eq=False)
class Record:
    """What a pickle says of an object of unknown class: constructor arguments, state, elements."""

    kind: str
    arguments: tuple = ()
    state: Any = None
    items: list = field(default_factory=list)
    pairs: dict = field(default_factory=dict)


Constructor = Callable[..., Any]


def _plain_dict(*arguments: Any) -> dict:
    return dict(arguments[0]) if arguments and isinstance(arguments[0], list | dict) else {}


def _latin1(text: Any, codec: Any = "latin1") -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise ValueError(f"bytes encoded by {codec!r}")
    return text.encode("latin1")


# Containers of Python; a defaultdict loses its factory, which is a Name.
CONTAINERS: dict[str, Constructor] = {
    "collections.OrderedDict": _plain_dict,
    "collections.defaultdict": lambda *arguments: {},
    "builtins.dict": _plain_dict,
    "builtins.list": lambda *arguments: list(*arguments),
    "builtins.tuple": lambda *arguments: tuple(*arguments),
    "builtins.set": lambda *arguments: set(*arguments),
    "builtins.frozenset": lambda *arguments: frozenset(*arguments),
    "builtins.bytes": lambda *arguments: bytes(list(*arguments)),  # not bytes(NUMBER): so many zeros
    "_codecs.encode": _latin1,
}

# Nothing that a checkpoint has a use for, and what pickles made to harm call.  It would not be run, but a
# file with such a call is nobody's trained model.
# Modules, and single functions.
HARMFUL = frozenset({
    "os", "posix", "nt", "subprocess", "pty", "socket", "shutil", "sys", "runpy", "importlib", "ctypes",
    "code", "commands", "webbrowser", "builtins.eval", "builtins.exec", "builtins.compile", "builtins.open",
    "builtins.__import__", "builtins.breakpoint", "builtins.input",
})  # fmt: skip

_MARK = object()

_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_FROM_MARK: dict[str, Callable[[list], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "FROZENSET": frozenset,
    "DICT": lambda values: dict(_pairs(values)),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(
    content: bytes,
    constructors: Mapping[str, Constructor] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The object of a pickle, protocols 0 to 5, in plain containers, numbers, text, `Record`s and `Name`s.

    `constructors` maps dotted names to functions that may be called with what the file gives; CONTAINERS are
    always there.  `persistent` gives the object of a persistent id.  Raises ValueError for anything that is
    no complete pickle.
    """
    try:
        return _Machine({**CONTAINERS, **(constructors or {})}, persistent).run(content)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
        raise ValueError(f"not a sound pickle: {type(error).__name__}: {error}") from error


class _Machine:
    def __init__(self, constructors: Mapping[str, Constructor], persistent: Callable[[Any], Any] | None):
        self.constructors = constructors
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        for operation, argument, _ in pickletools.genops(content):
            name = operation.name
            if name == "STOP":
                (result,) = self._top(1)
                if result is _MARK:
                    raise ValueError("a pickle of nothing")
                return result
            if name in _PUSHED:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _FROM_MARK:
                self.stack.append(_FROM_MARK[name](self._marked()))
            elif name in _TUPLES:
                self.stack[-_TUPLES[name] :] = [tuple(self._top(_TUPLES[name]))]
            else:
                self._step(name, argument)
        raise ValueError("a pickle without an end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._marked()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[int(argument)] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[int(argument)])
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._marked())
            case "SETITEM":
                self._update([stack.pop(-2), stack.pop()])
            case "SETITEMS":
                self._update(self._marked())
            case "GLOBAL":
                stack.append(_name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_name(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, kind = stack.pop(), stack.pop()
                stack.append(self._made(kind, arguments))
            case "NEWOBJ_EX":
                named, arguments, kind = stack.pop(), stack.pop(), stack.pop()
                stack.append(Record(_called(kind), tuple(arguments), state=named))
            case "OBJ":
                kind, *arguments = self._marked()
                stack.append(self._made(kind, tuple(arguments)))
            case "INST":
                stack.append(self._made(_name(*argument.split(" ", 1)), tuple(self._marked())))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Record):  # attributes of a plain container say nothing we need
                    stack[-1].state = state
            case "PERSID" | "BINPERSID":
                if self.persistent is None:
                    raise ValueError("a persistent id where there can be none")
                stack.append(self.persistent(argument if name == "PERSID" else stack.pop()))
            case _:
                raise ValueError(f"the pickle instruction {name} is not supported")

    def _made(self, kind: Any, arguments: Any) -> Any:
        arguments = tuple(arguments)
        dotted = _called(kind)
        if dotted == "copyreg._reconstructor":  # how protocols 0 and 1 make an object of a class
            return Record(_dotted(arguments[0]))
        constructor = self.constructors.get(dotted)
        return constructor(*arguments) if constructor else Record(dotted, arguments)

    def _top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("a pickle that takes more than it gave")
        return self.stack[-count:]

    def _marked(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items.extend(values)
        elif isinstance(target, set):
            target.update(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise ValueError(f"elements for a {type(target).__name__}")

    def _update(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Record | dict):
            raise ValueError(f"keys for a {type(target).__name__}")
        (target.pairs if isinstance(target, Record) else target).update(_pairs(values))


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _name(module: Any, attribute: Any) -> Name:
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    return Name(f"{module}.{attribute}")


def _called(kind: Any) -> str:
    """The name of what makes an object; ValueError for one that a checkpoint has no use for."""
    dotted = _dotted(kind)
    if dotted in HARMFUL or dotted.split(".")[0] in HARMFUL:
        raise ValueError(f"it would have {dotted} called: the file is made to harm")
    return dotted


def _dotted(kind: Any) -> str:
    if not isinstance(kind, Name):
        raise ValueError(f"an object made by a {type(kind).__name__}, not by a class or function")
    return kind.dotted
