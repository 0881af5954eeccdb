"""ONNX files without PyTorch, OpenCV or the onnx package: looked through from their bytes, and run by onnxruntime."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from test_onnx import graph_of, with_external_data
from tiny import ROOT

from engine.inference import FileSettings, Outcome, Predictor, fit_to, plan_files
from engine.inference import run_jobs as run_jobs_with_torch
from engine.onnx import wire
from engine.onnx.bare import predict_alpha, run_jobs
from engine.onnx.file import OnnxFile
from engine.onnx.model import OnnxModel
from runtime.errors import InputError

MISSING = (
    "torch",
    "torchvision",
    "cv2",
    "tqdm",
    "onnx",
    "scipy",
    "skimage",
    "detectron2",
    "tifffile",
    "OpenEXR",
    "matplotlib",
)
SHARE = 0.1003  # no level between two others


def ways_to_tensors() -> dict[str, dict[int, str]]:
    """`wire.MESSAGES` as the onnx package has it: every field whose message is, or leads to, a tensor; and metadata."""
    messages, waiting = {}, [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name not in messages:
            inner = {field.number: field.message_type for field in message.fields if field.message_type}
            messages[message.name] = inner
            waiting += inner.values()
    leads = {"TensorProto"}
    while grown := {
        n for n, inner in messages.items() if n not in leads and any(m.name in leads for m in inner.values())
    }:
        leads |= grown
    kept = leads | {"StringStringEntryProto"}
    return {
        name: {
            number: field.name
            for number, field in inner.items()
            if field.name in kept and (field.name in leads or name == "ModelProto")
        }
        for name, inner in messages.items()
        if name in leads - {"TensorProto"}
    }


def test_the_table_of_messages_is_that_of_onnx():
    assert ways_to_tensors() == wire.MESSAGES
    tensor = TensorProto.DESCRIPTOR.fields_by_name
    assert (tensor["external_data"].number, tensor["data_location"].number) == (wire.EXTERNAL_DATA, wire.DATA_LOCATION)
    assert TensorProto.EXTERNAL == wire.EXTERNAL


def external_tensor(name: str) -> TensorProto:
    tensor = helper.make_tensor(name, TensorProto.FLOAT, [1], [0.0])
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def hidden_in(place: str) -> onnx.ModelProto:
    model, tensor = graph_of(), external_tensor("secret")
    graph = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "sparse":
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor))
    elif place == "branch":
        model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=graph))
    elif place == "function":
        model.functions.append(onnx.FunctionProto(name="f", node=graph.node))
    elif place == "training":
        model.training_info.append(onnx.TrainingInfoProto(initialization=graph))
    elif place == "tensors":
        model.graph.node[0].attribute.append(helper.make_attribute("a", [tensor]))
    return model


@pytest.mark.parametrize("place", ["initializer", "sparse", "branch", "function", "training", "tensors"])
def test_external_data_is_found_wherever_it_is(place):
    content = hidden_in(place).SerializeToString()
    assert wire.read_outline(content).has_external_data
    assert not wire.read_outline(graph_of().SerializeToString()).has_external_data
    assert wire.read_outline(with_external_data().SerializeToString()).has_external_data
    with pytest.raises(ValueError, match="cut short"):
        wire.read_outline(content[:-1])


def test_a_location_beyond_32_bits_is_what_protobuf_makes_of_it():
    tensor = b"\x70" + b"\x81\x80\x80\x80\x10"  # data_location = 2**32 + 1
    assert TensorProto.FromString(tensor).data_location == TensorProto.EXTERNAL
    content = b"\x3a" + bytes([len(tensor) + 2]) + b"\x2a" + bytes([len(tensor)]) + tensor  # graph, initializer
    assert onnx.ModelProto.FromString(content).graph.initializer[0].data_location == TensorProto.EXTERNAL
    assert wire.read_outline(content).has_external_data


def test_metadata_is_read_as_onnx_reads_it_and_nesting_is_limited():
    model = graph_of(metadata={"config": "ViTMatte_ä.py"})
    expected = {entry.key: entry.value for entry in model.metadata_props}
    outline = wire.read_outline(model.SerializeToString())
    assert (outline.metadata, outline.num_nodes) == (expected, 1)
    graph = b""
    for _ in range(wire.DEEPEST):
        graph = _message(1, _message(5, _message(6, graph)))  # a node, its attribute, the graph in that
    with pytest.raises(ValueError, match="nested too deeply"):
        wire.read_outline(_message(7, graph))


def _message(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size >= 128:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


# --- mattes


@pytest.fixture
def model_file(tmp_path) -> Path:
    """A file whose alpha is the trimap plus a share of red, in the unknown region and elsewhere."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, "h", "w"])
    value = helper.make_tensor_value_info("trimap", TensorProto.FLOAT, ["b", 1, "h", "w"])
    phas = helper.make_tensor_value_info("phas", TensorProto.FLOAT, ["b", 1, "h", "w"])
    constants = [
        helper.make_tensor(name, kind, [len(values)], values)
        for name, kind, values in (
            ("zero", TensorProto.INT64, [0]),
            ("one", TensorProto.INT64, [1]),
            ("share", TensorProto.FLOAT, [SHARE]),
        )
    ]
    nodes = [
        helper.make_node("Slice", ["image", "zero", "one", "one"], ["red"]),
        helper.make_node("Mul", ["red", "share"], ["part"]),
        helper.make_node("Add", ["part", "trimap"], ["phas"]),
    ]
    graph = helper.make_graph(nodes, "graph", [image, value], [phas], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.extend(graph_of().metadata_props)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def pictures(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "trimaps"):
        (tmp_path / folder).mkdir()
    for name, shape in {"a": (30, 40), "b": (7, 1)}.items():
        Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(tmp_path / f"images/{name}.png")
        trimap = rng.choice(np.array([0, 128, 255], np.uint8), shape)
        Image.fromarray(trimap).save(tmp_path / f"trimaps/{name}.png")
    return tmp_path


def test_alpha_is_that_of_the_predictor_to_the_byte(model_file, pictures):
    predictor, file = Predictor(OnnxModel(model_file)), OnnxFile(model_file)
    for name in ("a", "b"):
        image, trimap = (np.array(Image.open(pictures / folder / f"{name}.png")) for folder in ("images", "trimaps"))
        alpha = predict_alpha(file, image, trimap)
        assert np.array_equal(alpha, predictor.one({"image": image, "trimap": trimap})["alpha"])
        assert np.array_equal(alpha[trimap == 128], np.rint(image[..., 0][trimap == 128] * SHARE + 127.5))


def done(file: OnnxFile, source: Path, output: Path, **options) -> list[Outcome]:
    jobs = plan_files(str(source / "images"), str(source / "trimaps"), str(output))
    return list(run_jobs(file, fit_to(jobs, file, folder=output), **options))


def test_bad_files_are_counted_and_the_rest_is_done(model_file, pictures):
    (pictures / "images" / "a.png").write_bytes(b"damaged")
    file = OnnxFile(model_file)
    outcomes = done(file, pictures, pictures / "out")
    assert [outcome.status for outcome in outcomes] == ["failed", "written"]
    assert "a.png: not a readable image" in outcomes[0].remark
    again = done(file, pictures, pictures / "out", skip_existing=True)
    assert [outcome.status for outcome in again] == ["failed", "skipped"]
    with pytest.raises(InputError, match="is an input folder"):
        done(file, pictures, pictures / "images")
    small = done(file, pictures, pictures / "small", max_memory=6)
    assert [outcome.status for outcome in small] == ["failed", "failed"]
    assert "install PyTorch" in small[-1].remark


def test_sub_folders_and_remarks_are_those_of_the_other_programs(model_file, pictures):
    for folder in ("images", "trimaps"):
        (pictures / folder / "clip").mkdir()
        Image.open(pictures / folder / "a.png").save(pictures / folder / "clip" / "a.png")
    levels = np.array(Image.open(pictures / "trimaps/a.png"))
    empty = np.zeros((*levels.shape, 3), np.uint8)
    Image.fromarray(np.dstack([empty, levels])).save(pictures / "trimaps/a.png")  # in the alpha channel
    Image.fromarray(np.zeros_like(levels)).save(pictures / "trimaps/clip/a.png")  # nothing to predict
    outcomes = done(OnnxFile(model_file), pictures, pictures / "out")
    predictor = Predictor(OnnxModel(model_file))
    jobs = fit_to(
        plan_files(str(pictures / "images"), str(pictures / "trimaps"), str(pictures / "torch")),
        predictor.model,
        folder=pictures / "torch",
    )
    expected = list(run_jobs_with_torch(predictor, jobs))
    for outcome, other in zip(outcomes, expected, strict=True):
        assert (outcome.status, outcome.remark, outcome.read_as) == (other.status, other.remark, other.read_as)
        written, by_torch = outcome.job.outputs["alpha"], other.job.outputs["alpha"]
        assert written.relative_to(pictures / "out") == by_torch.relative_to(pictures / "torch")
        assert written.read_bytes() == by_torch.read_bytes()
    assert [text for outcome in outcomes for _, text, _ in outcome.read_as] == ["read from the alpha channel"]
    assert "no unknown pixel" in next(outcome.remark for outcome in outcomes if outcome.job.name == "clip/a")


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 16), (".tif", 16), (".tif", 32)])
def test_more_bits_are_those_of_the_predictor(model_file, pictures, suffix, bits):
    file, predictor = OnnxFile(model_file), Predictor(OnnxModel(model_file), exact=True)
    values = []
    settings = FileSettings(suffix, bits)
    runs = {"out": (partial(run_jobs, file), file), "torch": (partial(run_jobs_with_torch, predictor), predictor.model)}
    for folder, (run, model) in runs.items():
        jobs = plan_files(
            str(pictures / "images"), str(pictures / "trimaps"), str(pictures / folder), settings=settings
        )
        outcomes = list(run(fit_to(jobs, model, folder=pictures / folder)))
        assert [outcome.status for outcome in outcomes] == ["written", "written"]
        values.append((pictures / folder / f"a{suffix}").read_bytes())
    assert values[0] == values[1]
    image, trimap = (np.array(Image.open(pictures / folder / "a.png")) for folder in ("images", "trimaps"))
    alpha = cv2.imread(str(pictures / "out" / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    scale = 65535 if bits == 16 else 1
    assert alpha.dtype == (np.uint16 if bits == 16 else np.float32)
    expected = (image[..., 0] / 255 * SHARE + 0.5)[trimap == 128] * scale
    np.testing.assert_allclose(alpha[trimap == 128], expected, atol=0.6 if bits == 16 else 1e-6)
    assert (alpha[trimap == 255] == scale).all()


def test_the_script_runs_where_only_onnxruntime_numpy_and_pillow_are(model_file, pictures):
    code = (
        "import sys, importlib.util as util\n"
        f"missing = {MISSING!r}\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in missing: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name.partition('.')[0] in missing else real(name, *rest)\n"
        "import inference\n"
        "from runtime.command_line import run\n"
        "run(lambda: inference.main(sys.argv[1:]))"
    )

    def call(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", code, "--onnx", model_file, *arguments]
        return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)

    folders = ["--image", pictures / "images", "--trimap", pictures / "trimaps", "--output", pictures / "out"]
    ran = call(*folders)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"{pictures / 'out'}: 2 written, 0 skipped, 0 failed, on onnxruntime without PyTorch\n"
    done(OnnxFile(model_file), pictures, pictures / "here")
    for name in ("a.png", "b.png"):
        assert (pictures / "out" / name).read_bytes() == (pictures / "here" / name).read_bytes()
    one = ["--image", pictures / "images/a.png", "--trimap", pictures / "trimaps/a.png", "--output", pictures / "x.png"]
    assert call(*one).returncode == 0
    assert (pictures / "x.png").read_bytes() == (pictures / "out" / "a.png").read_bytes()
    deep = call(*folders[:-1], pictures / "deep", "--bits", "16", "--transfer", "linear")
    assert (deep.returncode, deep.stderr) == (0, "")
    assert np.asarray(Image.open(pictures / "deep" / "a.png")).dtype == np.uint16
    for options, message in (
        (["--mode", "tiles"], "--mode: needs PyTorch, which is not installed"),
        (["--cutout"], "--cutout: needs PyTorch, which is not installed"),
        (["--seed", "0"], "--seed: needs PyTorch, which is not installed"),
        (["--output", pictures / "x.tif"], "TIFF needs the package tifffile; install it"),
        (["--output", pictures / "x.exr"], "OpenEXR"),
    ):
        refused = call(*one, *options)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert message in refused.stderr
