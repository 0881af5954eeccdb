"""One process with nccl: the collective operations of the trainer, a DDP step, and main.py in a group."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tools.benchmark_training import random_samples
from tools.gpu_checks.inputs import dinov3_vitmatte
from tools.gpu_checks.rows import Case, Row, Skipped
from tools.gpu_checks.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
GRADIENT_LIMIT = 1e-3  # relative difference; on a GPU the backward pass is not deterministic


def cases(settings: Settings) -> Iterator[Case]:
    backend = settings.sized("nccl", "gloo")
    with group_of_one(backend):
        yield f"{backend}, all_reduce, all_gather, broadcast, barrier", partial(communicate, settings)
        yield f"{backend}, gradients through DDP", partial(compare_gradients, settings)
    yield f"{backend}, main.py under torchrun's variables", partial(train_in_group, settings)


@contextlib.contextmanager
def group_of_one(backend: str) -> Iterator[None]:
    """Make this process a group of one inside this context."""
    if backend == "nccl":
        torch.cuda.set_device(0)
    store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def communicate(settings: Settings) -> Row:
    """Check that the data of one process come back unchanged."""
    numbers = torch.arange(5.0, dtype=torch.float64, device=settings.device)
    total, gathered, sent = numbers.clone(), [torch.empty_like(numbers)], numbers.clone()
    dist.all_reduce(total)
    dist.all_gather(gathered, numbers)
    dist.broadcast(sent, src=0)
    dist.barrier()
    equal = all(torch.equal(each, numbers) for each in (total, *gathered, sent))
    return Row("come out as put in" if equal else "come out changed", equal)


def compare_gradients(settings: Settings) -> Row:
    """Compare gradients of a step with and without DDP."""
    torch.manual_seed(0)
    samples = random_samples(*settings.sized((2, 256), (1, 64)))
    model = dinov3_vitmatte(settings.tiny).to(settings.device).train()
    gradients = []
    for wrapped in (model, DistributedDataParallel(model, device_ids=settings.sized([0], None))):
        model.zero_grad(set_to_none=True)
        sum(wrapped(samples).values()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    plain, reduced = gradients
    relative = ((reduced - plain).norm() / plain.norm()).item()
    result = f"relative difference {relative:.1e}; at most {GRADIENT_LIMIT:.0e}"
    return Row(result, relative <= GRADIENT_LIMIT, {"relative": relative})


def train_in_group(settings: Settings) -> Row:
    """Train two iterations of the demo's model with main.py in a process group of one."""
    if find_spec("detectron2") is None:
        raise Skipped("detectron2 is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
    environment = os.environ | {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"train.output_dir={folder}", f"train.device={settings.device}", "train.max_iter=2", "train.eval_period=0",
            "dataloader.train.num_workers=0", "dataloader.train.batch_size=2", "dataloader.train.dataset.size=64",
        ]  # fmt: skip
        command = [sys.executable, "main.py", "--config-file", "configs/ViTMatte_demo.py", *overrides]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        written = (Path(folder) / "model_final.pth").is_file()
    if done.returncode == 0 and written:
        return Row("two iterations, model_final.pth written", passed=True)
    print(done.stderr, file=sys.stderr)
    last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1][:200]
    return Row(f"status {done.returncode}: {last}", passed=False)
