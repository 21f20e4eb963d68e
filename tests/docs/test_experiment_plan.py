"""docs/EXPERIMENT_PLAN.md against the settings of the stages."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.docs.pages import ROOT, page, table_rows

PLAN = page("EXPERIMENT_PLAN.md")
CONF = ROOT / "conf" / "fun_asr_nano_8k"
STAGES = {
    "1 encoder": "stage1_encoder_adapt",
    "2 adaptor": "stage2_adaptor_align",
    "3 lora": "stage3_lora_domain",
}


def settings(stage: str) -> dict:
    return yaml.safe_load((CONF / f"{STAGES[stage]}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("stage", STAGES)
def test_learning_rates_and_epochs_are_those_of_the_settings(stage):
    (row,) = [row for row in table_rows(PLAN, "| stage | trains") if row[0] == stage]
    assert float(row[3]) == float(settings(stage)["optim_conf"]["lr"])
    (time,) = [row for row in table_rows(PLAN, "| stage | audio-s/s") if row[0] == stage]
    assert int(time[3]) == settings(stage)["train_conf"]["max_epoch"]


def test_what_the_sections_say_of_batches_and_patience_is_set():
    for stage in STAGES:
        conf = settings(stage)
        assert conf["dataset_conf"]["batch_size"] == 6000 and "6,000" in PLAN
        assert conf["train_conf"]["early_stopping_patience"] == conf["train_conf"]["avg_nbest_model"] == 5
    assert settings("1 encoder")["scheduler_conf"]["warmup_steps"] == 1000
    assert settings("3 lora")["scheduler_conf"]["warmup_steps"] == 200


def test_optimiser_memory_is_twelve_bytes_a_trained_value():
    trained = (221_136_992, 12_604_928 + 8_021_632 + 31_044_195, 2_293_760)
    assert [f"{12 * count / 1e9:.2f} GB" for count in trained] == ["2.65 GB", "0.62 GB", "0.03 GB"]
    assert "2.65 GB, 0.62 GB and 0.03 GB" in PLAN


def test_fixed_memory_of_the_released_model_is_that_of_the_formula():
    trained = (221_136_992, 12_604_928 + 8_021_632 + 31_044_195, 2_293_760)
    (row,) = [
        row for row in table_rows(page("fun_asr_nano.md"), "| memory of") if row[0].startswith("weights")
    ]
    assert row[1:] == [f"{(4 * 868_857_667 + 12 * count) / 1e9:.1f}" for count in trained]


def test_the_default_run_has_one_set_of_figures():
    """README shows what `run.sh` prints, RESULTS.md adds intervals, the plan has the CER of each stage."""
    results = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = re.findall(r"^(\w+) \(joint\): CER (\S+) WER (\S+) KWER (\S+)", readme, re.MULTILINE)
    table = table_rows(results, "| system | CER |")
    assert len(printed) == len(table) == 5
    (cers,) = [row for row in table_rows(readme, "| | base |") if row[0] == "CER"]
    assert cers[1:] == [row[1] for row in printed]
    for (name, *rates), row in zip(printed, table, strict=True):
        assert name in row[0]
        for rate, cell in zip(rates, row[1:4], strict=True):
            assert float(cell.split()[0]) == pytest.approx(float(rate), abs=0.051)
    base, _, encoder, adaptor, lora = (row[1].split()[0] for row in table)
    assert f"CER {base} to {encoder} %, relative gain 30 %" in PLAN
    assert f"CER {encoder} to {adaptor} %" in PLAN and f"CER {adaptor} to {lora} %" in PLAN


def test_nest_table_is_that_of_the_results():
    results = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    for row in table_rows(PLAN, "| step (egs/asterisk")[:4]:
        assert f"| {' | '.join(row)} |" in results
