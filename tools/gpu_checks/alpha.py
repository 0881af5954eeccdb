"""Alpha on the device compared with that on a CPU, by precision and decoding."""

import copy
from collections.abc import Iterator
from functools import partial
from math import nan

import numpy as np
import torch
from torch import Tensor

from engine.inference.predict import Plan, Predictor
from modeling.meta_arch import ViTMatte
from tools.gpu_checks.inputs import named, random_dinov3_vitmatte, random_original_vitmatte, random_pair
from tools.gpu_checks.rows import Case, Row
from tools.gpu_checks.settings import Settings, exact_float32

MODELS = {"DINOv3 ViTMatte-S": random_dinov3_vitmatte, "original ViTMatte-S": random_original_vitmatte}
SIZES = ((512, 512), (333, 517), (97, 701), (768, 1024))
TINY_SIZES = ((64, 64), (45, 70))
SHARE = 0.2
# Largest and mean difference in the unknown region, where a gray level is 4e-3. "tf32" is float32 with PyTorch's
# default settings, with TF32 in convolutions.
LIMITS = {"fp32": (1e-3, 2e-5), "tf32": (5e-3, 6e-4), "bf16": (3e-2, 4e-3), "fp16": (5e-3, 6e-4)}

PREDICTORS = {
    "mirrored views": ("flip", Plan("whole")),
    "encoder at 1/2": ("none", Plan("reduced", scale=2)),
    "tiles": ("none", Plan("tiles", tile=256)),
}

Alphas = dict[tuple[int, int], Tensor]


def cases(settings: Settings) -> Iterator[Case]:
    sizes = settings.sized(SIZES, TINY_SIZES)
    for name, build in MODELS.items():
        reference = build()
        model = copy.deepcopy(reference).to(settings.device)
        with torch.inference_mode():
            expected = {size: reference.predict(*random_pair(size, SHARE)) for size in sizes}
        for precision in settings.sized(LIMITS, ("fp32", "bf16", "fp16")):
            for decoding in ("sparse", "dense"):
                check = partial(compare, settings, model, expected, precision, decoding)
                yield f"{name}, {precision}, {decoding}; {', '.join(map(named, sizes))}", check
        for way, (views, plan) in PREDICTORS.items():
            check = partial(compare_predictors, reference, model, sizes[-1], views, plan)
            yield f"{name}, fp32, predictor, {way}, {named(sizes[-1])}", check


@torch.inference_mode()
def compare(settings: Settings, model: ViTMatte, expected: Alphas, precision: str, decoding: str) -> Row:
    """Differences of one precision and decoding, over all sizes."""
    model.decoder.decoding = decoding
    largest, means = [], []
    for size, alpha in expected.items():
        image, trimap = random_pair(size, SHARE, device=settings.device)
        if precision == "tf32":
            ours = model.predict(image, trimap)
        else:
            with exact_float32(), settings.autocast(precision):
                ours = model.predict(image, trimap)
        error = (ours.cpu() - alpha).abs()[trimap.cpu() == 0.5]
        largest.append(error.max().item())
        means.append(error.mean().item())
    finite = all(mean == mean for mean in means)
    worst, mean = (max(largest), max(means)) if finite else (nan, nan)
    limits = LIMITS[precision]
    return Row(
        f"max {worst:.1e}, mean {mean:.1e}; at most {limits[0]:.0e}, {limits[1]:.0e}",
        worst <= limits[0] and mean <= limits[1],
        {"max": worst, "mean": mean},
    )


def compare_predictors(reference: ViTMatte, model: ViTMatte, size: tuple[int, int], views: str, plan: Plan) -> Row:
    """Compare 8-bit mattes from arrays, as in inference.py."""
    model.decoder.decoding = "auto"
    image, trimap = random_pair(size, SHARE)
    sample = {
        "image": (255 * image[0]).byte().permute(1, 2, 0).numpy(),
        "trimap": np.array([0, 128, 255], np.uint8)[(2 * trimap[0, 0]).long().numpy()],
    }
    with exact_float32():
        alphas = [
            Predictor(each, mode=plan.mode, views=views)([sample], plan)[0]["alpha"].astype(int)
            for each in (reference, model)
        ]
    largest = int(np.abs(alphas[1] - alphas[0]).max())
    return Row(f"at most {largest} of 255 levels apart, limit 1", largest <= 1, {"levels": largest})
