"""Folders, shards, averages of weights and the pieces of distributed checkpoints, as training programs leave them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as distributed_checkpoint
from test_preprocess import DIM, SIZE, difference, make_transformers, patch_map, random_input, to_official
from torch import nn
from torch.distributed._shard import sharded_tensor
from torch.distributed.tensor import DTensor, init_device_mesh
from torch.optim.swa_utils import AveragedModel
from transformers import DINOv3ViTModel

from modeling.pretrained import convert, convert_file
from runtime.errors import InputError


@pytest.fixture(scope="module")
def reference() -> DINOv3ViTModel:
    return make_transformers()


@pytest.fixture(scope="module")
def official(reference) -> dict[str, torch.Tensor]:
    return to_official(reference)


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def refusal(weights: Path, output: Path) -> str:
    with pytest.raises(InputError) as caught:
        convert_file(weights, output)
    assert "\n" not in str(caught.value)
    assert str(weights) in str(caught.value)
    assert not output.exists()
    return str(caught.value)


# --- folders and shards


@pytest.mark.parametrize("shards", ["50GB", "100KB"])
def test_a_folder_of_transformers_converts_like_the_file_in_it(tmp_path, reference, shards):
    reference.save_pretrained(tmp_path / "hf", max_shard_size=shards)
    file = tmp_path / "hf" / ("model.safetensors" if shards == "50GB" else "model.safetensors.index.json")
    by_folder = convert_file(tmp_path / "hf", tmp_path / "a.pth")
    by_file = convert_file(file, tmp_path / "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    assert str(by_folder.report) == str(by_file.report)
    assert str(file) in str(by_folder.report)  # says which file was taken
    with torch.no_grad():
        expected = patch_map(reference(random_input()).last_hidden_state, 5)
    assert difference(by_folder.model, by_folder.metadata, expected) < 1e-4


def test_pytorch_shards_and_hugging_faces_cache_convert_too(tmp_path, reference):
    snapshot = tmp_path / "models--facebook--dinov3-custom-sat493m" / "snapshots" / "0123abc"
    reference.save_pretrained(snapshot)
    (snapshot / "model.safetensors").unlink()
    state = {key.removeprefix("model."): value for key, value in reference.state_dict().items()}
    names = {key: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, key in enumerate(state)}
    for name in set(names.values()):
        torch.save({key: value for key, value in state.items() if names[key] == name}, snapshot / name)
    (snapshot / "pytorch_model.bin.index.json").write_text(repr({"weight_map": names}).replace("'", '"'))
    conversion = convert_file(snapshot.parents[1], tmp_path / "out.pth")
    assert same(conversion.model, convert(reference.state_dict(), config=reference.config.to_dict()).model)
    assert conversion.metadata["dataset"] == "sat493m"  # from the name of the cache's folder
    assert len(conversion.metadata["source_shards"]) == 2


def test_one_shard_names_the_index_or_asks_for_it(tmp_path, reference):
    reference.save_pretrained(tmp_path / "hf", max_shard_size="100KB")
    shard, index = next((tmp_path / "hf").glob("model-00002-of-*")), tmp_path / "hf" / "model.safetensors.index.json"
    assert re.search(rf"found shard 2 of \d+; name {re.escape(str(index))}$", refusal(shard, tmp_path / "out.pth"))
    index.unlink()
    assert "download the others and model.safetensors.index.json too" in refusal(shard, tmp_path / "out.pth")


def test_a_folder_of_several_files_or_none_is_refused_by_name(tmp_path, official):
    folder = tmp_path / "run"
    folder.mkdir()
    assert "found no weight file" in refusal(folder, tmp_path / "out.pth")
    torch.save(official, folder / "a.pth")
    assert same(convert_file(folder, tmp_path / "out.pth").model, convert(official).model)
    (tmp_path / "out.pth").unlink()
    torch.save(official, folder / "b.pth")
    assert "2 weight files (a.pth, b.pth); name one of them" in refusal(folder, tmp_path / "out.pth")


# --- averages and wrappers


def scaled(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor / 2 for key, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("wrap", "entry"),
    [
        (lambda d: {"model_ema": d, "epoch": 3}, "model_ema"),
        (lambda d: {"ema": d}, "ema"),
        (lambda d: {"model": scaled(d), "ema": {"module": d, "updates": 7}}, "ema.module"),
        (lambda d: {"state_dict": scaled(d), "state_dict_ema": d}, "state_dict_ema"),
        (lambda d: {"model": d, "ema": {"decay": 0.999}}, "model"),  # settings of an average, no weights
    ],
)
def test_an_average_is_taken_before_what_it_was_made_of_and_named(official, wrap, entry):
    conversion = convert(wrap(official))
    assert same(conversion.model, convert(official).model)
    assert conversion.metadata["source_entry"] == entry
    assert f"entry           {entry!r}, which is used" in str(conversion.report)


def test_timm_takes_the_same_entry(tmp_path, official):
    helpers = pytest.importorskip("timm.models._helpers")
    torch.save({"state_dict": scaled(official), "model_ema": official, "model": scaled(official)}, tmp_path / "in.pth")
    theirs = helpers.load_state_dict(str(tmp_path / "in.pth"))
    assert torch.equal(theirs["norm.weight"], official["norm.weight"])
    assert same(convert_file(tmp_path / "in.pth", tmp_path / "out.pth").model, convert(official).model)


def test_what_pytorch_puts_around_and_between_names_does_not_matter(official):
    averaged = {"n_averaged": torch.tensor(5)} | {f"module.{key}": value for key, value in official.items()}
    compiled = {f"_orig_mod.{key}": value for key, value in official.items()}
    wrapped = {re.sub(r"(blocks\.\d\.)", r"\1_fsdp_wrapped_module._checkpoint_wrapped_module.", key): value
               for key, value in official.items()}  # fmt: skip
    assert AveragedModel(nn.Linear(1, 1)).state_dict().keys() == {"n_averaged", "module.weight", "module.bias"}
    assert all(same(convert(state).model, convert(official).model) for state in (averaged, compiled, wrapped))


# --- registers


@torch.no_grad()
def test_a_backbone_without_registers_gives_transformers_features(tmp_path):
    reference = make_transformers(num_register_tokens=0)
    reference.save_pretrained(tmp_path / "hf")
    conversion = convert_file(tmp_path / "hf", tmp_path / "out.pth")
    expected = patch_map(reference(random_input(size=SIZE)).last_hidden_state, 1)
    assert difference(conversion.model, conversion.metadata, expected) < 1e-4
    assert conversion.metadata["num_register_tokens"] == 0


def test_missing_registers_are_no_ground_to_guess(official):
    with pytest.raises(InputError, match=r"storage_tokens is missing, .* a tensor of shape \(1, 0, width\)"):
        convert({key: value for key, value in official.items() if key != "storage_tokens"})
    without = convert(official | {"storage_tokens": torch.zeros(1, 0, DIM)})
    assert without.metadata["num_register_tokens"] == 0


# --- distributed checkpoints


def test_chunks_are_refused_with_the_command_that_joins_them(tmp_path, official):
    folder = tmp_path / "dcp"
    distributed_checkpoint.save({"teacher": dict(official)}, checkpoint_id=folder, no_dist=True)
    chunk = next(folder.glob("*.distcp"))
    messages = [refusal(path, tmp_path / "out.pth") for path in (folder, chunk, folder / ".metadata")]
    command = messages[0].partition("make one file of them: ")[2].split()
    assert all(message.endswith(" ".join(command)) for message in messages)
    assert command[:3] == ["python", "-m", "torch.distributed.checkpoint.format_utils"]
    command[-1] = str(tmp_path / "joined.pth")
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    conversion = convert_file(tmp_path / "joined.pth", tmp_path / "out.pth")
    assert same(conversion.model, convert(official).model)


def test_one_processs_tensors_are_refused_with_a_remedy(tmp_path, official):
    torch.save({"model": {"_fsdp_wrapped_module._flat_param": torch.zeros(9)}}, tmp_path / "flat.pth")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        state = {key: DTensor.from_local(value, mesh) for key, value in official.items()}
        torch.save({"model": state}, tmp_path / "sharded.pth")
        shard = sharded_tensor.Shard.from_tensor_and_offsets(torch.zeros(9), [0], rank=0)
        torch.save({"cls_token": sharded_tensor.init_from_local_shards([shard], 9)}, tmp_path / "older.pth")
    finally:
        dist.destroy_process_group()
    names = {"flat": "_fsdp_wrapped_module._flat_param", "sharded": "cls_token is a DTensor", "older": "ShardedTensor"}
    for name, found in names.items():
        message = refusal(tmp_path / f"{name}.pth", tmp_path / "out.pth")
        assert f"one process's part of a sharded (FSDP) checkpoint ({found})" in message
        assert "full_state_dict=True" in message
