"""Linear layers by oneDNN, against float64; and the C library keeping what is freed."""

import subprocess
import sys

import pytest
import torch
from scipy.special import erf

from modeling.linear import Linear, linear


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of torch.backends.mkldnn.flags
@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (2, 5, 8), (0, 8), (2, 0, 8)])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("onednn", [False, True])
def test_equals_products_in_float64(shape, gelu, with_bias, onednn):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=generator) for size in (shape, (6, 8), (6,)))
    expected = x.double() @ weight.double().T + (bias.double() if with_bias else 0)
    if gelu:
        expected = expected * 0.5 * (1 + torch.from_numpy(erf(expected.numpy() / 2**0.5)))
    with torch.backends.mkldnn.flags(enabled=onednn), torch.no_grad():
        out = linear(x, weight, bias if with_bias else None, gelu=gelu)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)


def test_takes_rows_of_a_larger_weight_and_strided_inputs():
    joint, x = torch.randn(12, 8), torch.randn(4, 16)[:, ::2]
    with torch.no_grad():
        torch.testing.assert_close(linear(x, joint[4:8]), x @ joint[4:8].T)


def test_learns_and_lowers_precision_as_a_linear_layer():
    ours, theirs = Linear(8, 6, gelu=True), torch.nn.Linear(8, 6)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 8)
    ours(x).sum().backward()
    torch.nn.functional.gelu(theirs(x)).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_not_fetched_anew():
    script = """
import resource, sys, torch
from runtime.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(7)
for _ in range(12):  # the heap grows to the shape that is needed in a few rounds
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {}
    for choice in ("keep", "return"):
        done = subprocess.run([sys.executable, "-c", script, choice], capture_output=True, text=True)
        if done.returncode == 7:
            pytest.skip("no mallopt")
        faults[choice] = int(done.stdout)
    assert faults["keep"] < faults["return"] / 10
