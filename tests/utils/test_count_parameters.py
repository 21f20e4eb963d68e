"""utils/count_parameters.py: NeMo's counts, for every size and for any configuration."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "utils" / "count_parameters.py"

# Parameters of NeMo's models: encoder, decoder, frozen, total, trained.
COUNTS = {
    "Small": (12_600_240, 1_449_984, 141_392, 14_191_616, 14_050_224),
    "Medium": (26_128_640, 2_105_344, 141_392, 28_375_376, 28_233_984),
    "Large": (108_762_112, 4_202_496, 141_392, 113_106_000, 112_964_608),
    "XLarge": (607_306_752, 8_396_800, 141_392, 615_844_944, 615_703_552),
    "XXLarge": (1_060_543_488, 8_396_800, 141_392, 1_069_081_680, 1_068_940_288),
}


@pytest.fixture
def table(capsys):
    """Calls the script; gives the printed table, {row: {column: number}}, and all that was printed."""
    spec = importlib.util.spec_from_file_location("count_parameters", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def call(*arguments):
        assert script.main(list(arguments)) == 0
        output = capsys.readouterr().out
        header, *rows = output.split("\n\n")[0].splitlines()
        columns = header.split()[1:]
        numbers = {row.split()[0]: row.split()[-len(columns) :] for row in rows}
        return {
            name: dict(zip(columns, (int(n.replace(",", "")) for n in row), strict=True))
            for name, row in numbers.items()
        }, output

    return call


def test_the_five_sizes(table):
    sizes, output = table("--sizes")
    assert list(sizes) == list(COUNTS)
    for name, numbers in sizes.items():
        encoder, decoder, frozen, total, trained = COUNTS[name]
        assert numbers == {
            "encoder": encoder,
            "decoder": decoder,
            "total": total,
            "trained": trained,
            "frozen": frozen,
        }
    assert "120M" in output


def test_counts_are_those_recorded_from_nemo(goldens):
    path = goldens.parent / "spec" / "nest_param_counts.json"
    if not path.is_file():
        pytest.skip(f"no recorded counts at {path}")
    recorded = json.loads(path.read_text())
    for name, (encoder, decoder, frozen, total, trained) in COUNTS.items():
        parts = recorded[name]
        assert parts["encoder"]["total"] == encoder
        assert parts["decoder"]["total"] == decoder
        assert parts["quantizer"]["total"] + parts["mask_processor"]["total"] == frozen
        assert (parts["_all"]["total"], parts["_all"]["trainable"]) == (total, trained)


def test_module_table_of_any_configuration(table):
    rows, _ = table("model.encoder.n_layers=2", "model.encoder.d_model=176", "model.encoder.n_heads=4")
    assert rows["encoder"]["total"] == 590_000 + 2 * 750_640  # pre-encoder and layer of the Small row
    assert rows["quantizer"] == {"total": 141_312, "trained": 0, "frozen": 141_312}
    assert rows["all"]["total"] == sum(row["total"] for name, row in rows.items() if name != "all")


def test_sizes_in_the_configurations_header_are_these():
    text = (ROOT / "conf" / "nest_fast-conformer.yaml").read_text()
    for name, (*_, total, trained) in COUNTS.items():
        line = next(line for line in text.splitlines() if line.split()[1:2] == [name])
        assert f"{total:,}" in line
        assert f"{trained:,}" in line


def test_a_wrong_override_ends_in_one_line():
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "model.encoder.n_layer=2"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "n_layer" in result.stderr
    assert "Traceback" not in result.stderr


def test_shared_parameters_count_once(table):
    pre_conv, post_conv = table()[0], table("model.mask_position=post_conv")[0]
    assert post_conv["encoder"] == pre_conv["encoder"]
    assert post_conv["pre_encoder"]["total"] == 0
    assert post_conv["mask_processor"]["total"] == 512
    assert post_conv["all"]["trained"] == pre_conv["all"]["trained"]


def test_a_fun_asr_directory_is_counted_part_by_part(table):
    pytest.importorskip("transformers")
    counts, output = table("--config", str(ROOT / "tests" / "golden" / "funasr" / "nano_2512"))
    trained = ("ctc_decoder", "ctc")  # as published: all else is frozen
    expected = {
        "audio_encoder": 221_136_992,
        "llm": 596_049_920,
        "audio_adaptor": 12_604_928,
        "ctc_decoder": 8_021_632,
        "ctc": 31_044_195,
    }
    assert {name: row["total"] for name, row in counts.items()} == {**expected, "all": 868_857_667}
    assert {name for name, row in counts.items() if row["trained"]} == {*trained, "all"}
    assert "120M" not in output


def test_the_stages_train_what_they_say(table):
    pytest.importorskip("transformers")
    config = str(ROOT / "tests" / "golden" / "funasr" / "nano_2512" / "config.yaml")
    counts, _ = table("--config", config, "audio_encoder_conf.freeze=false", "ctc_decoder_conf.freeze=true")
    assert counts["audio_encoder"]["trained"] == 221_136_992
    assert counts["ctc_decoder"]["frozen"] == 8_021_632
