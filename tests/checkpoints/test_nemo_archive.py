"""The .nemo archive: round trips, and archives that must not be trusted."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile

import pytest
import torch

from nest_ssl.checkpoints import nemo_archive
from nest_ssl.checkpoints.nemo_archive import is_nemo, read_artifacts, read_nemo, write_nemo
from nest_ssl.config import load_config
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from tests.golden.cases import SAMPLE
from tests.models.small import CONFIG, noise_batch, signals_of, small_model

TINY = SAMPLE / "tiny_denoise.nemo"
TARGET = "nemo.collections.asr.models.ssl_models.EncDecDenoiseMaskedTokenPredModel"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.nemo"
    small_model().save_to(path)
    return path.read_bytes()


@pytest.fixture
def archive(tmp_path, saved):
    path = tmp_path / "model.nemo"
    path.write_bytes(saved)
    return path


def members_of(path):
    with tarfile.open(path) as tar:
        return {m.name: (m.type, tar.extractfile(m).read() if m.isfile() else b"") for m in tar.getmembers()}


def rewritten(path, *extra, without=()):
    """The archive again with members added (TarInfo, bytes) or left out."""
    members = members_of(path)
    with tarfile.open(path, "w") as tar:
        for name, (kind, content) in members.items():
            if name not in without:
                info = tarfile.TarInfo(name)
                info.type, info.size = kind, len(content)
                tar.addfile(info, io.BytesIO(content))
        for info, content in extra:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_nemos_own_archive_is_restored_and_rewritten_alike(tmp_path):
    config, state = read_nemo(TINY)
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(TINY)
    assert list(model.state_dict()) == list(state)
    path = tmp_path / "again.nemo"
    model.save_to(path)
    config_again, state_again = read_nemo(path)
    assert config_again == config
    assert list(state_again) == list(state)
    for key, tensor in state.items():
        assert state_again[key].dtype == tensor.dtype
        assert torch.equal(state_again[key], tensor), key
    assert state_again["quantizer.codebooks"].dtype == torch.float64


def test_archive_has_nemos_layout(archive):
    with gzip.open(TINY) as file:
        nemos = members_of_bytes(file.read())
    ours = members_of(archive)
    assert [(name, kind) for name, (kind, _) in ours.items()] == [
        (name, kind) for name, (kind, _) in nemos.items()
    ]


def members_of_bytes(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {m.name: (m.type, b"") for m in tar.getmembers()}


def test_weights_are_a_flat_state_dict_of_plain_tensors(archive):
    _, content = members_of(archive)["./model_weights.ckpt"]
    state = torch.load(io.BytesIO(content), weights_only=True)
    assert list(state) == list(small_model().state_dict())


def test_restored_model_computes_the_same(archive):
    saved, restored = small_model().eval(), EncDecDenoiseMaskedTokenPredModel.restore_from(archive).eval()
    results = []
    for model in (saved, restored):
        torch.manual_seed(0)
        results.append(model(**signals_of(noise_batch(24000, 18000)), apply_mask=True))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_configuration_is_saved_resolved_and_unedited(archive):
    config, _ = read_nemo(archive)
    assert config.pop("target") == TARGET
    assert config.pop("nemo_version")
    assert config == dict(small_model().cfg)
    assert config["quantizer"]["combine_time_steps"] == 8
    assert config["train_ds"]["manifest_filepath"] == "???"


def test_same_model_gives_the_same_bytes(archive, tmp_path):
    small_model().save_to(tmp_path / "again.nemo")
    assert (tmp_path / "again.nemo").read_bytes() == archive.read_bytes()


def test_gzipped_archive_is_read(archive, tmp_path):
    packed = tmp_path / "packed.nemo"
    packed.write_bytes(gzip.compress(archive.read_bytes()))
    EncDecDenoiseMaskedTokenPredModel.restore_from(packed)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("MAX_CONFIG_BYTES", r"model_config\.yaml has \d+ bytes, more than 100; no configuration"),
        (
            "MAX_PACKED_BYTES",
            r"model_config\.yaml and what precedes it claim \d+ bytes; unpack .* with gunzip",
        ),
    ],
)
def test_what_would_fill_the_memory_is_refused(archive, tmp_path, monkeypatch, limit, message):
    packed = tmp_path / "packed.nemo"
    packed.write_bytes(gzip.compress(archive.read_bytes()))
    monkeypatch.setattr(nemo_archive, limit, 100)
    with pytest.raises(ValueError, match=rf"packed\.nemo: .*{message}"):
        read_nemo(packed)


def test_weights_that_are_not_packed_may_have_any_size(archive, monkeypatch):
    monkeypatch.setattr(nemo_archive, "MAX_PACKED_BYTES", 100)
    assert read_nemo(archive)[1]


def test_failed_save_leaves_the_old_file(archive, monkeypatch):
    before = archive.read_bytes()
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space"):
        small_model(seed=1).save_to(archive)
    assert archive.read_bytes() == before
    assert list(archive.parent.iterdir()) == [archive]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_truncated_archive_is_named(archive, share):
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"model\.nemo"):
        read_nemo(archive)


def test_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "model.nemo"
    path.write_bytes(TINY.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"model\.nemo is not a complete"):
        read_nemo(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7], ids=["at the start", "in a tensor", "in another"])
def test_changed_bytes_in_the_weights_are_noticed(archive, share):
    content = bytearray(archive.read_bytes())
    start = content.index(b"PK\x03\x04") + int(0.9 * share * (len(content) - content.index(b"PK\x03\x04")))
    content[start : start + 64] = bytes(byte ^ 0xFF for byte in content[start : start + 64])
    archive.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"model\.nemo: model_weights\.ckpt is damaged"):
        read_nemo(archive)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (member("/etc/passwd"), "outside"),
        (member("../model_config.yaml"), "outside"),
        (member("./a/../../b"), "outside"),
        (member("./model_config.yaml"), "twice"),
        (member("model_weights.ckpt"), "twice"),
        (member("./x", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (member("./x", tarfile.LNKTYPE, "./model_config.yaml"), "link"),
        (member("./x", tarfile.CHRTYPE), "device"),
    ],
    ids=[
        "absolute",
        "parent",
        "parent inside",
        "duplicate",
        "duplicate by another spelling",
        "symlink",
        "hard link",
        "device",
    ],
)
def test_dangerous_member_is_refused(archive, extra, message):
    with pytest.raises(ValueError, match=message):
        read_nemo(rewritten(archive, (extra, b"")))


@pytest.mark.parametrize("name", ["model_config.yaml", "model_weights.ckpt"])
def test_missing_member_is_named(archive, name):
    with pytest.raises(ValueError, match=f"it has no {name}"):
        read_nemo(rewritten(archive, without=(f"./{name}",)))


def test_pickled_code_is_not_run(archive):
    class Code:
        def __reduce__(self):
            return (os.mkdir, (str(archive.parent / "ran"),))

    buffer = io.BytesIO()
    torch.save({"weight": Code()}, buffer)
    rewritten(archive, (member("./model_weights.ckpt"), buffer.getvalue()), without=("./model_weights.ckpt",))
    with pytest.raises(ValueError, match="or more than plain tensors"):
        read_nemo(archive)
    assert not (archive.parent / "ran").exists()


def test_a_record_that_is_twice_in_the_weights_is_refused(archive):
    with tarfile.open(archive) as tar:
        content = io.BytesIO(tar.extractfile("./model_weights.ckpt").read())
    with zipfile.ZipFile(content, "a") as records:
        name = next(name for name in records.namelist() if name.endswith("data.pkl"))
        with pytest.warns(UserWarning, match="Duplicate"):
            records.writestr(name, b"N.")
    weights = (member("./model_weights.ckpt"), content.getvalue())
    rewritten(archive, weights, without=("./model_weights.ckpt",))
    with pytest.raises(ValueError, match=r"model_weights\.ckpt is damaged.*data\.pkl is there twice"):
        read_nemo(archive)


def test_no_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.nemo"):
        read_nemo(tmp_path / "none.nemo")


def test_other_class_of_model_is_refused(archive):
    config, state = read_nemo(archive)
    target = "nemo.collections.asr.models.EncDecCTCModel"
    write_nemo(archive, config, state, target=target)
    with pytest.raises(ValueError, match=target):
        EncDecDenoiseMaskedTokenPredModel.restore_from(archive)


def test_keys_and_shapes_must_fit(archive):
    config, state = read_nemo(archive)
    renamed = {key.replace("decoder.", "dec."): value for key, value in state.items()}
    write_nemo(archive, config, renamed, target=TARGET)
    with pytest.raises(
        ValueError, match=r"2 missing: decoder\.decoder_layers.*2 unexpected: dec\.decoder_layers"
    ):
        EncDecDenoiseMaskedTokenPredModel.restore_from(archive)
    EncDecDenoiseMaskedTokenPredModel.restore_from(archive, strict=False)
    state["encoder.pre_encode.out.bias"] = torch.zeros(7)
    write_nemo(archive, config, state, target=TARGET)
    with pytest.raises(
        ValueError, match=r"1 of another shape: encoder\.pre_encode\.out\.bias \(7,\) instead of \(24,\)"
    ):
        EncDecDenoiseMaskedTokenPredModel.restore_from(archive, strict=False)


def test_a_users_subclass_is_saved_as_the_class_nemo_knows(tmp_path):
    class Mine(EncDecDenoiseMaskedTokenPredModel):
        pass

    Mine(small_model().cfg).save_to(save_path=tmp_path / "mine.nemo")
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(restore_path=tmp_path / "mine.nemo")
    assert type(restored) is EncDecDenoiseMaskedTokenPredModel


# ---------------------------------------------------------------------- layouts


def packed_as(path, members, mode="w"):
    """A tar of {name: content}; a name with a slash at its end is a folder."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type, info.size = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE, len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def parts(archive):
    members = members_of(archive)
    return members["./model_config.yaml"][1], members["./model_weights.ckpt"][1]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
    "names",
    [
        ("./", "./model_config.yaml", "./model_weights.ckpt"),
        ("model_config.yaml", "model_weights.ckpt"),
        ("model_weights.ckpt", "model_config.yaml"),
        ("nest/", "nest/model_config.yaml", "nest/model_weights.ckpt"),
        ("./nest/v1/model_config.yaml", "./nest/v1/model_weights.ckpt", "./nest/v1/0123_tokenizer.model"),
        ("model_config.yaml", "model_weights.ckpt", "asr_model/model_config.yaml", "vocab.txt"),
    ],
    ids=["NeMo", "no dot", "weights first", "folder", "folders and tokenizer", "model within"],
)
def test_layouts_that_nemo_has_written_are_read(archive, parts, names, mode):
    config, state = read_nemo(archive)
    content = dict.fromkeys(names, b"")
    content[next(n for n in names if n.endswith("model_config.yaml"))] = parts[0]
    content[next(n for n in names if n.endswith("model_weights.ckpt"))] = parts[1]
    packed_as(archive, content, mode)
    assert is_nemo(archive)
    config_again, state_again = read_nemo(archive)
    assert config_again == config
    assert list(state_again) == list(state)


