"""Templates of planted mistakes, made once."""

from pathlib import Path

import pytest

from nest_ssl.bin.preflight import parse
from nest_ssl.bin.preflight_run import context_of
from nest_ssl.preflight.run import Context
from tests.preflight.planted import World, template, world_in


@pytest.fixture(scope="session")
def sanm_template(tmp_path_factory) -> Path:
    for library in ("transformers", "peft", "tokenizers", "tiktoken", "torchaudio"):
        pytest.importorskip(library, reason=f"{library} is of the extra llm")
    return template(tmp_path_factory.mktemp("sanm"))


@pytest.fixture(scope="session")
def sound(sanm_template) -> Context:
    """The template's fine-tuning: model, configuration, tokenizers."""
    return context_of(parse(World(sanm_template).argv()))


@pytest.fixture(scope="session")
def conformer_template(sanm_template, tmp_path_factory) -> Path:
    return template(tmp_path_factory.mktemp("conformer"), "conformer")


@pytest.fixture
def world(sanm_template, tmp_path) -> World:
    return world_in(tmp_path / "world", sanm_template)


@pytest.fixture
def conformer_world(conformer_template, tmp_path) -> World:
    return world_in(tmp_path / "world", conformer_template)
