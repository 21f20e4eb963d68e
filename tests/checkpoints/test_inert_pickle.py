"""Pickles interpreted as data: what comes out, and that nothing runs."""

from __future__ import annotations

import argparse
import collections
import operator
import os
import pickle
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.checkpoints.inert_pickle import Name, Record, read_pickle

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=40)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.frozensets(leaves, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(values, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back_from_every_protocol(value, protocol):
    assert read_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_of_python_are_plain_ones(protocol):
    value = {"a": collections.OrderedDict(x=1, y=[2]), "b": {3, 4}, "c": collections.defaultdict(list, k=[5])}
    assert read_pickle(pickle.dumps(value, protocol)) == {
        "a": {"x": 1, "y": [2]},
        "b": {3, 4},
        "c": {"k": [5]},
    }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_object_is_a_record_of_its_class_and_state(protocol):
    record = read_pickle(pickle.dumps(argparse.Namespace(rate=16000, name="x"), protocol))
    assert isinstance(record, Record)
    assert (record.kind, record.state) == ("argparse.Namespace", {"rate": 16000, "name": "x"})


def test_a_class_is_its_name():
    assert read_pickle(pickle.dumps(argparse.Namespace)) == Name("argparse.Namespace")


class Code:
    """An object whose unpickling runs `call`."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_called(tmp_path, protocol):
    content = pickle.dumps(
        [Code(tempfile.mkdtemp, ("ran", None, str(tmp_path))), Code(operator.truediv, (1, 0))], protocol
    )
    made, divided = read_pickle(content)
    assert made.kind == "tempfile.mkdtemp"
    assert divided.arguments == (1, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("call", [(os.mkdir, ("ran",)), (exec, ("1/0",)), (subprocess.Popen, ("ls",))])
def test_calls_that_only_a_file_made_to_harm_has_are_refused(protocol, call):
    with pytest.raises(ValueError, match=r"it would have \S*(mkdir|exec|Popen) called"):
        read_pickle(pickle.dumps({"weights": 1.0, "x": Code(*call)}, protocol))


def test_nothing_is_imported():
    assert "antigravity" not in sys.modules  # it opens a browser
    assert read_pickle(b"\x80\x02cantigravity\nfly\n.") == Name("antigravity.fly")
    assert "antigravity" not in sys.modules


def test_a_name_of_the_table_is_called_with_what_the_file_gives():
    content = pickle.dumps(Code(os.path.join, ("a", "b")))
    module = os.path.__name__
    assert read_pickle(content, {f"{module}.join": lambda *parts: "-".join(parts)}) == "a-b"


def test_a_state_does_not_change_a_container():
    content = b"\x80\x02ccollections\nOrderedDict\n)R}X\x04\x00\x00\x00evilK\x01sb."
    assert read_pickle(content) == {}


def test_a_class_cannot_be_given_attributes():
    content = b"\x80\x02ccollections\nOrderedDict\nN}X\x08\x00\x00\x00__init__K\x01s\x86b."
    assert read_pickle(content) == Name("collections.OrderedDict")
    assert collections.OrderedDict(a=1) == {"a": 1}


def test_every_cut_of_a_pickle_is_refused():
    content = pickle.dumps({"a": [1, (2, "three")], "b": argparse.Namespace(c=4)}, 2)
    for end in range(len(content)):
        with pytest.raises(ValueError):
            read_pickle(content[:end])


@pytest.mark.parametrize(
    "content",
    [
        b"N0.",
        b"(.",
        b"]t.",
        b"]K\x01K\x02s.",
        b"K\x01K\x02a.",
        b"h\x05.",
        b"K\x01)R.",
        b"}]K\x01s.",
        b"Pid\n.",
        b"\x82\x01.",
        b"\xff",
    ],
    ids=[
        "empty stack",
        "only a mark",
        "no mark",
        "key for a list",
        "element for a number",
        "no memo",
        "a number called",
        "list as key",
        "persistent id",
        "extension registry",
        "no instruction",
    ],
)
def test_nonsense_is_refused(content):
    with pytest.raises(ValueError):
        read_pickle(content)
