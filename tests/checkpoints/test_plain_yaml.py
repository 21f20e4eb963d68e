"""YAML of archives: numbers as OmegaConf reads them, and nothing but values."""

import pytest

from nest_ssl.checkpoints.plain_yaml import read_plain_yaml


def test_numbers_are_omegaconfs():
    assert read_plain_yaml(b"a: 1e-05\nb: 2\nc: [null, true, x]\n", "here") == {
        "a": 1e-05,
        "b": 2,
        "c": [None, True, "x"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: !!python/object/apply:os.system [echo]", "here is not readable as YAML.*python"),
        (b"a: &x [1]\nb: *x\n", "here has YAML aliases"),
        (b"- 1\n- 2\n", "here holds no mapping"),
        (b"", "here holds no mapping"),
        (b"a: [1, 2\n", "here is not readable as YAML"),
        (b"a: \xff\xfe\n", "here is not readable as YAML"),
        (b"a: " + b"[" * 5000, "here is nested too deep"),
    ],
    ids=["python tag", "alias", "list", "empty", "unclosed", "no text", "deep"],
)
def test_what_no_configuration_needs_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read_plain_yaml(content, "here")