def test_an_archive_without_a_version_is_read(archive, parts):
    lines = [line for line in parts[0].decode().splitlines() if not line.startswith("nemo_version")]
    packed_as(archive, {"model_config.yaml": "\n".join(lines).encode(), "model_weights.ckpt": parts[1]})
    assert "nemo_version" not in read_nemo(archive)[0]


def test_weights_in_torchs_first_format_are_read(archive, parts):
    state, buffer = read_nemo(archive)[1], io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    packed_as(archive, {"model_config.yaml": parts[0], "model_weights.ckpt": buffer.getvalue()})
    again = read_nemo(archive)[1]
    assert all(torch.equal(again[key], value) for key, value in state.items())


def test_code_in_torchs_first_format_is_not_run(archive, parts, tmp_path):
    class Code:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    buffer = io.BytesIO()
    torch.save({"a": Code()}, buffer, _use_new_zipfile_serialization=False)
    packed_as(archive, {"model_config.yaml": parts[0], "model_weights.ckpt": buffer.getvalue()})
    with pytest.raises(ValueError, match=r"model\.nemo: model_weights\.ckpt is damaged"):
        read_nemo(archive)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_other_files_are_kept(archive, packed):
    config, state = read_nemo(archive)
    write_nemo(archive, config, state, TARGET, {"ab_tokenizer.model": b"pieces", "vocab.txt": b"a\nb\n"})
    if packed:
        archive.write_bytes(gzip.compress(archive.read_bytes()))
    assert read_artifacts(archive) == {"ab_tokenizer.model": b"pieces", "vocab.txt": b"a\nb\n"}
    assert read_artifacts(archive, ["vocab.txt"]) == {"vocab.txt": b"a\nb\n"}
    with pytest.raises(ValueError, match=r"has no member 'x'"):
        read_artifacts(archive, ["x"])


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model_weights/metadata.json": b"{}", "model_weights/common.pt": b""}, "weights in shards"),
        ({"mp_rank_00/model_weights.ckpt": b""}, "split over ranks"),
    ],
)
def test_weights_in_pieces_are_refused(archive, parts, more, message):
    packed_as(archive, {"model_config.yaml": parts[0], **more})
    with pytest.raises(ValueError, match=rf"model\.nemo has its weights.*{message.split()[-1]}"):
        read_nemo(archive)


