"""YAML of an archive: plain values only, and no more of them than the text has."""

from __future__ import annotations

from typing import Any

import yaml
from omegaconf import OmegaConf

MAX_DEPTH = 100
OPENING = (
    *(yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken),
    *(yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken),
)
CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def read_plain_yaml(content: bytes, name: str) -> dict[str, Any]:
    """The mapping in `content`, with OmegaConf's numbers (1e-05 is one, as in NeMo).

    Raises ValueError with `name` for bad YAML, tags that ask for Python objects, and anchors: OmegaConf
    writes none, and a short text with them can stand for gigabytes.
    """
    try:
        depth = 0
        for token in yaml.scan(content, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                raise ValueError(f"{name} has YAML aliases, which no configuration written by NeMo has")
            depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
            if depth > MAX_DEPTH:  # scanning takes time by the square of it
                raise ValueError(f"{name} is nested too deep for a configuration")
        config = yaml.safe_load(content)
        if not isinstance(config, dict):
            raise ValueError(f"{name} holds no mapping of keys")
        plain = OmegaConf.to_container(OmegaConf.create(yaml.safe_dump(config, sort_keys=False)))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not readable as YAML: {error}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
