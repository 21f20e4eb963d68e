"""Which frames are lost: the statistics of the models, packets onto frames, what is drawn and refused."""

import json
from math import exp, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from nest_ssl.telephone.loss import (
    bad_state,
    check_loss,
    draw_loss,
    late_share,
    lost_frames,
    queue_delay_ms,
    read_trace,
)

BURSTS = {"seed": 17, "packet_ms": 20, "enter": 0.01, "leave": 0.5, "lost_in_bad": 1.0}
NUM_FRAMES = 2_000_000


def burst_lengths(lost: np.ndarray) -> np.ndarray:
    edges = np.flatnonzero(np.diff(lost, prepend=False, append=False))
    return edges[1::2] - edges[::2]


def bad_state_deviation(enter: float, leave: float, count: int) -> float:
    """Give the standard deviation of the share of `count` steps a two-state chain is in its bad state."""
    share, memory = enter / (enter + leave), 1 - enter - leave
    return sqrt(share * (1 - share) * (1 + memory) / (1 - memory) / count)


def test_gilbert_elliott_statistics():
    lost = lost_frames(BURSTS, NUM_FRAMES, 0.02)
    assert lost.mean() == pytest.approx(0.01 / 0.51, abs=3 * bad_state_deviation(0.01, 0.5, NUM_FRAMES))
    lengths = burst_lengths(lost)
    assert lengths.mean() == pytest.approx(2.0, abs=3 * sqrt(0.5 / 0.25 / len(lengths)))
    assert np.mean(lengths >= 3) == pytest.approx(0.25, abs=3 * sqrt(0.25 * 0.75 / len(lengths)))


