from __future__ import annotations

import json
import re

from nest_ssl.training.log import RunLog, clock

ROW = {
    "step": 20,
    "max_steps": 40,
    "epoch": 1,
    "batch": 4,
    "epoch_batches": 16,
    "loss": 5.12341,
    "lr": 1.2e-3,
    "grad_norm": 0.9123,
    "hours_seen": 0.5,
    "audio_s/s": 812.3,
    "mem_gb": 1.31,
    "eta": "00:00:20",
    "masked_acc": 0.125,
}


def test_a_line_of_train_log_has_the_documented_form(tmp_path):
    log = RunLog(tmp_path, 0, tensorboard=False)
    log.training(ROW)
    log.close()
    line = (tmp_path / "train.log").read_text().strip()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d step 20/40 epoch 1 batch 4/16 loss 5\.1234 lr 1\.20e-03 "
        r"grad_norm 0\.912 "
        r"hours_seen 0\.50 audio_s/s 812 mem_gb 1\.31 eta 00:00:20 masked_acc 0\.1250",
        line,
    ), line


def test_metrics_jsonl_has_the_same_keys_in_full(tmp_path):
    log = RunLog(tmp_path, 0, tensorboard=False)
    log.training({**ROW, "loss": float("nan")})
    log.close()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["kind"] == "train"
    assert row["loss"] is None
    assert list(row)[2:] == list(ROW)


def test_a_resumed_run_takes_figures_of_lost_steps_out_but_keeps_the_log(tmp_path):
    log = RunLog(tmp_path, 0, tensorboard=False)
    for step in (10, 20, 30):
        log.training({**ROW, "step": step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    log = RunLog(tmp_path, 20, tensorboard=False)
    log.training({**ROW, "step": 30})
    log.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        10,
        20,
        30,
    ]
    assert len((tmp_path / "train.log").read_text().splitlines()) == 4


def test_tensorboard_has_nemos_tags(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, 0, tensorboard=True)
    log.training(ROW)
    log.validation({"step": 20, "max_steps": 40, "epoch": 1, "val_loss": 4.5})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = events.Tags()["scalars"]
    assert {"train_loss", "val_loss", "learning_rate", "global_step"} <= set(tags)
    assert [(event.step, round(event.value, 4)) for event in events.Scalars("train_loss")] == [(20, 5.1234)]


def test_times_are_shown_as_a_clock():
    assert [clock(0), clock(3661.4), clock(360000), clock(float("inf"))] == [
        "00:00:00",
        "01:01:01",
        "100:00:00",
        "--:--:--",
    ]
