"""Under what conditions an utterance was spoken, by the records that the telephone channel writes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nest_ssl import telephone
from nest_ssl.text.conditions import CONDITIONS, MAX_VALUES, NOT_STATED, conditions_of, groups


def leg(codec: str = "g711a", loss: dict | None = None, **counts: int) -> dict:
    return {"codec": codec, "parameters": {}, "loss": loss, **counts}


def of_channel(name: str, **channel) -> str:
    return conditions_of({"channel": channel})[name]


def test_a_record_of_the_simulation_states_everything():
    samples = 0.1 * np.sin(np.arange(8000) / 5).astype(np.float32)
    record = telephone.preset("mobile_gsm_fr")(samples, sr=8000, key="k", seed=3, out_sr=8000)[1]
    found = conditions_of({"channel": record, "lang": "en", "speaker": 7}, 1.0)
    assert found["codec"] == "gsm_fr"
    assert (found["preset"], found["recorder"]) == ("mobile_gsm_fr", "none")
    assert (found["lang"], found["speaker"], found["duration"]) == ("en", "7", "1 to 2 s")
    assert NOT_STATED not in (found["loss"], found["snr"], found["noise"], found["room"])


def test_codecs_are_named_in_the_order_of_the_call():
    assert of_channel("codec", legs=[leg("amr_nb"), leg("g711a"), leg("gsm_fr")]) == "amr_nb > g711a > gsm_fr"
    assert of_channel("codec", legs=["gsm_fr", "g711a"]) == "gsm_fr > g711a"  # as first versions wrote them
    assert of_channel("codec", legs=[]) == "none"
    assert of_channel("codec", preset="p") == NOT_STATED
    assert of_channel("recorder", recorder={"codec": "mp3"}) == "mp3"


@pytest.mark.parametrize(
    ("legs", "expected"),
    [
        ([], "none"),
        ([leg(), leg()], "none"),
        ([leg(loss={"frame_error_rate": 0.5}, frames=100, lost_frames=0)], "none"),  # as counted
        ([leg(loss={"frame_error_rate": 0.0}, frames=100, lost_frames=2)], "1 to 3 %"),
        (
            [leg(loss={}, frames=50, lost_frames=1), leg(loss={}, frames=50, lost_frames=1)],
            "3 to 10 %",
        ),  # 3.96 %
        ([leg(loss={"rate": 0.005})], "0 to 1 %"),
        ([leg(loss={"frame_error_rate": 0.1})], "10 % or more"),
        ([leg(loss={"enter": 0.01, "leave": 0.99, "lost_in_bad": 0.5})], "0 to 1 %"),
        ([leg(loss={"trace": {"file": "t"}})], NOT_STATED),
        (["gsm_fr"], NOT_STATED),
    ],
)
def test_loss_is_counted_over_all_legs_and_else_as_drawn(legs, expected):
    assert of_channel("loss", legs=legs) == expected


def test_long_recordings_have_their_losses_in_pieces():
    pieces = [{"legs": [{"frames": 100, "lost_frames": 0}]}, {"legs": [{"frames": 100, "lost_frames": 4}]}]
    assert of_channel("loss", legs=[leg(loss={"rate": 0.5})], pieces=pieces) == "1 to 3 %"


def test_noises_at_both_ends_add_up():
    near, far = {"kind": "babble", "snr_db": 16.0}, {"kind": "coloured", "snr_db": 16.0}
    assert of_channel("snr", noise=near, far_noise=None) == "15 to 20 dB"
    assert of_channel("snr", noise=near, far_noise=far) == "10 to 15 dB"  # 3 dB less
    assert of_channel("noise", noise=near, far_noise=far) == "babble + coloured"
    assert (of_channel("snr", noise=None), of_channel("noise", noise=None)) == ("none", "none")
    assert of_channel("snr", noise={"kind": "babble", "snr_db": -2.0}) == "under 0 dB"
    assert of_channel("snr", noise={"kind": "babble"}) == of_channel("snr", legs=[]) == NOT_STATED


def test_rooms_and_plain_channels():
    assert of_channel("room", room={"index": 1, "rt60_s": 0.31}) == "RT60 0.3 to 0.6 s"
    assert of_channel("room", room={"file": "r.wav"}) == "recorded response"
    assert conditions_of({"channel": "gsm"})["channel"] == "gsm"
    assert conditions_of({"channel": "gsm"})["codec"] == NOT_STATED


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["legs", "codec", "loss", "noise", "snr_db", "room", "frames"]), inner
        )
    ),
    max_leaves=8,
)


@given(channel=JSON, lang=JSON, seconds=st.none() | st.floats(0, 1e6))
def test_whatever_a_row_holds_gives_a_value_of_every_condition(channel, lang, seconds):
    found = conditions_of({"channel": channel, "lang": lang}, seconds)
    assert list(found) == list(CONDITIONS)
    assert all(isinstance(value, str) and value for value in found.values())


@given(seconds=st.floats(0, 100))
def test_bins_hold_what_they_say(seconds):
    words = conditions_of({}, seconds)["duration"].split()
    low, high = float(words[0]), float(words[2]) if words[1] == "to" else math.inf
    assert low <= seconds < high


def test_groups_hold_every_utterance_once_in_the_order_of_reading():
    labels = ["5 to 10 s", NOT_STATED, "0 to 1 s", "5 to 10 s"]
    assert groups(labels, "duration") == {"0 to 1 s": [2], "5 to 10 s": [0, 3], NOT_STATED: [1]}
    assert list(groups(["b", "a", "b", NOT_STATED, NOT_STATED, NOT_STATED], "codec")) == [
        "b",
        "a",
        NOT_STATED,
    ]


def test_the_smallest_of_very_many_groups_are_joined():
    labels = [f"s{i}" for i in range(MAX_VALUES + 5)] + ["s3"]
    found = groups(labels, "speaker")
    assert len(found) == MAX_VALUES and next(iter(found)) == "s3"
    assert len(found["6 others"]) == 6
    assert sorted(place for places in found.values() for place in places) == list(range(len(labels)))
