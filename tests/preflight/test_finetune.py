"""bin.finetune runs the checks before its first step, and stops at an error."""

import pytest

from nest_ssl.bin import finetune


def test_finetune_stops_before_the_first_step(world):
    words = [word for word in world.argv("++frontend_conf.fs=8000") if word != "--no-probe"]
    place = words.index("--device")
    words = words[:place] + words[place + 2 :]
    words += ["++train_conf.devices=1", "++train_conf.accelerator=cpu", "++train_conf.use_bf16=false"]
    with pytest.raises(ValueError, match=r"frontend_conf\.fs is 8000, the model was trained at 16000"):
        finetune.main(words)
    assert not list(world.out.glob("checkpoints/step-*"))
