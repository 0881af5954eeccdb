"""Time and peak memory of ViTMatte-S and of transformers' VitMatte with the same weights, by kind of decoding."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tools.benchmark_inference import our_model, predict, transformers_model
from tools.gpu_checks.inputs import named, random_pair
from tools.gpu_checks.rows import Case, Row
from tools.gpu_checks.settings import Cost, Settings, exact_float32

SIZES = ((1024, 1024), (2048, 2048), (2160, 3840))
TINY_SIZES = ((64, 64),)
WAYS = {"fp32": ("auto", "sparse", "dense"), "bf16": ("auto", "sparse", "dense"), "fp16": ("auto",)}
SHARE = 0.2
LIMIT = 1e-3  # largest difference in the unknown region, in float32 without TF32

Pair = tuple[Tensor, Tensor]


def cases(settings: Settings) -> Iterator[Case]:
    theirs = transformers_model()
    ours = our_model(theirs).to(settings.device)
    models = ours, theirs.to(settings.device)
    for size in settings.sized(SIZES, TINY_SIZES):
        pair = random_pair(size, SHARE, device=settings.device)
        yield f"{named(size)}, fp32, alpha against transformers", partial(compare_alpha, *models, pair)
        for precision in settings.sized(WAYS, ("bf16",)):
            yield f"{named(size)}, {precision}", partial(compare_costs, settings, *models, pair, precision)


@torch.inference_mode()
def compare_alpha(ours: nn.Module, theirs: nn.Module, pair: Pair) -> Row:
    """Difference between both alphas in the unknown region, in exact float32."""
    with exact_float32():
        expected = unless_out_of_memory(lambda: predict(theirs, *pair))
        alpha = predict(ours, *pair)
    if expected is None:
        return Row("transformers out of memory: not compared")
    largest = (alpha - expected).abs()[pair[1] == 0.5].max().item()
    return Row(f"max {largest:.1e}; at most {LIMIT:.0e}", largest <= LIMIT, {"max": largest})


@torch.inference_mode()
def compare_costs(settings: Settings, ours: nn.Module, theirs: nn.Module, pair: Pair, precision: str) -> Row:
    """Time and memory of ours, with each kind of decoding, and of theirs."""
    costs: dict[str, Cost | None] = {}
    with settings.autocast(precision):
        for decoding in WAYS[precision]:
            ours.decoder.decoding = decoding
            costs[decoding] = settings.measure(lambda: predict(ours, *pair))
        ours.decoder.decoding = "auto"
        costs["theirs"] = unless_out_of_memory(lambda: settings.measure(lambda: predict(theirs, *pair), warm_up=1))
    against = "transformers out of memory"
    if costs["theirs"] is not None:
        against = f"transformers {costs['theirs']}, ours {costs['auto'].speed_against(costs['theirs'])}"
    by_way = "".join(f"; {way} {costs[way]}" for way in WAYS[precision][1:])
    values = {name: None if cost is None else cost._asdict() for name, cost in costs.items()}
    return Row(f"ours {costs['auto']}; {against}{by_way}", None, values)


def unless_out_of_memory(function: Callable[[], Tensor | Cost]) -> Tensor | Cost | None:
    """Result of the function, or None if the device's memory is too small."""
    try:
        return function()
    except torch.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()
    return None
