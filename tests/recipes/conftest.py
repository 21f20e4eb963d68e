from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes.asterisk_archives import write_packages, write_table, write_tarballs


@pytest.fixture(scope="session")
def packages(tmp_path_factory) -> Path:
    """A folder of .deb files like Debian's, with the prompts of tests/data."""
    folder = tmp_path_factory.mktemp("packages")
    write_packages(folder)
    return folder


@pytest.fixture(scope="session")
def tarballs(tmp_path_factory) -> Path:
    """A folder of releases like the upstream project's, with the same prompts."""
    folder = tmp_path_factory.mktemp("tarballs")
    write_tarballs(folder)
    return folder


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """The table of checksums of these files."""
    path = tmp_path_factory.mktemp("table") / "checksums.tsv"
    write_table(path)
    return path
