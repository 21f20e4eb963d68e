"""What is to be decoded, and what of its row goes along into the hypothesis."""

from __future__ import annotations

import json

from nest_ssl.decoding.fun_asr_items import PromptOptions, items_of_rows
from nest_ssl.text.conditions import conditions_of


def test_the_record_of_the_channel_goes_along_for_the_breakdown_of_scores(tmp_path):
    record = {"preset": "p", "legs": [{"codec": "amr_nb", "loss": None}], "noise": {"kind": "n", "snr_db": 7}}
    row = {"audio_filepath": "a.wav", "duration": 1.5, "text": "hi", "id": "u", "lang": "en", "speaker": "s"}
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(row | {"channel": record}) + "\n", encoding="utf-8")
    (item,) = items_of_rows([path], PromptOptions())
    assert (item.error, item.reference) == (None, "hi")
    found = conditions_of(item.copied, 1.5)
    stated = ("codec", "loss", "snr", "preset", "lang", "speaker")
    assert [found[name] for name in stated] == ["amr_nb", "none", "5 to 10 dB", "p", "en", "s"]