@pytest.mark.parametrize(("enter", "leave"), [(0.002, 0.35), (0.3, 0.85), (1.0, 1.0), (0.9, 0.4)])
def test_each_step_changes_state_as_likely_as_asked(enter, leave):
    bad = bad_state(np.random.default_rng(3), enter, leave, NUM_FRAMES // 4)
    before, after = bad[:-1], bad[1:]
    for steps, probability in ((after[~before], enter), (~after[before], leave)):
        deviation = sqrt(probability * (1 - probability) / len(steps))
        assert steps.mean() == pytest.approx(probability, abs=3.5 * deviation)


def test_the_first_frame_is_lost_as_often_as_any():
    drawn = BURSTS | {"enter": 0.2, "leave": 0.3}
    first = np.mean([lost_frames(drawn | {"seed": seed}, 1, 0.02)[0] for seed in range(4000)])
    assert first == pytest.approx(0.4, abs=3 * sqrt(0.4 * 0.6 / 4000))


def test_a_share_of_the_bad_state_is_lost():
    lost = lost_frames(BURSTS | {"lost_in_bad": 0.4}, NUM_FRAMES, 0.02)
    assert lost.mean() == pytest.approx(0.4 * 0.01 / 0.51, abs=4e-4)
    assert np.all(lost_frames(BURSTS, NUM_FRAMES, 0.02)[lost])


@pytest.mark.parametrize(
    "drawn",
    [{"rate": 0.05}, {"enter": 0.05, "leave": 0.95, "lost_in_bad": 1.0}, {"frame_error_rate": 0.05}],
    ids=["rate", "enter and leave", "radio"],
)
def test_independent_losses(drawn):
    lost = lost_frames({"seed": 5, "packet_ms": 20} | drawn, NUM_FRAMES, 0.02)
    assert lost.mean() == pytest.approx(0.05, abs=3 * sqrt(0.05 * 0.95 / NUM_FRAMES))
    both = np.mean(lost[1:] & lost[:-1])
    assert both == pytest.approx(0.0025, abs=4 * sqrt(0.0025 / NUM_FRAMES))


def test_radio_errors_come_in_fades():
    drawn = {"seed": 5, "packet_ms": 20, "frame_error_rate": 0.02, "fade_ms": 100}
    lost = lost_frames(drawn, NUM_FRAMES, 0.02)
    leave = 0.2
    deviation = bad_state_deviation(0.02 / 0.98 * leave, leave, NUM_FRAMES)
    assert lost.mean() == pytest.approx(0.02, abs=3 * deviation)
    lengths = burst_lengths(lost)
    assert lengths.mean() == pytest.approx(5.0, abs=3 * sqrt((1 - leave) / leave**2 / len(lengths)))


def test_fades_shorter_than_a_frame_are_independent_errors():
    drawn = {"seed": 5, "packet_ms": 20, "frame_error_rate": 0.1}
    short = lost_frames(drawn | {"fade_ms": 2}, 5000, 0.02)
    np.testing.assert_array_equal(short, lost_frames(drawn, 5000, 0.02))


@pytest.mark.parametrize(("mean_ms", "buffer_ms"), [(5, 20), (10, 60), (20, 40), (60, 0)])
def test_late_packets_are_as_many_as_the_queue_says(mean_ms, buffer_ms):
    # D/M/1: a share s waits, exponentially with the decay rate (1 - s) / service time, s the root of
    # s = exp(-(1 - s) T / service time); the mean wait is s / decay
    def share(decay):
        return exp(-decay * 20)

    decay = brentq(lambda decay: share(decay) / decay - mean_ms, 1e-6, 10)
    expected = share(decay) * exp(-decay * buffer_ms)
    assert late_share(20, mean_ms, buffer_ms) == pytest.approx(expected)
    drawn = {"seed": 3, "packet_ms": 20, "jitter": {"mean_ms": mean_ms, "buffer_ms": buffer_ms}}
    late = lost_frames(drawn, NUM_FRAMES, 0.02)
    # delays follow one another, so the deviation comes from the means of long blocks
    blocks = late.reshape(400, -1).mean(axis=1)
    assert late.mean() == pytest.approx(expected, abs=3.5 * blocks.std() / 20)


def test_waits_are_those_of_a_queue_followed_packet_by_packet():
    waits = queue_delay_ms(np.random.default_rng(8), 20.0, 15.0, 3000)
    rng = np.random.default_rng(8)
    decay = brentq(lambda decay: exp(-decay * 20) / decay - 15, 1e-6, 10)
    service = rng.exponential((1 - exp(-decay * 20)) / decay, 3000)
    wait = waits[0]
    for n in range(1, 3000):
        wait = max(0.0, wait + service[n - 1] - 20.0)
        assert waits[n] == pytest.approx(wait, abs=1e-6)


def test_the_mean_wait_is_the_one_asked_for():
    waits = queue_delay_ms(np.random.default_rng(1), 40.0, 12.0, 1_000_000)
    assert waits.mean() == pytest.approx(
        12.0, abs=3.5 * waits.reshape(200, -1).mean(axis=1).std() / sqrt(200)
    )
    assert waits.min() == 0.0


def write_trace(folder, packets) -> str:
    path = folder / "loss.txt"
    path.write_text("".join("01"[int(lost)] for lost in packets))
    return str(path)


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> str:
    return write_trace(tmp_path_factory.mktemp("trace"), np.random.default_rng(0).random(997) < 0.3)


@given(
    packet_ms=st.sampled_from([10, 20, 30, 40, 60]),
    frame_ms=st.sampled_from([10, 15, 20, 30]),
    num_frames=st.integers(0, 2500),
    start=st.integers(0, 996),
)
def test_a_frame_is_lost_with_its_packet(trace, packet_ms, frame_ms, num_frames, start):
    packets, digest = read_trace(trace)
    drawn = {"seed": 0, "packet_ms": packet_ms, "trace": {"file": trace, "sha256": digest, "start": start}}
    expected = []
    packet = start
    while len(expected) < num_frames:
        room_ms = packet_ms
        expected.append(packets[packet % len(packets)])
        room_ms -= frame_ms
        while room_ms >= frame_ms:
            expected.append(packets[packet % len(packets)])
            room_ms -= frame_ms
        packet += 1
    np.testing.assert_array_equal(lost_frames(drawn, num_frames, frame_ms / 1000), expected[:num_frames])


SETTINGS = {
    "probability": 0.45,
    "packet_ms": {20: 0.9, 40: 0.05, 60: 0.05},
    "enter": {"min": 0.002, "max": 0.03},
    "leave": {"min": 0.35, "max": 0.85},
    "lost_in_bad": 1.0,
    "jitter": {"probability": 0.3, "mean_ms": {"min": 2, "max": 10}, "buffer_ms": {40: 0.5, 60: 0.5}},
    "frame_error_rate": None,
    "zeros": 0.1,
    "trace": None,
}


def test_what_is_drawn_goes_through_json_and_gives_the_same_frames():
    check_loss(SETTINGS, "loss")
    rng = np.random.default_rng(0)
    draws = [draw_loss(rng, SETTINGS) for _ in range(4000)]
    there = [drawn for drawn in draws if drawn]
    assert len(there) / 4000 == pytest.approx(0.45, abs=3 * sqrt(0.45 * 0.55 / 4000))
    zeros = np.mean([drawn["concealment"] == "zeros" for drawn in there])
    assert zeros == pytest.approx(0.1, abs=3 * sqrt(0.09 / len(there)))
    longer = np.mean([drawn["packet_ms"] > 20 for drawn in there])
    assert longer == pytest.approx(0.1, abs=3 * sqrt(0.09 / len(there)))
    assert np.mean(["jitter" in drawn for drawn in there]) == pytest.approx(0.3, abs=0.04)
    for drawn in there[:20]:
        again = json.loads(json.dumps(drawn))
        assert again == drawn
        frames = lost_frames(drawn, 500, 0.02)
        assert frames.dtype == bool
        assert frames.shape == (500,)
        np.testing.assert_array_equal(lost_frames(again, 500, 0.02), frames)


def test_nothing_drawn_loses_nothing():
    assert draw_loss(np.random.default_rng(0), SETTINGS | {"probability": 0.0}) is None
    assert not lost_frames(None, 100, 0.02).any()
    assert not lost_frames(BURSTS | {"enter": 0.0}, 1000, 0.02).any()
    assert not lost_frames({"seed": 0, "packet_ms": 20, "rate": 0.0}, 1000, 0.02).any()


def test_segments_and_seeds_lose_other_frames():
    drawn = BURSTS | {"enter": 0.1}
    ways = [
        lost_frames(drawn, 1000, 0.02),
        lost_frames(drawn, 1000, 0.02, segment=1),
        lost_frames(drawn | {"seed": 18}, 1000, 0.02),
    ]
    assert len({way.tobytes() for way in ways}) == 3


def test_one_cause_does_not_shift_another():
    jitter = {"jitter": {"mean_ms": 10, "buffer_ms": 40}}
    radio = {"frame_error_rate": 0.03}
    packets, late, errors = (
        lost_frames({"seed": 17, "packet_ms": 20} | drawn, 3000, 0.02) for drawn in (BURSTS, jitter, radio)
    )
    together = lost_frames(BURSTS | jitter | radio, 3000, 0.02)
    assert min(packets.sum(), late.sum(), errors.sum()) > 20
    np.testing.assert_array_equal(together, packets | late | errors)


def test_a_trace_goes_before_a_rate_and_a_rate_before_bursts(trace):
    base = SETTINGS | {"probability": 1.0, "jitter": None}
    rng = np.random.default_rng(0)
    assert {"enter", "leave", "lost_in_bad"} <= draw_loss(rng, base).keys()
    assert draw_loss(rng, base | {"rate": 0.1}).keys() == {"seed", "concealment", "packet_ms", "rate"}
    traced = draw_loss(rng, base | {"rate": 0.1, "trace": trace})
    assert traced.keys() == {"seed", "concealment", "packet_ms", "trace"}
    assert 0 <= traced["trace"]["start"] < 997


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": None}, "loss.probability: must be a number, not None"),
        ({"probability": 1.5}, "loss.probability: must lie within 0 and 1, not 1.5"),
        ({"packet_ms": {20: 0.5, 40: 0.4}}, "loss.packet_ms: the weights sum to 0.9"),
        ({"packet_ms": 5}, "loss.packet_ms: must lie within 10 and 200, not 5"),
        ({"enter": {"min": 0.3, "max": 0.1}}, "loss.enter: min 0.3 lies above max 0.1"),
        ({"enter": "often"}, "loss.enter: must be a number, not 'often'"),
        ({"leave": 0}, "loss.leave: must lie within 0.0001 and 1, not 0"),
        ({"leave": None}, "loss.leave: is missing, although loss.enter is set"),
        ({"enter": None}, "loss.enter: is missing, although loss.leave is set"),
        ({"lost_in_bad": 2}, "loss.lost_in_bad: must lie within 0 and 1, not 2"),
        ({"zeros": -1}, "loss.zeros: must lie within 0 and 1, not -1"),
        ({"jitter": 0.1}, "loss.jitter: must have the keys .*, not the value 0.1"),
        ({"jitter": {"probability": 1, "mean_ms": 5}}, "loss.jitter.buffer_ms: is missing"),
        (
            {"jitter": {"probability": 1, "mean_ms": 0, "buffer_ms": 5}},
            "loss.jitter.mean_ms: must lie within",
        ),
        ({"frame_error_rate": 0.9}, "loss.frame_error_rate: must lie within 0 and 0.5, not 0.9"),
        ({"fade_ms": 50}, "loss.frame_error_rate: is missing, although loss.fade_ms is set"),
        ({"burst": 2}, "loss.burst: is not a known key"),
        ({"trace": 3}, "loss.trace: must be the path of a file, not 3"),
        ({"enter": None, "leave": None, "jitter": None}, "loss.probability: is 0.45, but nothing is lost"),
    ],
)
def test_wrong_settings_are_refused_with_their_key(change, message):
    with pytest.raises(ValueError, match=message):
        check_loss(SETTINGS | change, "loss")


