"""Length limits: units, percentiles, previews, and FunASR's keys."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nest_ssl.data.length_limits import (
    UNITS,
    LengthLimits,
    Limit,
    as_columns,
    preview_table,
    row_lengths,
)
from nest_ssl.data.lengths import audio_tokens, lfr_frames, speech_length


class Characters:
    """A tokenizer that makes a token of each character."""

    def count(self, text: str) -> int:
        return len(text)


def columns(seconds: list[float], tokens: list[int] | None = None) -> dict[str, np.ndarray]:
    tokens = tokens or [5] * len(seconds)
    rows = [{"duration": s, "text": "好" * n} for s, n in zip(seconds, tokens, strict=True)]
    return as_columns([row_lengths(row, Characters(), prompt_tokens=20) for row in rows])


@given(st.integers(1, 400_000), st.sampled_from([8000, 11025, 16000, 44100, 48000]))
def test_speech_length_is_the_number_of_whole_windows(samples, rate):
    milliseconds = Fraction(samples * 1000, rate)
    windows = (milliseconds - 25) // 10 + 1 if milliseconds >= 25 else 0
    assert speech_length(samples / rate) == windows
    converter = int((samples / rate * 1000 - 25) // 10 + 1)  # FunASR's, in floating point
    assert windows - max(0, converter) in (0, 1)


def test_speech_length_of_known_files():
    # the goldens of FunASR: u0 to u5
    assert [speech_length(s) for s in (2.1, 1.63, 2.37, 1.06, 0.92, 1.88)] == [208, 161, 235, 104, 90, 186]
    assert speech_length(4.015) == 400 and int((4.015 * 1000 - 25) // 10 + 1) == 399
    assert [speech_length(s) for s in (0.02, 0.025, 0.034, 0.035)] == [0, 1, 1, 2]


@given(st.integers(1, 20_000))
def test_audio_tokens_halve_three_times(frames):
    encoder = lfr_frames(frames)
    assert encoder == np.ceil(frames / 6)
    halved = encoder
    for _ in range(3):
        halved = (halved + 1) // 2
    assert audio_tokens(frames) == halved


def test_a_row_has_its_lengths_in_every_unit():
    found = row_lengths({"duration": 2.1, "text": "你好好"}, Characters(), 20, ctc_encode=lambda text: text)
    assert found == {
        "seconds": 2.1,
        "speech_length": 208,
        "lfr_frames": 35,
        "text_length": 3,
        "sampler_length": 211,
        "sequence_length": 20 + 5 + 3 + 1,
        "ctc_slack": 35 - 3 - 1,  # a frame for each character, one between the equal ones
    }
    assert set(found) == set(UNITS)


def test_without_a_tokenizer_no_tokens_are_guessed():
    assert set(row_lengths({"duration": 2.1, "text": "你好"})) == {"seconds", "speech_length", "lfr_frames"}
    assert row_lengths({"text": "你好"}, Characters()) == {}
    assert row_lengths({"duration": "2", "text": "你好"}, Characters()) == {}
    assert "text_length" not in row_lengths({"duration": 2.1}, Characters())


def plain_percentile(values: list[float], percentile: Fraction) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return next(
        v for v in sorted(values) if Fraction(sum(w <= v for w in values), len(values)) >= percentile / 100
    )


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.sampled_from(["0.5", "5", "50", "90", "98", "99.5", "99.9"]),
    st.sampled_from(["min", "max"]),
)
def test_percentiles_are_those_of_the_plain_definition(values, percentile, side):
    lengths = {"seconds": np.array(values, float)}
    limits = LengthLimits.from_config({"seconds": {side: f"p{percentile}"}}).resolve(lengths)
    assert limits.limits[0].value == plain_percentile(values, Fraction(percentile))
    removed = 1 - limits.keep(lengths).mean()
    allowed = Fraction(percentile) if side == "min" else 100 - Fraction(percentile)
    assert removed <= float(allowed) / 100 + 1e-12


def test_both_ends_of_a_limit_are_kept():
    limits = LengthLimits.from_config({"seconds": {"min": 1, "max": 3}, "speech_length": {"max": 250}})
    lengths = columns([0.9, 1.0, 2.0, 2.6, 3.0, 3.1])
    assert limits.keep(lengths).tolist() == [False, True, True, False, False, False]
    rows = [{unit: values[i] for unit, values in lengths.items()} for i in range(6)]
    assert [list(limits.check(row)) for row in rows] == [
        ["seconds_under_min"],
        [],
        [],
        ["speech_length_over_max"],
        ["speech_length_over_max"],
        ["seconds_over_max", "speech_length_over_max"],
    ]
    assert limits.check(rows[5])["seconds_over_max"] == "3.1 > 3 s of audio"


def test_a_row_of_unknown_length_is_not_kept():
    limits = LengthLimits((Limit("text_length", "max", 5.0),))
    lengths = as_columns([{"text_length": 3.0}, {"seconds": 1.0}])
    assert limits.keep(lengths).tolist() == [True, False]
    assert limits.check({"seconds": 1.0}) == {"text_length_unknown": "the row has no text_length"}


def test_the_preview_counts_what_the_limits_remove():
    seconds = [float(s) for s in range(1, 101)]
    limits = LengthLimits.from_config({"seconds": {"max": "p98"}, "speech_length": {"min": 500}})
    lengths = columns(seconds)
    preview = limits.preview(lengths)
    for line in preview:
        if line["limit"] == "all":
            removed = [s for s in seconds if s > 98 or s < 5.015]
        elif line["limit"] == "seconds_max":
            removed = [s for s in seconds if s > line["value"]]
        else:
            removed = [s for s in seconds if speech_length(s) < line["value"]]
        assert line["rows"] == len(removed) and line["rows_kept"] == 100 - len(removed)
        assert line["hours"] == pytest.approx(sum(removed) / 3600)
        assert line["hours_kept"] == pytest.approx((sum(seconds) - sum(removed)) / 3600)
        assert line["share"] == pytest.approx(len(removed) / 100)
    chosen = [(line["limit"], line["setting"]) for line in preview if line["chosen"]]
    assert chosen == [("seconds_max", "p98"), ("speech_length_min", "500"), ("all", "")]
    assert [line["setting"] for line in preview if line["limit"] == "seconds_max"] == [
        *("p90", "p95", "p98", "p99", "p99.5", "p99.9"),
    ]
    table = preview_table(preview).splitlines()
    assert len(table) == 2 + len(preview)
    assert "| seconds_max | **p98** | 98 | s of audio | 2 | 2.00 % |" in preview_table(preview)


def test_the_preview_of_no_rows_is_refused_for_percentiles_only():
    empty = {"seconds": np.zeros(0)}
    assert LengthLimits((Limit("seconds", "max", 3.0),)).preview(empty)[-1]["rows"] == 0
    with pytest.raises(ValueError, match=r"seconds\.max: no row has a length, so p99 has no value"):
        LengthLimits.from_config({"seconds": {"max": "p99"}}).preview(empty)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"second": {"max": 3}}, r"length\.second: there is no such unit; did you mean seconds"),
        ({"seconds": 3}, r"length\.seconds holds min and max, such as \{max: p99.5\}, not 3"),
        ({"seconds": {"most": 3}}, r"length\.seconds\.most: there is no such key"),
        ({"seconds": {"max": "99%"}}, r"length\.seconds\.max is a number or a percentile .* not '99%'"),
        ({"seconds": {"max": "p100"}}, r"'p100' is no percentile between p0 and p100"),
        ({"seconds": {"max": "pmax"}}, r"'pmax' is no percentile"),
        ({"seconds": {"max": True}}, r"is a number or a percentile"),
        ({"seconds": {"max": float("inf")}}, r"is a number or a percentile"),
        ({"seconds": {"min": -1}}, r"length\.seconds\.min: -1 is negative; it counts s of audio"),
        ({"seconds": {"min": 4, "max": 3}}, r"length: seconds\.min 4 is above max 3"),
    ],
)
def test_a_bad_limit_is_named(section, message):
    with pytest.raises(ValueError, match=message):
        LengthLimits.from_config(section)


def test_null_is_no_limit():
    assert LengthLimits.from_config({"seconds": {"min": None, "max": 3}, "text_length": None}).units() == (
        "seconds",
    )
    assert LengthLimits.from_config(None).limits == ()


def test_a_limit_on_tokens_needs_a_tokenizer():
    lengths = as_columns([row_lengths({"duration": 1.0, "text": "好"})])
    with pytest.raises(
        ValueError, match=r"length\.text_length: these rows have no text_length; its rows need"
    ):
        LengthLimits.from_config({"text_length": {"max": "p99"}}).resolve(lengths)


def test_percentiles_must_be_resolved():
    with pytest.raises(ValueError, match=r"seconds\.max is p99: resolve\(\) it on the corpus first"):
        LengthLimits.from_config({"seconds": {"max": "p99"}}).check({"seconds": 1.0})


def test_limits_become_funasr_keys_in_their_units():
    limits = LengthLimits.from_config({"seconds": {"min": 0.3, "max": 30}, "text_length": {"max": 200}})
    found = limits.funasr_limits(prompt_tokens=30)
    assert found["dataset_conf"] == {
        "max_source_length": 2998,  # 30 s: floor((30000 - 25) / 10) + 1
        "min_source_length": 28,
        "max_target_length": 201,  # <|im_end|> is counted where FunASR only logs
        "max_token_length": 2998 + 200,
        "batch_size": 6000,
        "batch_size_sample_max": 10,
        "batch_size_token_max": 10 * (30 + 63 + 200 + 1),  # 63: ceil(ceil(2998 / 6) / 8)
    }
    assert set(found["units"]) == set(found["dataset_conf"])


def test_what_has_no_limit_comes_from_the_rows():
    found = LengthLimits().funasr_limits(columns([1.0, 40.0], [7, 3]), batch_size=2000)["dataset_conf"]
    assert found["max_source_length"] == speech_length(40.0) == 3998
    assert found["min_source_length"] == speech_length(1.0)
    assert found["max_target_length"] == 8
    assert found["max_token_length"] == 3998 + 7
    assert found["batch_size"] == 4005, "a longer row than that comes with an empty batch before it"
    with pytest.raises(ValueError, match=r"FunASR's limits need speech_length: set length.speech_length.max"):
        LengthLimits().funasr_limits()
    with pytest.raises(ValueError, match=r"need text_length.*its rows need a tokenizer"):
        LengthLimits.from_config({"seconds": {"max": 30}}).funasr_limits()


def sampled(lengths: list[tuple[int, int]], conf: dict) -> list[list[int]]:
    """FunASR's sampler (sort_size > 0, one buffer): batches of indices, short rows first."""
    batches, batch, longest = [], [], 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i][0]):
        source = lengths[index][0]
        if source > conf["max_token_length"]:
            continue
        fits = max(longest, source) * (len(batch) + 1) <= conf["batch_size"]
        if fits and len(batch) + 1 < conf["batch_size_sample_max"] + bool(batches):
            batch.append(index)
            longest = max(longest, source)
        else:
            batches.append(batch)
            batch, longest = [index], source
    return [*batches, batch]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.1, 40.0), st.integers(1, 400)), min_size=1, max_size=40),
    st.integers(200, 8000),
    st.integers(2, 12),
    st.booleans(),
)
def test_funasr_drops_nothing_under_these_limits(rows, batch_size, samples, with_limits):
    lengths = columns([seconds for seconds, _ in rows], [tokens for _, tokens in rows])
    limits = LengthLimits()
    if with_limits:
        limits = LengthLimits.from_config({"seconds": {"max": 40}, "text_length": {"max": "p90"}}).resolve(
            lengths
        )
        kept = limits.keep(lengths)
        assume(kept.any())
        lengths = {unit: values[kept] for unit, values in lengths.items()}
        known = None  # from the limits alone
    else:
        known = lengths
    conf = limits.funasr_limits(known, batch_size, samples, prompt_tokens=20)["dataset_conf"]
    speech, text = lengths["speech_length"], lengths["text_length"]
    assert speech.max() <= conf["max_source_length"] and speech.min() >= conf["min_source_length"]
    assert lengths["lfr_frames"].max() <= conf["max_source_length"]
    assert text.max() + 1 <= conf["max_target_length"]
    assert max(lengths["sampler_length"].max(), lengths["sequence_length"].max()) <= conf["max_token_length"]
    batches = sampled([(int(s), 0) for s in lengths["sampler_length"]], conf)
    assert sorted(i for batch in batches for i in batch) == list(range(len(speech)))
    for batch in batches:
        assert batch, "an empty batch breaks FunASR's collator"
        padded = len(batch) * max(lengths["sequence_length"][i] for i in batch)
        assert len(batch) == 1 or padded <= conf["batch_size_token_max"]
