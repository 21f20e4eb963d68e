"""Configuration: YAML files with Hydra's override grammar and a fixed table in place of `_target_`
imports."""

from __future__ import annotations

import difflib
import inspect
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


def load_config(
    path: str | Path, overrides: Sequence[str] = (), defaults: DictConfig | None = None
) -> DictConfig:
    """Read a YAML file over `defaults`, apply `overrides` in order and give it in struct mode (unknown
    keys raise).

    Raises FileNotFoundError for a missing file, ValueError for bad YAML or a bad override.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"configuration {path} does not exist")
    register_resolvers()
    try:
        config = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path}: the top level must be a mapping of keys, not {type(config).__name__}")
    if defaults is not None:
        config = OmegaConf.merge(defaults, config)  # type: ignore[assignment]
    apply_overrides(config, overrides)
    OmegaConf.set_struct(config, True)
    return config


def register_resolvers() -> None:
    """Make NeMo's arithmetic interpolations (`${multiply:a,b}`, `${sum:a,b}`) known to OmegaConf."""
    for name, function in (("multiply", operator.mul), ("sum", operator.add)):
        with warnings.catch_warnings():  # the name that 2.3 and 2.4 have in common is deprecated in 2.4
            warnings.simplefilter("ignore", UserWarning)
            OmegaConf.register_new_resolver(name, function, replace=True)


def apply_overrides(config: DictConfig, overrides: Iterable[str]) -> None:
    """Apply `key=value`, `+key=value`, `++key=value` and `~key` to `config` in place, as Hydra does.

    `key=` needs an existing key, `+key=` a new one, `++key=` takes either, `~key` removes one
    (`~key=value` only if it has that value).  Values are YAML, with OmegaConf's numbers (`1e-4` is a float).
    """
    for override in overrides:
        head, equals, text = override.partition("=")
        key = head.lstrip("+~")
        mark = head[: len(head) - len(key)]
        if not key or mark not in ("", "+", "++", "~") or (not equals and mark != "~"):
            raise ValueError(
                f"override {override!r} is not of the form key=value, +key=value, ++key=value or ~key"
            )
        exists = has_key(config, key)
        if mark == "~":
            _delete(config, key, override, exists, _value(text, override) if equals else None, bool(equals))
            continue
        if mark == "" and not exists:
            raise ValueError(
                f"override {override!r}: there is no key {key!r}{_nearest(config, key)}; write "
                f"+{key}=... to add it"
            )
        if mark == "+" and exists:
            raise ValueError(f"override {override!r}: {key!r} exists already; write {key}=... to change it")
        try:
            OmegaConf.update(config, key, _value(text, override), merge=False, force_add=True)
        except OmegaConfBaseException as error:
            raise ValueError(f"override {override!r}: {str(error).splitlines()[0]}") from error


def has_key(config: DictConfig, key: str) -> bool:
    """True if the dotted `key` is in `config`, also when its value is null, `???` or an interpolation."""
    node: Any = config
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(node, ListConfig):
            if not part.isdigit() or int(part) >= len(node):
                return False
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and not node._is_none() and part in node.keys():  # noqa: SIM118
            node = node._get_node(part)
        else:
            return False
        if isinstance(node, DictConfig | ListConfig) and node._is_interpolation():
            node = node._dereference_node()
    return True


def resolved(config: Any, name: str = "configuration") -> Any:
    """Give plain dicts and lists with every interpolation resolved; raises ValueError naming unfilled
    `???` keys."""
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        plain = None if missing else OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"{name}: {str(error).splitlines()[0]}") from error
    if missing:
        listed = ", ".join(missing)
        raise ValueError(f"{name}: these keys must be given: {listed} (for example {missing[0]}=...)")
    return plain


def build(section: Mapping[str, Any], targets: Mapping[str, Callable], name: str, **extra: Any) -> Any:
    """Call what the section's `_target_` names in the fixed table `targets`, with the section's other keys.

    `name` is the section's dotted key, for messages; `extra` arguments win over the section's.  Raises
    ValueError for a target outside the table, an unknown key or a missing one.
    """
    arguments = resolved(section, name) if isinstance(section, DictConfig) else dict(section)
    target = arguments.pop("_target_", None)
    if target is None:
        raise ValueError(f"{name} has no _target_ key, so it is not known what to build")
    if target not in targets:
        close = difflib.get_close_matches(str(target), targets, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{name}._target_: {target!r} is not one of the known names{hint}")
    arguments.update(extra)
    check_arguments(targets[target], arguments, name)
    return targets[target](**arguments)


def check_arguments(target: Callable, arguments: Mapping[str, Any], name: str) -> None:
    """Raise ValueError if `arguments` has a key that `target` does not take, or lacks one that it needs."""
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in arguments:
            if key not in parameters:
                raise ValueError(
                    f"{name}.{key}: {_name(target)} has no such option; {suggestion(key, parameters)}"
                )
    for key, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if needed and key not in arguments:
            raise ValueError(f"{name}.{key}: {_name(target)} needs this key")


def leaves(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give ("a.b.c", value) for every value of nested settings; of an empty mapping, the mapping itself."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def suggestion(key: str, known: Iterable[str]) -> str:
    """Give the end of a message about an unknown key: the known one that is nearest, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"


def _name(target: Callable) -> str:
    return getattr(target, "__name__", repr(target))


def _value(text: str, override: str) -> Any:
    if text == "":
        return ""  # Hydra reads `key=` as the empty string, YAML would read it as null
    if text[0] not in "[{\"'" and (" #" in text or ": " in text):
        return text  # a path or a sentence: YAML would take a comment or a mapping for it
    try:
        parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"override {override!r}: the value is not readable as YAML: {error}") from error
    if text[0] in "[{" and _has_glued_colon(parsed["value"]):
        raise ValueError(f"override {override!r}: a blank must follow each colon, as in {{key: value}}")
    return parsed["value"]


def _has_glued_colon(value: Any) -> bool:
    """True for {key:value}, a pair to Hydra, but to YAML one key that has no value."""
    if isinstance(value, list):
        return any(map(_has_glued_colon, value))
    return isinstance(value, dict) and any(
        (":" in str(key) and inner is None) or _has_glued_colon(inner) for key, inner in value.items()
    )


def _delete(
    config: DictConfig, key: str, override: str, exists: bool, value: Any, only_if_equal: bool
) -> None:
    if not exists:
        raise ValueError(f"override {override!r}: there is no key {key!r} to remove{_nearest(config, key)}")
    parent_key, _, last = key.rpartition(".")
    parent = OmegaConf.select(config, parent_key) if parent_key else config
    current: Any = OmegaConf.to_container(parent, resolve=False)
    if only_if_equal and current[last] != value:
        raise ValueError(f"override {override!r}: {key!r} has another value, so it was not removed")
    struct = OmegaConf.is_struct(parent)
    OmegaConf.set_struct(parent, False)
    del parent[last]
    OmegaConf.set_struct(parent, struct)


def _nearest(config: DictConfig, key: str) -> str:
    close = difflib.get_close_matches(key, list(_dotted_keys(config, "")), n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def _dotted_keys(node: Any, prefix: str) -> Iterable[str]:
    if (
        isinstance(node, DictConfig)
        and not node._is_none()
        and not node._is_interpolation()
        and not node._is_missing()
    ):
        for key in map(str, node):
            yield f"{prefix}{key}"
            yield from _dotted_keys(node._get_node(key), f"{prefix}{key}.")
