"""Files of tools/export_onnx.py: equal to PyTorch at any size, run without its model code, hostile ones refused."""

import copy
import importlib
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from tiny import CONFIG, OVERRIDES, ROOT

import inference
from engine.config import build, load_config
from engine.inference import Predictor
from engine.onnx import export as onnx_export
from engine.onnx.export import _example, export_onnx
from engine.onnx.file import FORMAT, PREFIX
from engine.onnx.model import OnnxModel
from engine.training.checkpoints import RunCheckpointer
from modeling.backbone import ViT
from modeling.traceable.backbone import TraceableViT
from runtime import command_line as cli
from runtime.errors import InputError
from tools import export_onnx as tool

SMALL = [
    "model.backbone.depth=2",
    "model.backbone.embed_dim=24",
    "model.backbone.num_heads=2",
    "model.backbone.window_size=3",
    "model.backbone.img_size=96",
    "model.backbone.window_block_indexes=[0]",
    "model.backbone.residual_block_indexes=[1]",
    "model.decoder.convstream_out=[8,8,8]",
    "model.decoder.fusion_out=[8,8,8,8]",
]
CONFIGS = {
    "dinov3": (str(ROOT / "configs" / "ViTMatte_S_10ep.py"), SMALL),
    "original": (str(ROOT / "configs" / "ViTMatte_S_dino.py"), SMALL),
}
TRACE = onnx_export._traced
SHAPES = [(2, 96, 160), (1, 50, 131), (3, 33, 17), (1, 1, 40), (1, 300, 220)]  # 3 x 3 patches are a window


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Weights under which every part of the model moves alpha, all of them different."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 3:  # tokens and positions
                parameter.normal_(std=0.3, generator=generator)
            elif parameter.ndim == 4:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5, generator=generator)
            elif parameter.ndim == 2 and "rel_pos" not in name:
                parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5, generator=generator)
            else:
                parameter.add_(torch.empty_like(parameter).normal_(std=0.3, generator=generator))
        last = model.decoder.matting_head.matting_convs[-1]
        last.weight.mul_(2)
        last.bias.zero_()
    return model.eval()


