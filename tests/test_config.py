from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from nest_ssl.config import apply_overrides, build, has_key, leaves, load_config, resolved

YAML = """
name: NEST
model:
  width: 4
  sizes: [1, 2]
  depth: ${model.width}
  file: ???
  area: ${multiply:${model.width},${model.depth}}
optim: {lr: 5.0, sched: null}
"""


@pytest.fixture
def path(tmp_path) -> Path:
    file = tmp_path / "conf with space.yaml"
    file.write_text(YAML, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model.width=8", "model.width", 8),
        ("optim.lr=1e-4", "optim.lr", 1e-4),
        ("optim.sched=null", "optim.sched", None),
        ("model.file=a b=c.jsonl", "model.file", "a b=c.jsonl"),
        ("model.file=", "model.file", ""),
        ("model.file=/data/run #1: calls/train.jsonl", "model.file", "/data/run #1: calls/train.jsonl"),
        ("model.file=数据/train.jsonl", "model.file", "数据/train.jsonl"),
        ("model.sizes=[3,4,5]", "model.sizes", [3, 4, 5]),
        ("model.sizes[1]=7", "model.sizes", [1, 7]),
        ("model.width=${optim.lr}", "model.width", 5.0),
        ("+model.heads=2", "model.heads", 2),
        ("+trainer.seed=3", "trainer.seed", 3),
        ("++model.width=6", "model.width", 6),
        ("++model.more.less=true", "model.more.less", True),
        ("optim.sched={name: Noam, min_lr: 1e-6}", "optim.sched", {"name": "Noam", "min_lr": 1e-6}),
    ],
)
def test_overrides_follow_hydras_grammar(path, override, key, value):
    config = load_config(path, [override])
    got = OmegaConf.select(config, key)
    assert (OmegaConf.to_container(got) if OmegaConf.is_config(got) else got) == value


def test_a_minus_tilde_removes_a_key(path):
    assert "depth" not in load_config(path, ["~model.depth"]).model
    assert "width" not in load_config(path, ["~model.width=4", "~model.depth", "~model.area"]).model


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widht=8", r"no key 'model\.widht' \(did you mean model\.width\?\); write \+model\.widht="),
        ("+model.width=8", r"'model\.width' exists already"),
        ("~model.nothing", r"no key 'model\.nothing' to remove"),
        ("~model.width=5", "has another value"),
        ("model.width", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("+++a=3", "not of the form key=value"),
        ("model.width=[1", "not readable as YAML"),
        ("model.width=[{low:1}]", "a blank must follow each colon"),
        ("model.width.deep=1", r"no key 'model\.width\.deep'"),
    ],
)
def test_a_bad_override_is_quoted_with_the_way_out(path, override, message):
    with pytest.raises(ValueError, match=message):
        load_config(path, [override])


def test_an_interpolation_follows_what_it_names(path):
    config = load_config(path, ["model.width=6", "model.file=x"])
    assert resolved(config)["model"]["depth"] == 6
    assert resolved(config)["model"]["area"] == 36


def test_missing_values_are_named_all_at_once(path):
    config = load_config(path, ["+model.other=???"])
    with pytest.raises(
        ValueError, match=r"must be given: model\.file, model\.other \(for example model\.file="
    ):
        resolved(config)


def test_a_mistyped_key_in_code_raises(path):
    config = load_config(path)
    with pytest.raises((ConfigAttributeError, ConfigKeyError)):
        _ = config.model.widht


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "not readable as YAML"), ("- 1\n- 2\n", "must be a mapping")]
)
def test_a_bad_file_is_named(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.yaml: .*{message}"):
        load_config(tmp_path / "bad.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml does not exist"):
        load_config(tmp_path / "nowhere.yaml")


def test_defaults_lie_below_the_file(path):
    defaults = OmegaConf.create({"model": {"width": 1, "extra": 2}, "trainer": {"seed": 0}})
    config = load_config(path, ["trainer.seed=5"], defaults=defaults)
    assert (config.model.width, config.model.extra, config.trainer.seed) == (4, 2, 5)


def test_has_key_sees_nulls_missing_values_and_interpolations(path):
    config = load_config(path)
    for key in ("optim.sched", "model.file", "model.depth", "model.sizes.0"):
        assert has_key(config, key), key
    for key in ("optim.sched.name", "model.sizes.2", "x"):
        assert not has_key(config, key), key


class Thing:
    def __init__(self, width: int, depth: int = 1):
        self.width, self.depth = width, depth


TARGETS = {"nemo.collections.asr.modules.Thing": Thing}


def test_leaves_are_values_under_dotted_keys():
    settings = {"a": {"b": 1, "c": {"d": [2]}}, "e": None, "f": {}}
    assert dict(leaves(settings)) == {"a.b": 1, "a.c.d": [2], "e": None, "f": {}}


def test_a_target_is_built_from_the_table_only():
    section = OmegaConf.create({"_target_": "nemo.collections.asr.modules.Thing", "width": 3})
    thing = build(section, TARGETS, "model.thing", depth=2)
    assert (thing.width, thing.depth) == (3, 2)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"width": 1}, r"model\.thing has no _target_"),
        ({"_target_": "os.system", "width": 1}, r"'os\.system' is not one of the known names"),
        ({"_target_": "nemo.collections.asr.modules.Thin", "width": 1}, r"did you mean nemo.*Thing"),
        (
            {"_target_": "nemo.collections.asr.modules.Thing", "widht": 1},
            r"model\.thing\.widht: .*mean width",
        ),
        ({"_target_": "nemo.collections.asr.modules.Thing"}, r"model\.thing\.width: Thing needs this key"),
    ],
)
def test_a_section_that_cannot_be_built_is_refused_by_key(section, message):
    with pytest.raises(ValueError, match=message):
        build(section, TARGETS, "model.thing")


def test_overrides_apply_in_order():
    config = OmegaConf.create({"a": 1})
    apply_overrides(config, ["a=2", "+b=${a}", "a=3"])
    assert resolved(config) == {"a": 3, "b": 3}
