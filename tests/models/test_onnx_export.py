"""The encoder as ONNX, compared with onnxruntime on odd lengths and batches of unlike ones."""

from __future__ import annotations

import json

import pytest
import torch

from nest_ssl.models import onnx_export
from nest_ssl.models.onnx_export import check_onnx, export_onnx
from nest_ssl.modules.conformer_encoder import ConformerEncoder

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra export)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra export)")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra export)")

SMALL = {
    "feat_in": 20,
    "n_layers": 1,
    "d_model": 16,
    "n_heads": 2,
    "subsampling": "dw_striding",
    "subsampling_factor": 8,
    "subsampling_conv_channels": 4,
    "conv_kernel_size": 5,
}
LENGTHS = ((1,), (8,), (9,), (333,), (64, 63), (201, 1, 77, 8, 9), (640, 333))


def encoder(**options):
    torch.manual_seed(0)
    made = ConformerEncoder(**{**SMALL, **options})
    with torch.no_grad():
        for name, tensor in made.named_buffers():
            if "running" in name:
                tensor.uniform_(0.5, 1.5)
        for name, parameter in made.named_parameters():
            if "pos_bias" in name or "linear_pos" in name:
                parameter.normal_()  # so that a wrong shift of positions would be seen
    return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    made = encoder()
    assert made.training
    assert export_onnx(made, path, facts={"sample_rate": 16000}) == [path]
    assert made.training  # the caller's model is left as it was
    return made, path


@pytest.mark.slow
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_onnxruntime_gives_torchs_frames(exported, lengths):
    assert check_onnx(*exported, lengths=[lengths]) < 2e-5


@pytest.mark.slow
def test_the_graph_says_what_it_takes_and_gives(exported):
    model = onnx.load(exported[1])
    onnx.checker.check_model(model)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["features"] == ["batch", 20, "frames"]
    assert shapes["lengths"] == ["batch"]
    assert shapes["encoded"][:2] == ["batch", 16]
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [onnx_export.OPSET]
    assert {p.key: json.loads(p.value) for p in model.metadata_props}["sample_rate"] == 16000


@pytest.mark.slow
def test_another_encoder_is_told_from_the_graph(exported, monkeypatch):
    with pytest.raises(ValueError, match="onnxruntime differs from torch"):
        check_onnx(encoder(xscaling=False), exported[1], lengths=[(97,)])


def test_without_the_extra_the_way_out_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx is not installed.*nest-ssl\[export\]"):
        export_onnx(encoder(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"self_attention_model": "abs_pos"},
        {"att_context_size": [16, 4]},
        {"att_context_size": [8, 3], "att_context_style": "chunked_limited"},
        {"subsampling": "striding", "subsampling_factor": 4},
        {"causal_downsampling": True, "conv_context_size": "causal"},
        {"conv_norm_type": "layer_norm"},
        {"untie_biases": False, "feat_out": 12},
        {"use_pytorch_sdpa": True},
        {"n_layers": 2, "use_bias": False},
    ],
    ids=str,
)
def test_other_encoders_are_exported_too(tmp_path, options):
    made = encoder(**options)
    export_onnx(made, tmp_path / "a.onnx")
    assert check_onnx(made, tmp_path / "a.onnx", LENGTHS) < 2e-5