def alpha_of(model, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Alpha, and where it is unknown."""
    image, trimap = _example(shape)
    with torch.inference_mode():
        return model({"image": image, "trimap": trimap})["phas"].numpy(), trimap.numpy() == 0.5


class Exported(NamedTuple):
    """A small model of either backbone, its float32 file, and its graph as it was traced."""

    model: torch.nn.Module
    path: Path
    graph: onnx.ModelProto


# Tracing one takes half a minute of symbolic shapes.
@pytest.fixture(scope="module", params=["dinov3", pytest.param("original", marks=pytest.mark.slow)])
def exported(request, tmp_path_factory) -> Exported:
    path = tmp_path_factory.mktemp("onnx") / f"{request.param}.onnx"
    model = randomised(build(load_config(*CONFIGS[request.param]).model))
    graphs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_traced", lambda *arguments: graphs.append(TRACE(*arguments)) or copy_of(graphs[0]))
        onnx_export.export_onnx(model, path, config="c.py", checkpoint="c.pth", check_shapes=[(1, 64, 64)])
    return Exported(model, path, graphs[0])


@pytest.fixture
def traced_before(exported, monkeypatch) -> None:
    """Tracing takes most of an export's time: let the next one start from the graph there is."""
    monkeypatch.setattr(onnx_export, "_traced", lambda *arguments: copy_of(exported.graph))


def copy_of(graph: onnx.ModelProto) -> onnx.ModelProto:
    return copy.deepcopy(graph)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window_prefix": "mean"},
        {"rope_coordinates": "step"},
        {"rope_coordinates": "step", "rope_in_windows": "window", "merge_block_indexes": [0, 1]},
        {"rope_in_windows": "window", "window_padding": "zeros"},
        {"num_register_tokens": 0, "use_cls_token": False},
        {"num_register_tokens": 0, "use_cls_token": False, "rope_base": None, "window_padding": "zeros"}
        | {"use_rel_pos": True, "use_abs_pos": True, "final_norm": False, "layer_scale_init": None},
    ],
)
@pytest.mark.parametrize("grid", [(1, 1), (3, 3), (4, 7), (6, 2), (14, 14)])
def test_the_traceable_backbone_equals_the_ordinary_one(settings, grid):
    options = {"embed_dim": 24, "depth": 2, "num_heads": 2, "window_size": 3, "img_size": 96}
    vit = ViT(**options, window_block_indexes=[0], residual_block_indexes=[1], **settings).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.normal_(std=0.3)
        x = torch.randn(2, 4, 16 * grid[0], 16 * grid[1])
        expected = vit(x)
        torch.testing.assert_close(TraceableViT(vit)(x), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.1


def test_relative_positions_in_smaller_windows_are_refused():
    vit = ViT(**{"num_register_tokens": 0, "use_cls_token": False, "rope_base": None, "use_rel_pos": True},
              embed_dim=24, num_heads=2, depth=1, window_block_indexes=[0])  # fmt: skip
    with pytest.raises(InputError, match="window_padding=zeros"):
        TraceableViT(vit)


def test_one_file_equals_pytorch_at_any_size_and_batch(exported):
    file = OnnxModel(exported.path, threads=1)
    for shape in SHAPES:
        expected, unknown = alpha_of(exported.model, shape)
        np.testing.assert_allclose(alpha_of(file, shape)[0], expected, atol=1e-4, rtol=0)
        assert unknown.sum() < 100 or expected[unknown].std() > 0.02  # there is something to be equal to


def test_a_file_is_valid_and_names_its_model_and_no_folder(exported):
    onnx.checker.check_model(str(exported.path), full_check=True)
    content = exported.path.read_bytes()
    assert str(ROOT).encode() not in content
    assert b"site-packages" not in content
    file = OnnxModel(exported.path)
    assert (file.file.metadata["config"], file.file.metadata["checkpoint"]) == ("c.py", "c.pth")
    assert (file.precision, file.size_divisibility) == ("fp32", exported.model.size_divisibility)
    torch.testing.assert_close(file.pixel_mean, exported.model.pixel_mean.flatten())


@pytest.mark.parametrize(("precision", "largest"), [("fp16", 5e-3), ("int8", 5e-2)])
@pytest.mark.usefixtures("traced_before")
def test_reduced_precision_stays_close(exported, precision, largest, tmp_path):
    path = tmp_path / "reduced.onnx"
    names = {"config": "c.py", "checkpoint": "c.pth", "precision": precision}
    for difference in export_onnx(exported.model, path, **names, check_shapes=[(2, 96, 160), (1, 70, 33)]):
        assert 0 < difference.largest < largest
    onnx.checker.check_model(str(path))
    assert path.stat().st_size < exported.path.stat().st_size
    assert OnnxModel(path).precision == precision


@pytest.mark.slow
def test_the_colour_prior_is_exported_in_float32_even_in_fp16(tmp_path):
    one_scale = ["model.colour_prior.sigmas=[4]", "model.decoder.img_chans=10"]
    small = [
        "model.backbone.depth=1",
        "model.backbone.window_block_indexes=[]",
        "model.backbone.residual_block_indexes=[]",
    ]
    model = randomised(build(load_config(CONFIG, [*OVERRIDES[:8], *small, *one_scale]).model))
    shapes = [(2, 96, 160), (1, 37, 50), (1, 1, 33)]
    half = export_onnx(
        model, tmp_path / "m.onnx", config="c.py", checkpoint="c.pth", precision="fp16", check_shapes=shapes
    )
    assert max(difference.largest for difference in half) < 5e-3
    predictor = Predictor(OnnxModel(tmp_path / "m.onnx"))
    assert predictor.padded_shape(37, 50) == (37, 50)  # the mean of the image must not see padding


@pytest.mark.slow
def test_one_hot_trimap_fixed_step_and_merged_blocks_are_exported(tmp_path):
    options = [
        "model.trimap_input=one_hot",
        "model.backbone.in_chans=6",
        "model.decoder.img_chans=6",
        "model.backbone.rope_coordinates=step",
        "model.backbone.merge_block_indexes=[0]",
    ]
    model = randomised(build(load_config(CONFIGS["dinov3"][0], [*SMALL, *options]).model))
    path = tmp_path / "model.onnx"
    export_onnx(model, path, config="c.py", checkpoint="c.pth", check_shapes=[(1, 64, 64)])
    for shape in SHAPES:
        (expected, unknown), (got, _) = alpha_of(model, shape), alpha_of(OnnxModel(path), shape)
        np.testing.assert_allclose(got[unknown], expected[unknown], atol=1e-4)


@pytest.mark.usefixtures("traced_before")
def test_a_graph_that_differs_is_not_written(tmp_path, exported):
    (tmp_path / "m.onnx").write_text("what was there")
    other = copy.deepcopy(exported.model)
    with torch.no_grad():
        other.decoder.matting_head.matting_convs[-1].bias.add_(1)
    with pytest.raises(InputError, match=r"m.onnx: not written, because alpha of the exported graph differs from"):
        export_onnx(other, tmp_path / "m.onnx", config="c.py", checkpoint="c.pth", check_shapes=[(1, 64, 64)])
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "what was there"


# inference.py --onnx


@pytest.fixture
def pictures(tmp_path) -> dict[str, str]:
    """Two images of different sizes with their trimaps; returns the arguments that name them."""
    for name, shape in {"a": (1, 70, 100), "b": (1, 96, 33)}.items():
        image, trimap = (tensor[0].permute(1, 2, 0).numpy() for tensor in _example(shape))
        for folder, pixels in (("images", image), ("trimaps", trimap[..., 0])):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray((pixels * 255).round().astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    return {"image": str(tmp_path / "images"), "trimap": str(tmp_path / "trimaps")}


def arguments_of(pictures: dict[str, str], output: Path, *more: str) -> list[str]:
    return [part for k, v in pictures.items() for part in (f"--{k}", v)] + ["--output", str(output), *more]


def test_mattes_of_the_file_are_those_of_pytorch_without_networks_or_detectron2(tmp_path, exported, pictures):
    code = (
        "import sys\n"
        "parts = [f'modeling.{part}' for part in ('backbone', 'decoder', 'criterion', 'meta_arch.vitmatte')]\n"
        "for name in (*parts, 'detectron2', 'fvcore', 'omegaconf'): sys.modules[name] = None\n"
        "import inference\n"
        "sys.exit(inference.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--onnx", str(exported.path), "--batch-size", "2"]
    subprocess.run([*command, *arguments_of(pictures, tmp_path / "onnx")], cwd=ROOT, check=True)
    for name in ("a", "b"):
        image = np.array(Image.open(tmp_path / "images" / f"{name}.png"))
        trimap = np.array(Image.open(tmp_path / "trimaps" / f"{name}.png"))
        expected = Predictor(exported.model).one({"image": image, "trimap": trimap})["alpha"]
        matte = np.asarray(Image.open(tmp_path / "onnx" / f"{name}.png"))
        assert np.abs(matte.astype(int) - expected).max() <= 1
        assert (trimap == 128).any()


@pytest.mark.usefixtures("traced_before")
def test_the_tool_and_the_script_together(tmp_path, exported, pictures, capsys):
    config, overrides = CONFIGS[exported.path.stem]
    RunCheckpointer(exported.model, str(tmp_path)).save("model")
    file = str(tmp_path / "m.onnx")
    tool.main(["--config-file", config, "--checkpoint", str(tmp_path / "model.pth"), "--output", file, *overrides])
    assert capsys.readouterr().out.count("alpha differs from PyTorch's by") == 3
    checkpoint = ["--config-file", config, "--checkpoint", str(tmp_path / "model.pth"), "--device", "cpu"]
    assert inference.main([*checkpoint, *arguments_of(pictures, tmp_path / "torch"), *overrides]) == 0
    assert inference.main(["--onnx", file, *arguments_of(pictures, tmp_path / "onnx")]) == 0
    for name in ("a.png", "b.png"):
        ours, theirs = (np.asarray(Image.open(tmp_path / kind / name)).astype(int) for kind in ("onnx", "torch"))
        assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config-file", "c.py"], "leave out config-file"),
        (["--checkpoint", "c.pth", "--compile"], "leave out checkpoint, compile"),
        (["--precision", "fp16"], "leave out precision"),
        (["model.size_divisibility=64"], "leave out overrides"),
        (["--mode", "reduced"], "has no encoder that could see a smaller image"),
        (["--device", "cuda:9"], "the installed onnxruntime has"),
    ],
)
def test_options_that_make_no_sense_with_a_file(tmp_path, exported, pictures, more, message, capsys):
    command = ["--onnx", str(exported.path), *arguments_of(pictures, tmp_path / "out", *more)]
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: inference.main(command))
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert message in error


