"""A compiled backbone compared with an eager one: alpha, losses and time."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch._dynamo
from torch import Tensor

from modeling.meta_arch import ViTMatte
from tools.benchmark_training import random_samples
from tools.gpu_checks.inputs import named, random_dinov3_vitmatte, random_pair
from tools.gpu_checks.rows import Case, Row
from tools.gpu_checks.settings import Settings, exact_float32

ALPHA_LIMIT = 1e-3  # in float32 without TF32
LOSS_LIMIT = 0.02  # relative, in bf16
SHARE = 0.2


def cases(settings: Settings) -> Iterator[Case]:
    batch, side = settings.sized((8, 512), (1, 64))
    backend = settings.sized("inductor", "aot_eager")
    yield f"alpha, {named((side, side))}, fp32, {backend}", partial(compare_alpha, settings, (side, side))
    yield f"forward and backward, batch {batch}, crop {side}, bf16, {backend}", partial(train, settings, batch, side)


def build(settings: Settings) -> ViTMatte:
    """A model whose backbone computes all features, as in training."""
    model = random_dinov3_vitmatte(settings.tiny).to(settings.device)
    model.sparse_decoding = False
    return model


def train(settings: Settings, batch: int, side: int) -> Row:
    """Forward and backward in bf16, with the backbone compiled as by train.compile=True."""
    torch._dynamo.reset()
    samples = {key: value.to(settings.device) for key, value in random_samples(batch, side).items()}
    model = build(settings).train()

    def forward_backward() -> Tensor:
        model.zero_grad(set_to_none=True)
        with settings.autocast("bf16"):
            loss = sum(model(samples).values())
        loss.backward()
        return loss.detach()

    loss, eager = forward_backward().item(), settings.measure(forward_backward)
    seconds = compile_backbone(settings, model, forward_backward)
    compiled_loss, compiled = forward_backward().item(), settings.measure(forward_backward)
    relative = abs(compiled_loss - loss) / abs(loss)
    return Row(
        f"losses differ by {relative:.1e}, at most {LOSS_LIMIT:.0e}; eager {eager}, compiled {compiled}, "
        f"{compiled.speed_against(eager)}; the first took {seconds:.0f} s",
        relative <= LOSS_LIMIT,
        {"relative": relative, "eager": eager._asdict(), "compiled": compiled._asdict(), "compile_seconds": seconds},
    )


@torch.inference_mode()
def compare_alpha(settings: Settings, size: tuple[int, int]) -> Row:
    """Alpha in float32, in eval mode."""
    model = build(settings)
    predict = partial(model.predict, *random_pair(size, SHARE, device=settings.device))
    with exact_float32():
        expected, eager = predict(), settings.measure(predict)
        seconds = compile_backbone(settings, model, predict)
        largest, compiled = (predict() - expected).abs().max().item(), settings.measure(predict)
    return Row(
        f"max {largest:.1e}, at most {ALPHA_LIMIT:.0e}; eager {eager}, compiled {compiled}, "
        f"{compiled.speed_against(eager)}; the first took {seconds:.0f} s",
        largest <= ALPHA_LIMIT,
        {"max": largest, "eager": eager._asdict(), "compiled": compiled._asdict(), "compile_seconds": seconds},
    )


def compile_backbone(settings: Settings, model: ViTMatte, first_call: Callable[[], Tensor]) -> float:
    """Compile the backbone in place, as in training, and return the seconds of the first call."""
    model.compile_encoder(backend=settings.sized("inductor", "aot_eager"))
    started = time.perf_counter()
    first_call()
    settings.synchronise()
    return time.perf_counter() - started