def test_two_models_side_by_side_are_refused(archive, parts):
    packed_as(archive, {f"{home}/{name}": part for home in "ab" for name, part in zip(
        ("model_config.yaml", "model_weights.ckpt"), parts, strict=True)})  # fmt: skip
    with pytest.raises(ValueError, match="several models, in a/, b/"):
        read_nemo(archive)


def forged(archive, parts, size, name="huge.bin"):
    """The archive with a further member that claims `size` bytes and has none."""
    packed_as(archive, {"model_config.yaml": parts[0], "model_weights.ckpt": parts[1]})
    info = tarfile.TarInfo(name)
    info.size = size
    with tarfile.open(archive) as tar:
        tar.getmembers()
        end = tar.offset
    content = archive.read_bytes()[:end]
    archive.write_bytes(content + info.tobuf() + bytes(1024))


@pytest.mark.parametrize("packed", [False, True])
def test_a_member_that_claims_a_terabyte_is_refused(archive, parts, packed):
    forged(archive, parts, 1 << 40)
    if packed:
        archive.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(ValueError, match=r"huge\.bin and what precedes it claim \d+ bytes"):
        read_nemo(archive)


def test_a_header_that_unpacks_to_gigabytes_is_refused(archive):
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    archive.write_bytes(gzip.compress(info.tobuf() + bytes(1 << 20)))
    with pytest.raises(ValueError, match=r"model\.nemo is not a complete"):
        read_nemo(archive)


