"""The annotation rules: rows that must pass, rows that must not, and what the corpus decides."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.data.annotation import (
    RULES,
    AnnotationRules,
    CorpusCheck,
    annotate,
    check_annotation,
    find_duplicates,
)
from nest_ssl.data.audio_facts import audio_facts, measure
from nest_ssl.files.audio import write_audio

ONLY_DEFAULT = AnnotationRules()


def only(*rules: str, **limits) -> AnnotationRules:
    """These rules alone; limits go to the first."""
    section = {rule: rule in rules for rule in RULES}
    return AnnotationRules.from_config(section | {rules[0]: {"enabled": True, **limits}})


def facts(duration: float = 3.0, **changed) -> dict:
    """Facts of clean speech."""
    return {
        "error": None,
        "sample_rate": 8000,
        "channels": 1,
        "file_duration": duration,
        "duration": duration,
        "num_samples": round(duration * 8000),
        "active_level_dbov": -24.0,
        "activity": 0.8,
        "active_s": 0.8 * duration,
        "dynamics_db": 35.0,
        "peak": 0.5,
        "clipped_share": 0.0,
        "digital_silence_share": 0.0,
        "digest": "d",
    } | changed


def row(text: str | None, duration: float = 3.0, **more) -> dict:
    return {"id": "a", "audio_filepath": "a.wav", "duration": duration, "text": text} | more


SOUND = (
    "你好，请问有什么可以帮您？",
    "Number ten, please.",
    "我想办一张VIP卡，谢谢",
    "Это телефонная станция.",
    "アスタリスクへようこそ",
    "CAFÉ… «naïve» façade",
    "请按*键或者#号键",
    "联通公司的王垚垚",
)


@pytest.mark.parametrize("text", SOUND)
def test_a_sound_row_has_no_fault(text):
    assert check_annotation(row(text), facts(), ONLY_DEFAULT) == {}
    assert check_annotation(row(text), None, ONLY_DEFAULT) == {}, "audio that was not measured is no fault"


@pytest.mark.parametrize(
    "text", ["", "   ", "\n\t", None, "\u3000", "。。，", "……", "...", "--", "、 ？", "😀"]
)
def test_empty_text_is_found(text):
    assert "empty_text" in check_annotation(row(text), facts(), only("empty_text"))


@pytest.mark.parametrize("text", ["½", "①", "℃", "￥", "+", "%", "ok", "๕"])
def test_what_is_read_out_is_no_empty_text(text):
    assert check_annotation(row(text), facts(), only("empty_text")) == {}


@pytest.mark.parametrize("text", ["\ufffd\ufffd", "??????"])
def test_text_of_damaged_characters_alone_is_badly_encoded_not_empty(text):
    assert list(check_annotation(row(text), facts(), ONLY_DEFAULT)) == ["bad_encoding"]


def test_a_row_without_the_field_text_is_empty():
    assert "empty_text" in check_annotation({"duration": 1.0}, None, ONLY_DEFAULT)


def test_unreadable_audio_is_the_first_reason():
    found = check_annotation(row(""), {"error": "a.wav: the audio is damaged"}, ONLY_DEFAULT)
    assert list(found) == ["audio_unreadable", "empty_text"]
    assert "damaged" in found["audio_unreadable"]


@pytest.mark.parametrize(("there", "wrong"), [(3.0, False), (2.96, False), (2.9, True), (0.0, True)])
def test_audio_shorter_than_its_segment_is_found(there, wrong):
    found = check_annotation(
        row("你好，请问有什么可以帮您？"),
        facts(3.0) | {"duration": there},
        only("audio_shorter_than_segment"),
    )
    assert bool(found) == wrong


@pytest.mark.parametrize(
    ("text", "seconds", "active_s", "wrong"),
    [
        ("好" * 24, 3.0, 2.4, False),  # 8 a second
        ("好" * 40, 3.0, 2.4, True),  # 13.3 a second
        ("好" * 30, 3.0, 1.0, True),  # 10 a second of all, 30 of the active time
        ("good morning to you " * 3, 3.0, 2.4, False),  # 48 letters: 16 a second
        ("good morning to you " * 8, 3.0, 2.4, True),  # 128 letters: 43 a second
        ("好" * 12 + "hello" * 4, 3.0, 2.6, False),  # 1.0 s and 0.67 s at least
        ("好" * 24 + "hello" * 12, 3.0, 2.4, True),  # 2.0 s and 2.0 s at least
        ("喂", 3.0, 1.0, False),
        ("喂", 9.0, 1.0, True),  # 6 s at most
        ("喂", 5.0, 4.9, True),  # 3.5 s of activity at most
        ("13800138000", 3.0, 2.4, False),  # digits are read one by one
        ("13800138000" * 4, 3.0, 2.4, True),
        ("。。。", 3.0, 2.4, False),  # nothing to say: not a matter of rate
    ],
)
def test_impossible_rates_are_found_by_script(text, seconds, active_s, wrong):
    found = check_annotation(row(text, seconds), facts(seconds, active_s=active_s), only("impossible_rate"))
    assert bool(found) == wrong, found


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, False),
        ({"active_level_dbov": None, "active_s": 0.0, "dynamics_db": 0.0}, True),  # digital silence
        ({"active_level_dbov": -62.0}, True),
        ({"active_level_dbov": -48.0}, False),
        ({"active_s": 0.05}, True),
        ({"dynamics_db": 1.7}, True),  # steady noise
        ({"dynamics_db": None}, False),  # too short to tell
    ],
)
def test_silence_labelled_as_speech_is_found(changed, wrong):
    rules = only("silence_labelled_as_speech")
    assert bool(check_annotation(row("你好"), facts(**changed), rules)) == wrong
    assert not check_annotation(row("[silence]"), facts(**changed), rules), "it does not claim speech"


@pytest.mark.parametrize("text", ["", "<silence>", "[静音]", "SIL", "<NOISE>", "噪音。"])
def test_speech_labelled_as_silence_is_found(text):
    rules = only("speech_labelled_as_silence")
    assert check_annotation(row(text), facts(), rules)
    quiet = facts(active_level_dbov=-60.0)
    assert not check_annotation(row(text), quiet, rules)
    assert not check_annotation(row(text), facts(dynamics_db=2.0), rules), "steady noise is no speech"
    assert not check_annotation(row("静音模式怎么开"), facts(), rules), "the word is only a part"


def test_digits_and_foreign_scripts_are_looked_for_on_demand():
    assert check_annotation(row("一共35元 にほんご"), facts(), ONLY_DEFAULT) == {}
    rules = only("digits", "foreign_script")
    assert list(check_annotation(row("一共35元 にほん"), facts(), rules)) == ["digits", "foreign_script"]
    assert check_annotation(row("一共三十五元 OK"), facts(), rules) == {}


def test_reasons_come_in_the_declared_order():
    found = check_annotation(row("<b>\ufffd"), facts(0.01, active_s=0.001), ONLY_DEFAULT)
    assert list(found) == sorted(found, key=RULES.index)
    assert len(found) >= 3


def test_a_row_is_not_changed():
    given_row, given_facts = row("<b>好</b>"), facts()
    check_annotation(given_row, given_facts, ONLY_DEFAULT)
    assert (given_row, given_facts) == (row("<b>好</b>"), facts())


def test_doubles_are_found_by_id_segment_and_samples():
    rows = [
        row("好的", id="a", audio_filepath="1.wav"),
        row("再见", id="a", audio_filepath="2.wav"),  # the id of row 1
        row("谢谢", id="c", audio_filepath="1.wav"),  # the segment of row 1
        row("好的", id="d", audio_filepath="3.wav"),  # the samples and the text of row 1
        row("行", id="e", audio_filepath="4.wav"),  # the samples, another text
        row("好的", id="f", audio_filepath="1.wav", offset=3.0),  # another part of the file
    ]
    digests = ["x", "y", "z", "x", "x", "w"]
    found = find_duplicates(rows, [facts(digest=digest) for digest in digests])
    assert found == {
        1: "same id as row 1",
        2: "same audio segment as row 1",
        3: "same audio samples and text as row 1",
    }


def test_segments_of_two_channels_are_no_doubles():
    rows = [row("好", id=i, channel_selector=i) for i in (0, 1)]
    rows = [{**r, "id": f"u{r['id']}"} for r in rows]
    assert find_duplicates(rows, [None, None]) == {}


def test_silence_of_one_length_is_no_double():
    rows = [row("好", id=f"u{i}", audio_filepath=f"{i}.wav") for i in range(2)]
    assert find_duplicates(rows, [facts(peak=0.0)] * 2) == {}


def test_the_kinds_of_doubles_can_be_chosen():
    rows = [row("好的", audio_filepath="1.wav"), row("好的", audio_filepath="2.wav")]
    found = annotate(rows, [None, None], only("duplicate", same=["segment"]))
    assert found == [{}, {}]


def plain_outliers(rates: list[float], max_z: float) -> list[bool]:
    """The definition, slowly: |rate - median| over 1.4826 times the median of these distances."""

    def middle(values: list[float]) -> float:
        values = sorted(values)
        return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2

    median = middle(rates)
    spread = max(1.4826 * middle([abs(rate - median) for rate in rates]), 0.05)
    return [abs(rate - median) / spread > max_z for rate in rates]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0.3, 30.0)), min_size=50, max_size=90))
def test_outliers_are_those_of_the_plain_definition(pairs):
    rows = [row("好" * count, seconds, id=f"u{i}") for i, (count, seconds) in enumerate(pairs)]
    found = annotate(rows, [None] * len(rows), only("text_duration_outlier", max_z=3.0))
    rates = [float(np.log((count + 1) / (seconds + 0.5))) for count, seconds in pairs]
    assert [bool(reasons) for reasons in found] == plain_outliers(rates, 3.0)


def corpus_of(count: int, **more) -> list[dict]:
    return [
        row("好" * (8 + i % 5), 2.0 + 0.1 * (i % 7), id=f"{more}{i}", audio_filepath=f"{more}{i}", **more)
        for i in range(count)
    ]


def test_outliers_are_judged_within_their_group():
    slow = [{**r, "duration": 4 * r["duration"]} for r in corpus_of(60, subset="slow")]
    rows = corpus_of(60, subset="fast") + slow
    assert not any(annotate(rows, [None] * 120, only("text_duration_outlier")))
    moved = {**slow[0], "subset": "fast", "id": "moved", "text": "好"}
    found = annotate([*rows, moved], [None] * 121, only("text_duration_outlier"))
    assert [bool(reasons) for reasons in found] == [False] * 120 + [True]


def test_a_small_group_is_not_judged():
    rows = [*corpus_of(20), row("好", 60.0, id="odd")]
    corpus = CorpusCheck(only("text_duration_outlier"))
    for one in rows:
        corpus.see(one, None)
    assert not any(corpus.check(one, None) for one in rows)
    (group,) = corpus.rates().values()
    assert group["rows"] == 21 and "min" not in group


def test_chinese_and_english_are_told_apart_without_a_language():
    corpus = CorpusCheck(only("text_duration_outlier"))
    for one in [*corpus_of(3), row("good morning"), row("good", language="en")]:
        corpus.see(one, None)
    assert {name: group["rows"] for name, group in corpus.rates().items()} == {"han": 3, "latin": 1, "en": 1}


def test_a_rule_that_is_off_finds_nothing():
    bad = row("<b>\ufffd</b>", 0.1)
    off = AnnotationRules.from_config(dict.fromkeys(RULES, False))
    assert check_annotation(bad, {"error": "gone"}, off) == {}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"empty": True}, r"annotation\.empty: there is no such rule; did you mean empty_text"),
        ({"empty_text": 3}, r"annotation\.empty_text holds true, false or limits, not 3"),
        ({"empty_text": {"on": True}}, r"annotation\.empty_text\.on: there is no such key"),
        ({"empty_text": {"enabled": 1}}, r"annotation\.empty_text\.enabled is true or false, not 1"),
        ({"impossible_rate": {"grace_s": -1}}, r"impossible_rate\.grace_s is a number from 0 on, not -1"),
        ({"impossible_rate": {"characters_per_s": 9}}, r"characters_per_s holds limits"),
        ({"impossible_rate": {"characters_per_s": {"most": 9}}}, r"characters_per_s\.most: there is no such"),
        ({"impossible_rate": {"letters_per_s": {"min": 40}}}, r"min 40.0 is not below max 30.0"),
        (
            {"impossible_rate": {"letters_per_s": {"max": 0}}},
            r"letters_per_s\.max is a number above 0, not 0",
        ),
        ({"text_duration_outlier": {"max_z": "5"}}, r"max_z is a number above 0, not '5'"),
        ({"text_duration_outlier": {"min_rows": 1.5}}, r"min_rows is a whole number from 2 on"),
        ({"markup_left": {"ignore": ["tags"]}}, r"markup_left\.ignore: 'tags' is not one of html_entity"),
        ({"markup_left": {"allow": "<unk>"}}, r"markup_left\.allow is a list, not '<unk>'"),
        ({"duplicate": {"same": ["text"]}}, r"duplicate\.same: 'text' is not one of id, segment, audio"),
        (
            {"silence_labelled_as_speech": {"max_level_dbov": float("nan")}},
            r"max_level_dbov is a number, not",
        ),
        ({"foreign_script": {"max_share": 2}}, r"max_share is a number from 0 to 1, not 2"),
        ([1], r"annotation holds rules, not \[1\]"),
    ],
)
def test_a_bad_setting_is_named(section, message):
    with pytest.raises(ValueError, match=message):
        AnnotationRules.from_config(section)


def test_settings_are_merged_over_the_defaults():
    rules = AnnotationRules.from_config({"impossible_rate": {"characters_per_s": {"max": 9}}, "digits": True})
    limits = rules.as_dict()
    assert limits["impossible_rate"]["characters_per_s"] == {"min": 0.2, "max": 9.0}
    assert limits["digits"] == {"enabled": True}
    assert AnnotationRules().as_dict()["digits"] == {"enabled": False}, "the defaults stay as they are"


def speech_like(rate: int, seconds: float = 2.0) -> np.ndarray:
    """Syllables of a harmonic tone, four a second, with a pause in the middle."""
    time = np.arange(round(rate * seconds)) / rate
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
    envelope = np.maximum(0.0, np.sin(2 * np.pi * 4 * time)) * (np.abs(time - seconds / 2) > 0.3)
    return (0.2 * tone * envelope).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_facts_of_a_segment_are_measured(tmp_path, rate, suffix):
    path = tmp_path / f"a.{suffix}"
    samples = speech_like(rate, 4.0)
    write_audio(path, samples, rate)
    found = audio_facts(path, 1.0, 2.0)
    assert found["error"] is None
    assert (found["sample_rate"], found["channels"], found["file_duration"]) == (rate, 1, 4.0)
    assert (found["duration"], found["num_samples"]) == (2.0, 2 * rate)
    assert -30 < found["active_level_dbov"] < -10
    assert 0.5 < found["activity"] <= 1 and found["dynamics_db"] > 20
    part = np.rint(samples[rate : 3 * rate] * 32768) / 32768
    assert found["peak"] == pytest.approx(np.abs(part).max(), abs=1e-5)
    assert check_annotation(row("你好你好", 2.0), found, ONLY_DEFAULT) == {}


def test_facts_of_odd_audio(tmp_path):
    rng = np.random.default_rng(0)
    silence = measure(np.zeros(8000, np.float32), 8000)
    assert silence["active_level_dbov"] is None and silence["digital_silence_share"] == 1.0
    idle = measure(np.full(8000, 8 / 32768, np.float32), 8000)  # what A-law makes of silence
    assert idle["digital_silence_share"] == 1.0
    noise = measure((0.05 * rng.standard_normal(16000)).astype(np.float32), 8000)
    assert noise["dynamics_db"] < 3.0, "steady noise"
    clipped = measure(np.clip(8 * speech_like(8000), -1, 1), 8000)
    assert clipped["clipped_share"] > 0.1 and clipped["peak"] > 0.99
    short = measure(np.full(40, 0.1, np.float32), 8000)
    assert short["dynamics_db"] is None and short["num_samples"] == 40
    for name, found in {"silence": silence, "noise": noise}.items():
        reasons = check_annotation(
            row("你好你好"), {"error": None, "file_duration": 3.0} | found, ONLY_DEFAULT
        )
        assert "silence_labelled_as_speech" in reasons, name


def test_faults_of_files_are_told_not_raised(tmp_path):
    path = tmp_path / "a.wav"
    write_audio(path, speech_like(8000), 8000)
    assert "does not exist" in audio_facts(tmp_path / "b.wav")["error"]
    (tmp_path / "c.wav").write_bytes(b"RIFF no audio")
    assert audio_facts(tmp_path / "c.wav")["error"]
    cut = tmp_path / "d.wav"
    cut.write_bytes(path.read_bytes()[:2000])
    assert "damaged" in audio_facts(cut)["error"]
    behind = audio_facts(path, 5.0, 1.0)
    assert behind["error"] is None and behind["duration"] == 0.0
    found = check_annotation(row("好的", 1.0, offset=5.0), behind, ONLY_DEFAULT)
    assert list(found) == ["audio_shorter_than_segment"]
    assert audio_facts(path, 1.5, 1.0)["duration"] == 0.5


def test_the_digest_stands_for_the_samples(tmp_path):
    samples = speech_like(8000)
    paths = [Path(tmp_path / name) for name in ("a.wav", "b.flac", "c.wav")]
    for path, one in zip(paths, (samples, samples, samples * 0.99), strict=True):
        write_audio(path, one, 8000)
    digests = [audio_facts(path)["digest"] for path in paths]
    assert digests[0] == digests[1] != digests[2]