def test_a_large_image_goes_in_tiles_where_attention_would_not_fit(exported):
    predictor = Predictor(OnnxModel(exported.path), max_memory=3 * 2**30)
    assert predictor.plan(512, 512).mode == "whole"
    assert predictor.plan(4096, 4096).mode == "tiles"


# files that are not ours


def graph_of(**changes) -> onnx.ModelProto:
    """A valid file of one node: phas = trimap; the changes make it invalid."""
    free = ["b", 3, "h", "w"], ["b", 1, "h", "w"]
    inputs = changes.get("inputs", [("image", free[0]), ("trimap", free[1])])
    kind = changes.get("kind", TensorProto.FLOAT)
    values = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs]
    output = helper.make_tensor_value_info(changes.get("output", "phas"), kind, free[1])
    node = helper.make_node("Identity", [inputs[-1][0]], [changes.get("output", "phas")])
    graph = helper.make_graph([node], "graph", values, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", changes.get("opset", 18))], ir_version=10)
    metadata = {"format": FORMAT, "config": "c", "checkpoint": "c", "precision": "fp32", "size_divisibility": "32"}
    metadata |= {"pixel_mean": "0.5 0.5 0.5", "colour_prior": "no", "footprint": "1 1"}
    for key, value in (metadata | changes.get("metadata", {})).items():
        if value is not None:
            model.metadata_props.add(key=PREFIX + key, value=value)
    return model


def with_external_data() -> onnx.ModelProto:
    model = graph_of()
    tensor = helper.make_tensor("secret", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret.bin")
    constant = helper.make_node("Constant", [], ["c"], value=tensor)  # hidden in an attribute, not an initializer
    model.graph.node.append(constant)
    return model


def test_the_plain_file_of_these_tests_is_accepted(tmp_path):
    onnx.save(graph_of(), tmp_path / "m.onnx")
    alpha, _ = alpha_of(OnnxModel(tmp_path / "m.onnx"), (1, 20, 30))
    assert alpha.shape == (1, 1, 20, 30)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"", "not an ONNX file"),
        (b"not an ONNX file", "not an ONNX file"),
        (graph_of(metadata={"format": None}), "has no such metadata"),
        (graph_of(metadata={"format": "99"}), "is of format '99'"),
        (graph_of(metadata={"precision": None}), "its metadata lacks precision"),
        (graph_of(metadata={"size_divisibility": "0"}), "metadata size_divisibility"),
        (graph_of(metadata={"size_divisibility": "9" * 5000}), "metadata size_divisibility"),
        (graph_of(metadata={"pixel_mean": "nan 0 0"}), "metadata pixel_mean: expected 3 numbers"),
        (graph_of(metadata={"footprint": "many"}), "metadata footprint: expected 2 numbers"),
        (graph_of(opset=999), "onnxruntime cannot load it"),
        (graph_of(output="alpha"), "expected the outputs phas"),
        (graph_of(inputs=[("image", ["b", 3, 64, "w"]), ("trimap", ["b", 1, "h", "w"])]), "expected the inputs image"),
        (graph_of(inputs=[("trimap", ["b", 1, "h", "w"])]), "expected the inputs image"),
        (graph_of(kind=TensorProto.DOUBLE), "expected the inputs image"),
        (with_external_data(), "stores tensors in other files"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, model, message):
    path = tmp_path / "bad.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(InputError, match=r"bad\.onnx: ") as raised:
        OnnxModel(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_a_folder_and_a_truncated_one(tmp_path, exported):
    (tmp_path / "cut.onnx").write_bytes(exported.path.read_bytes()[:-1000])
    for name in ("nowhere.onnx", "", "cut.onnx"):
        with pytest.raises(InputError, match="ONNX"):
            OnnxModel(tmp_path / name)


def test_a_file_over_the_limit_is_not_read(tmp_path):
    with open(tmp_path / "large.onnx", "wb") as file:
        file.truncate(2**31)  # takes no room on the disk
    with pytest.raises(InputError, match="over the limit"):
        OnnxModel(tmp_path / "large.onnx")


def test_a_missing_package_is_asked_for(tmp_path, exported, monkeypatch):
    real = importlib.import_module

    def without(name, *arguments):
        if name.startswith("onnxruntime"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(InputError, match=r"pip install -r requirements/onnx\.txt"):
        OnnxModel(exported.path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViTMatte_S_10ep", "ViTMatte_S_dino"])
def test_a_whole_vit_s_is_exported_and_agrees(tmp_path, name):
    model = randomised(build(load_config(str(ROOT / "configs" / f"{name}.py")).model))
    differences = export_onnx(model, tmp_path / "m.onnx", config=name, checkpoint="random")
    assert max(difference.largest for difference in differences) < 1e-4