def test_sparse_members_are_refused(archive, parts):
    packed_as(archive, {"model_config.yaml": parts[0], "model_weights.ckpt": parts[1]})
    with pytest.raises(ValueError, match="link or a device"):
        read_nemo(rewritten(archive, (member("x", tarfile.GNUTYPE_SPARSE), b"")))


def test_packed_records_among_the_weights_are_refused(archive, parts):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(parts[1])) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    packed_as(archive, {"model_config.yaml": parts[0], "model_weights.ckpt": buffer.getvalue()})
    with pytest.raises(ValueError, match=r"model_weights\.ckpt is damaged.*is packed"):
        read_nemo(archive)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"a: !!python/object/apply:os.mkdir [x]", "not readable as YAML"),
        (b"a: &x [1]\nb: [*x, *x]", "YAML aliases"),
    ],
)
def test_configurations_that_are_more_than_values_are_refused(archive, parts, config, message):
    packed_as(archive, {"model_config.yaml": config, "model_weights.ckpt": parts[1]})
    with pytest.raises(ValueError, match=rf"model\.nemo: model_config\.yaml.*{message}"):
        read_nemo(archive)


def test_neither_tar_nor_gzip_is_no_archive(tmp_path):
    path = tmp_path / "model.nemo"
    path.write_bytes(b"BZh9" + bytes(600))
    assert not is_nemo(path)
    with pytest.raises(ValueError, match=r"model\.nemo is not a complete \.nemo archive"):
        read_nemo(path)


# ---------------------------------------------------------------------- released models


def test_released_nest_fits_the_large_configuration(goldens):
    """Every key, shape and type of the released file is in the model that the stock YAML builds."""
    released = json.loads((goldens.parent / "spec" / "nest_large_state_dict.json").read_text())
    config = load_config(CONFIG).model
    with torch.device("meta"):
        model = EncDecDenoiseMaskedTokenPredModel(config)
    ours = {key: [list(value.shape), str(value.dtype)] for key, value in model.state_dict().items()}
    assert ours == released
