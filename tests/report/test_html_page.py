"""report.html: every section is there, nothing is fetched, nothing runs, whatever the texts hold."""

import base64
import io
import json
import re
import shutil
import subprocess
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from nest_ssl.report.experiment import Answer, Command, DataSet, Experiment, read_experiment
from nest_ssl.report.html_page import html_page
from nest_ssl.report.runs import read_runs
from nest_ssl.report.stages import Call, StageState
from tests.report.experiments import make_run, rate, score_row, train, validation
from tests.report.experiments import scores as scores_json

EVIL = '</script><script>document.title="ran"</script><img src=x onerror="document.title=1">&amp;'
VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}
SECTIONS = [
    *("answers", "pipeline", "data", "training", "scores", "conditions", "keywords", "utterances"),
    *("channel", "settings", "environment", "commands", "missing"),
]


class Page(HTMLParser):
    """Tags with their attributes, the text, ids, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if attributes.get("id")]


def utterance(system: str, key: str, audio: Path | str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"system": system, "key": key, "audio_filepath": str(audio), "duration": 1.0}
    found |= {"reference": "密码 pin", "hypothesis": "密嘛 pin", "errors": 1, "characters": 5}
    edits = [["equal", "密", "密"], ["substitute", "码", "嘛"], ["equal", " pin", " pin"]]
    return found | {"edits": edits, "conditions": {"codec": "g711a"}} | more


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Experiment, tuple[dict, dict]]:
    """An experiment with everything, and texts that would do harm in every place that a file can fill."""
    folder = tmp_path_factory.mktemp("exp") / "tag"
    for name in ("encoder", "control_encoder"):
        rows = [validation(0, 4.0), *(train(step, 3.0 / step, lr=1e-3) for step in range(1, 21))]
        rows.append(validation(20, 2.0, val_acc=0.5))
        make_run(folder / name, rows, env={"command": ["x"]}, config="lr: 1\n")
    soundfile.write(folder / "a.wav", 0.1 * np.ones(8000), 8000)
    group = {"utterances": 9, "few": True, "cer": rate(0.4)}
    row = score_row("encoder", 0.5, kwer=rate(0.3), conditions={"codec": {EVIL: group, "g711a": group}})
    row["keywords"] = {EVIL: {"kwer": rate(0.3), "recall": 0.5}}
    time = datetime(2026, 11, 21, 9)
    stage = StageState(1, "encoder", "failed", time, time, 0.0, Path("x.log"), EVIL, folder)
    rows = [
        utterance("encoder", "a", "a.wav"),
        utterance("encoder", EVIL, EVIL, reference=EVIL, hypothesis=EVIL, edits=[["insert", "", EVIL]]),
        utterance("encoder", "gone", folder / "gone.wav", error=EVIL),
    ]
    comparison = {"a": EVIL, "b": "encoder", "field": "text", "metric": "cer", "difference": -0.1, "p": 0.5}
    experiment = Experiment(
        folder=folder,
        title=f"Tag {EVIL}",
        stages=[stage],
        runs=read_runs(folder),
        scores=scores_json(row, rules=[EVIL], comparisons=[comparison], keywords={EVIL: [EVIL]}),
        utterances=rows,
        data=[DataSet(EVIL, Path("report.json"), 3, 0.5, 70, {EVIL: 2})],
        answers=[Answer(EVIL, "4.0 -> 2.0", "met", [EVIL]), Answer("Which?", "none", "not met")],
        setting_changes={f"model.{EVIL}": {"encoder": EVIL, "control_encoder": None}},
        environment={EVIL: EVIL},
        commands=[Command(EVIL, f"python {EVIL}", EVIL, EVIL, EVIL)],
        calls=[Call(time, EVIL, "/recipe", f"bash run.sh {EVIL}")],
        weights={"encoder": {"ctc_weight": 0.3, "chosen_on": EVIL}},
        missing=[EVIL],
    )
    channel = {"preset": EVIL, "noise": {"kind": EVIL, "snr_db": 3.0}}
    example = {"id": EVIL, "text": EVIL, "audio_filepath": str(folder / "a.wav"), "channel": channel}
    return experiment, (example, example)


@pytest.fixture(scope="module")
def html(whole) -> str:
    return html_page(*whole)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_every_section_is_there_and_in_the_list_of_sections(page):
    ids = [attributes.get("id") for attributes in page.all("section")]
    assert ids == SECTIONS
    links = [attributes["href"] for attributes in page.all("a")]
    assert links[1:] == [f"#{name}" for name in SECTIONS]


def test_every_link_leads_somewhere_and_no_id_is_given_twice(page):
    assert {attributes["href"].removeprefix("#") for attributes in page.all("a")} <= set(page.ids)
    labels = [a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert set(labels) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_tags_are_closed_in_order(page):
    assert page.faults == []
    assert page.open == []


def test_nothing_is_loaded_from_anywhere(html, page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:audio/flac;base64,", "data:image/png;base64,")), (
                tag,
                value[:80],
            )
    [style] = re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    assert not re.search(r"@import|url\(|https?:", style)
    assert not {"link", "iframe", "object", "embed", "base", "form", "img"} & {tag for tag, _ in page.tags}


def test_nothing_runs_and_the_policy_forbids_it(page):
    assert page.all("script") == []
    assert not [(tag, name) for tag, a in page.tags for name in a if name.startswith("on")]
    [policy] = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_harmful_texts_are_shown_as_they_are(page):
    shown = "".join(page.text)
    for words in (f"Tag {EVIL}", f"python {EVIL}", f"bash run.sh {EVIL}", f"{EVIL}, SNR 3 dB"):
        assert words in shown


def test_every_picture_and_player_has_words_for_it(page):
    pictures = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(pictures) >= 8
    assert all((a.get("aria-label") or "").strip() for a in [*pictures, *page.all("audio")])


def test_wide_tables_scroll_in_their_box_by_keyboard_too(html, page):
    assert len(page.all("table")) == html.count('<div class="scroll')
    boxes = [a for a in page.all("div") if "scroll" in (a.get("class") or "").split()]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in boxes)


def test_players_hold_the_audio_of_the_rows(page):
    sources = [attributes["src"] for attributes in page.all("audio")]
    assert len(sources) == 3  # one utterance whose file is there, both sides of the channel
    samples, file_rate = soundfile.read(io.BytesIO(base64.b64decode(sources[0].partition(",")[2])))
    assert (len(samples), file_rate) == (8000, 8000)


def test_audio_that_is_gone_is_said(page):
    assert any("the audio file is gone" in text and "gone.wav" in text for text in page.text)


def test_a_chinese_substitution_stands_below_its_reference(html):
    pair = '<span class="pair sub"><span class="r">码</span><span class="h">嘛</span></span>'
    assert pair in html


def test_verdicts_are_told_in_words_and_arrows_are_drawn(page):
    text = "".join(page.text)
    assert "✓ met" in text
    assert "✗ not met" in text
    assert "4.0 → 2.0" in text


def test_a_setting_is_marked_where_a_control_run_differs(html):
    cells = re.findall(r'<span class="(differs|same)">', html)
    assert cells == ["same", "differs"]


def test_one_unfinished_pretrain_has_a_page(tmp_path):
    make_run(tmp_path / "exp" / "pretrain", [train(1, 5.0)], env={}, end='{"kind": "tra')
    found = Page(html_page(read_experiment(tmp_path / "exp")))
    assert {"answers", "training", "missing"} <= set(found.ids)
    assert not {"scores", "utterances", "conditions", "channel", "pipeline"} & set(found.ids)
    assert found.faults == []


def test_a_folder_with_nothing_has_a_page(tmp_path):
    found = Page(html_page(Experiment(tmp_path, "nothing", missing=["no run"])))
    assert "no run" in "".join(found.text)


def test_twenty_runs_and_hundreds_of_utterances_stay_below_5_mb(tmp_path):
    noise = np.random.default_rng(0).uniform(-1, 1, 16000 * 15)  # FLAC cannot make it smaller
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    for number in range(20):
        rows = [train(step, 1.0 + step % 7, max_steps=900, lr=1e-3, acc=0.1) for step in range(1, 900)]
        make_run(tmp_path / f"run{number}", rows, env={})
    utterances = [utterance("lora", str(n), "a.wav", errors=n + 1, duration=15.0) for n in range(500)]
    experiment = Experiment(tmp_path, "many", runs=read_runs(tmp_path), utterances=utterances)
    page = html_page(experiment)
    assert len(page.encode()) < 5e6
    assert "to keep this page small" in page
    assert page.count('<article class="box utterance">') == 16


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("neither chromium nor google-chrome is installed")
    return found


FRAME = """<body>
<iframe id="page" src="report.html" style="border:0;width:WIDTHpx;height:900px"></iframe>
<script>
onload = () => setTimeout(() => {
  const page = document.getElementById("page").contentDocument;
  const beyond = [...page.querySelectorAll("main *")].filter(e =>
    e.getBoundingClientRect().right > WIDTH + 1 && !e.closest(".scroll, .hidden"));
  const found = document.createElement("pre");
  found.textContent = JSON.stringify({
    title: page.title,
    wide: page.documentElement.scrollWidth > page.documentElement.clientWidth,
    beyond: beyond.slice(0, 5).map(e => e.outerHTML.slice(0, 80)),
    seconds: [...page.querySelectorAll("audio")].map(a => a.duration),
  });
  document.body.append(found);
}, 1000)</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_a_browser_runs_no_script_plays_the_audio_and_needs_no_sideways_scrolling(html, tmp_path, width):
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += [f"--window-size={width + 200},1000", "--virtual-time-budget=10000", "--dump-dom"]
    command = [chromium(), *flags, (tmp_path / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=480, check=False)
    told = re.search(r"<pre>(.*?)</pre>", done.stdout, flags=re.DOTALL)
    assert told, done.stderr[-2000:]
    found = json.loads(told[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found == {"title": f"Tag {EVIL}", "wide": False, "beyond": [], "seconds": [1, 1, 1]}
