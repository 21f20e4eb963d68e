"""Long recordings: no word is lost or doubled where they are cut; a stand-in knows what is said when."""

from itertools import pairwise

import numpy as np
import pytest

from nest_ssl.decoding.fun_asr_recordings import join_windows
from nest_ssl.decoding.fun_asr_windows import UNIT, joined_text, plan_windows, timed_units

RATE = 1000
WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo"]


def speech(seed: int, count: int, pauses: bool, words: list[str]) -> tuple[np.ndarray, list]:
    """Noise bursts as words; gives the samples and (word, begin, end) in seconds."""
    generator = np.random.default_rng(seed)
    samples, said, at = [], [], 0.0
    for number in range(count):
        length_s = generator.uniform(0.2, 0.5)
        gap_s = generator.uniform(0.5, 1.0) if pauses and number % 5 == 4 else generator.uniform(0.02, 0.06)
        burst = generator.normal(size=round(length_s * RATE)) * 0.1
        gap = generator.normal(size=round(gap_s * RATE)) * (1e-4 if pauses else 0.05)
        said.append((words[generator.integers(len(words))], at, at + length_s))
        samples += [burst, gap]
        at += (len(burst) + len(gap)) / RATE
    return np.concatenate(samples).astype(np.float32), said


def recognize(said, window, jitter, glue, stamped):
    """Whole words of the window; one that is cut through is heard as another, where half of it is there."""
    begin_s, end_s = window.start / RATE, window.end / RATE
    heard = []
    for word, start, end in said:
        inside = min(end, end_s) - max(start, begin_s)
        if inside > 0.999 * (end - start):
            heard.append((word, start, end))
        elif inside > 0.5 * (end - start):
            heard.append(("zz" if glue else "嗯", max(start, begin_s), min(end, end_s)))
    stamps = [
        {
            "token": (glue if number else "") + word,
            "start_time": start - begin_s + jitter.uniform(-0.05, 0.05),
            "end_time": end - begin_s,
            "score": 1.0,
        }
        for number, (word, start, end) in enumerate(heard)
    ]
    return glue.join(word for word, _, _ in heard), stamps if stamped else []


@pytest.mark.parametrize("pauses", [True, False])
@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("glue, words", [(" ", WORDS), ("", list("甲乙丙丁戊己庚辛壬癸子丑寅卯"))])
@pytest.mark.parametrize("seed", range(5))
def test_no_word_is_lost_or_doubled(seed, glue, words, pauses, stamped):
    samples, said = speech(seed, 150, pauses, words)
    plan = plan_windows(samples, RATE, 10.0, 3.0)
    assert len(plan) > 4
    assert any(a.end > b.start for a, b in pairwise(plan)) != pauses
    jitter = np.random.default_rng(seed)
    heard = [recognize(said, window, jitter, glue, stamped) for window in plan]
    text, stamps = join_windows(plan, RATE, [one for one, _ in heard], [one for _, one in heard])
    assert text == glue.join(word for word, _, _ in said)
    if stamped:
        assert [stamp["token"].strip() for stamp in stamps] == [word for word, _, _ in said]
        begins = [stamp["start_time"] for stamp in stamps]
        assert begins == pytest.approx([begin for _, begin, _ in said], abs=0.06)


@pytest.mark.parametrize("seconds", [0.0, 3.0, 29.9, 31.0, 200.0])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_windows_cover_everything_and_are_never_too_long(seconds, level):
    samples = (np.random.default_rng(0).normal(size=round(seconds * RATE)) * level).astype(np.float32)
    plan = plan_windows(samples, RATE, 30.0, 4.0)
    assert plan[0].start == 0 and plan[-1].end == plan[-1].seam == len(samples)
    assert all(window.end - window.start <= 30 * RATE for window in plan)
    for window, following in pairwise(plan):
        assert window.start < following.start <= window.seam <= window.end


def test_a_pause_is_where_it_is_cut():
    samples, _ = speech(0, 60, True, WORDS)
    for window in plan_windows(samples, RATE, 10.0, 3.0)[:-1]:
        assert np.abs(samples[window.end - 80 : window.end + 80]).max() < 1e-3


def test_an_overlap_beyond_half_a_window_is_refused():
    with pytest.raises(ValueError, match="up to the half"):
        plan_windows(np.zeros(10, np.float32), RATE, 10.0, 6.0)


def test_units_are_words_and_characters_with_their_punctuation():
    assert UNIT.findall("你好，world! it's 3") == ["你", "好，", "world!", "it's", "3"]
    for text in ("你好，world! it's 3", "a b", "请，a。"):
        assert joined_text(timed_units(text, [], 0.0, 1.0)) == text