def test_the_probability_is_needed():
    with pytest.raises(ValueError, match=r"leg\.loss\.probability: is missing"):
        check_loss({"rate": 0.1}, "leg.loss")


def test_a_probability_alone_may_be_zero():
    check_loss({"probability": 0}, "loss")


def test_a_trace_may_have_lines_spaces_and_comments(tmp_path):
    path = tmp_path / "loss.txt"
    path.write_text("# 1 is lost\n0 0 1\n10 # 0\n\n1\n")
    np.testing.assert_array_equal(read_trace(str(path))[0], np.array([0, 0, 1, 1, 0, 1], bool))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0101\n012\n", r"loss.txt:2: '2' in a packet loss trace"),
        (b"0,1,0", r"loss.txt:1: ',' in a packet loss trace"),
        (b"\xff\xfe01", r"loss.txt:1: .* in a packet loss trace"),
        (b"", "loss.txt: the packet loss trace is empty"),
        (b"# nothing\n", "loss.txt: the packet loss trace is empty"),
        (b"1111", r"loss.txt: all 4 packets of the trace are lost \(1\); 0 means arrived"),
    ],
)
def test_a_wrong_trace_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "loss.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        check_loss({"probability": 1.0, "trace": str(path)}, "loss")


def test_a_trace_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt: the packet loss trace does not exist"):
        check_loss({"probability": 1.0, "trace": str(tmp_path / "none.txt")}, "loss")


def test_a_trace_that_has_changed_is_refused(tmp_path):
    path = write_trace(tmp_path, [False, True])
    drawn = draw_loss(np.random.default_rng(0), {"probability": 1.0, "trace": path})
    assert lost_frames(drawn, 10, 0.02).sum() == 5
    write_trace(tmp_path, [False, True, True])
    with pytest.raises(ValueError, match=r"loss\.txt: has changed since it was drawn from"):
        lost_frames(drawn, 10, 0.02)


def test_segments_start_elsewhere_in_a_trace(trace):
    drawn = draw_loss(np.random.default_rng(0), {"probability": 1.0, "trace": trace})
    first, second = (lost_frames(drawn, 300, 0.02, segment) for segment in (0, 1))
    assert not np.array_equal(first, second)


def test_a_very_rare_loss_takes_no_memory():
    assert bad_state(np.random.default_rng(0), 1e-30, 1e-4, 100).shape == (100,)
