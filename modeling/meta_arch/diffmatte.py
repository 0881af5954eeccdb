"""DiffMatte: an encoder that runs once, and a small decoder that refines alpha from noise in several steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.images.trimap_tensors import fuse_trimap
from modeling.backbone import Encoder
from modeling.criterion import MattingCriterion
from modeling.decoder.diffusion_unet import DiffusionUNet
from modeling.diffusion import GaussianDiffusion, Strategy
from modeling.meta_arch.footprint import FLOAT, PICTURE_FLOATS, Footprint
from modeling.meta_arch.trimap_matting import TrimapMatting, check_divisibility, pad_to_multiple
from modeling.tiling import Tile, ramp, tiles_of
from modeling.trimap_input import encode_trimap
from runtime.errors import InputError, require_choice

GUIDE_TRIMAPS = {4: None, 5: "value", 7: "one_hot"}  # trimap input by the decoder's channels: RGB, trimap, noisy alpha
CLAMP_KNOWN = {"auto": None, "always": True, "never": False}
SMALL_PICTURE = 512 * 512  # pixels; see `clamp_known_each_step`
CANVAS_FLOATS = 12  # per pixel of the sampler: x, its estimate, the sums of tiles
SHOWN_DEVIATIONS = 2  # standard deviations of the noisy alpha on either side of gray in a picture of it
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Part:
    """A tile of an encoded image.

    Attributes:
        tile: its position.
        raw_map: function from the noisy alpha of the padded tile (B, 1, h', w') and a time to the raw map of that size.
    """

    tile: Tile
    raw_map: Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Encoded:
    """An encoded batch: parts that cover the needed pixels, and the trimap (B, 1, H, W) of 0, 0.5 and 1."""

    parts: Sequence[Part]
    overlap: int
    trimap: Tensor
    clamp_known: bool


class DiffMatte(TrimapMatting):
    """Diffusion matting (Hu et al., "Diffusion for Natural Image Matting", ECCV 2024; YihanHu-2022/DiffMatte).

    Inference starts from noise. In each step the decoder estimates the clean alpha from the noisy one, the image and
    the encoder's features, which are computed once. The noise is drawn from a seed for each image, so a result does not
    depend on earlier predictions.

    In training, the noisy alpha is made from the true alpha ("plain"), or from the decoder's own estimate
    ("self-alignment"), so that the decoder learns from the errors that occur in sampling. Stage 1 estimates from pure
    noise. Stage 2 estimates from the true alpha at a later time, with an interval drawn uniformly. Only the second pass
    of the decoder has a gradient; batch normalisation uses both.

    Args:
        backbone, criterion, pixel_mean, pixel_std, size_divisibility, trimap_input: see TrimapMatting. The losses
            compare alphas on the scale [-1, 1], as the release does.
        decoder: network from features and noisy alpha to the raw map.
        diffusion: diffusion process.
        sample_strategy: "ddimN" or "ddpmN" with N steps.
        sample_seed: seed of the initial noise.
        clamp_known_each_step: whether the trimap's values replace the estimate in its known regions in every step.
            The decoder then runs only where alpha is unknown, which saves most of the time. The release does not do
            this. None for True above 512 x 512 pixels.
        self_align_stage1_step, self_align_stage2_step: iterations from which training is self-aligned; None for never.
        self_align_prob: share of self-aligned iterations from there on.
    """

    has_tiled_encoder = True
    depends_on_padding = True  # noise is drawn, and its deviation measured, at the size of the image

    def __init__(
        self,
        *,
        backbone: Encoder,
        decoder: DiffusionUNet,
        diffusion: GaussianDiffusion,
        criterion: MattingCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int = 32,
        trimap_input: str = "value",
        sample_strategy: str = "ddim10",
        sample_seed: int = 0,
        clamp_known_each_step: bool | None = None,
        self_align_stage1_step: int | None = None,
        self_align_stage2_step: int | None = None,
        self_align_prob: float = 1.0,
    ) -> None:
        super().__init__(backbone, criterion, pixel_mean, pixel_std, size_divisibility, trimap_input)
        check_divisibility("DiffMatte", size_divisibility, backbone.patch_size)
        if decoder.in_chans not in GUIDE_TRIMAPS:
            raise InputError(
                f"DiffMatte: decoder.downsample_in must begin with one of {list(GUIDE_TRIMAPS)}, got {decoder.in_chans}"
            )
        if (decoder.patch_size, decoder.features_chans) != (backbone.patch_size, backbone.embed_dim):
            raise InputError(
                f"DiffMatte: the backbone gives {backbone.embed_dim} channels for patches of {backbone.patch_size} "
                f"pixels, and decoder.upsample_in is made for {decoder.features_chans} channels and patches of "
                f"{decoder.patch_size}"
            )
        if criterion.fuse_trimap:
            raise InputError("DiffMatte: criterion.fuse_trimap is for alphas in [0, 1], these losses are for [-1, 1]")
        if clamp_known_each_step not in (True, False, None) or not 0 <= self_align_prob <= 1:
            raise InputError(
                "DiffMatte: expected clamp_known_each_step true, false or null and self_align_prob from 0 to 1, got "
                f"{clamp_known_each_step!r} and {self_align_prob!r}"
            )
        self.decoder = decoder
        self.diffusion = diffusion
        self.clamp_known_each_step = clamp_known_each_step
        self.self_align_stage1_step = self_align_stage1_step
        self.self_align_stage2_step = self_align_stage2_step
        self.self_align_prob = self_align_prob
        self._pictures: dict[str, Tensor] = {}
        self.set_sampling(sample_strategy, sample_seed)

    def set_sampling(
        self,
        strategy: str | None = None,
        seed: int | None = None,
        clamp_known: str | None = None,
        keep_steps: bool = False,
    ) -> None:
        """Change the sampling of alpha.

        Args:
            strategy, seed: see the class; None to leave a setting unchanged.
            clamp_known: "auto", "always" or "never", see `clamp_known_each_step`; None to leave it unchanged.
            keep_steps: whether "steps" is predicted too, (B, 2 N, H, W) in [0, 1]: the noisy alpha at the start of each
                step and its estimate.

        Raises:
            InputError: an unknown strategy, or a seed out of range.
        """
        if strategy is not None:
            self.strategy = Strategy.parse(strategy)
        if seed is not None:
            if not 0 <= seed <= LARGEST_SEED:
                raise InputError(f"seed: expected 0 to {LARGEST_SEED}, got {seed}")
            self.seed = seed
        if clamp_known is not None:
            require_choice("clamp known", clamp_known, tuple(CLAMP_KNOWN))
            self.clamp_known_each_step = CLAMP_KNOWN[clamp_known]
        self.outputs = ("alpha", "steps") if keep_steps else ("alpha",)

    # ---- inference

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Encoded:
        height, width = inputs["image"].shape[-2:]
        return self._encode(inputs, [Tile(0, 0, height, width)], overlap=0, scale=scale)

    def encode_in_tiles(self, inputs: Mapping[str, Tensor], size: int, overlap: int) -> Encoded:
        multiple = self.size_divisibility
        overlap = -(-overlap // multiple) * multiple
        size = max(size // multiple * multiple, 2 * overlap + multiple)
        tiles = list(tiles_of(*inputs["image"].shape[-2:], size, overlap, multiple))
        return self._encode(inputs, tiles, overlap)

    def decode(
        self, state: Encoded, strategy: Strategy | None = None, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Sample alpha.

        Args:
            state: result of `encode`.
            strategy: sampling strategy; None for the model's.
            noise: initial noise (B, 1, H, W). None to draw it from the model's seed, the same for every image.
        """
        strategy = strategy or self.strategy
        generator = torch.Generator().manual_seed(self.seed)
        shape = state.trimap.shape

        def draw() -> Tensor:
            return torch.randn(1, *shape[1:], generator=generator).to(state.trimap).expand(shape)

        first = draw()
        known = torch.where(state.trimap == 0.5, torch.nan, state.trimap) if state.clamp_known else None
        steps: list[Tensor] = []

        def observe(index: int, x_t: Tensor, x0: Tensor) -> None:
            steps.extend((self._shown(x_t), (x0 + 1) / 2))

        alpha = self.diffusion.sample(
            lambda x_t, time: self._estimate(state, x_t, time),
            first if noise is None else noise.to(state.trimap),
            strategy,
            step_noise=draw,
            known=known,
            observe=observe if "steps" in self.outputs else None,
        )
        outputs = {"alpha": fuse_trimap(alpha, state.trimap)}
        return outputs | ({"steps": torch.cat(steps, dim=1)} if steps else {})

    def predict(
        self,
        image: Tensor,
        trimap: Tensor | None = None,
        encoder_scale: int = 1,
        strategy: str | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Alpha (B, 1, H, W) in [0, 1].

        Args:
            image, trimap, encoder_scale: see System.predict.
            strategy: "ddimN" or "ddpmN"; None for the model's.
            noise: (B, 1, H, W), standard normal; None to draw it from the model's seed.

        Example:
            alpha = model.eval().predict(image, trimap, strategy="ddim10")
        """
        parsed = None if strategy is None else Strategy.parse(strategy)
        inputs = self.prepare({"image": image} if trimap is None else {"image": image, "trimap": trimap})
        if noise is not None and noise.shape != inputs["trimap"].shape:
            raise InputError(
                f"noise: expected the trimap's shape {tuple(inputs['trimap'].shape)}, got {tuple(noise.shape)}"
            )
        return self.decode(self.encode(inputs, encoder_scale), parsed, noise)["alpha"]

    def _encode(self, inputs: Mapping[str, Tensor], tiles: Sequence[Tile], overlap: int, scale: int = 1) -> Encoded:
        image, trimap = inputs["image"], inputs["trimap"]
        self._check_sizes(image, trimap)
        clamp = self.clamp_known_each_step
        clamp = image.shape[-2] * image.shape[-1] > SMALL_PICTURE if clamp is None else clamp
        parts = []
        for tile in tiles:
            unknown = None
            if clamp:
                unknown = pad_to_multiple(tile.of(trimap) == 0.5, self.size_divisibility)
                if not unknown.any():
                    continue
            features, guide = self._features_and_guide(tile.of(image), tile.of(trimap), unknown, scale)
            like = parts[-1].raw_map if parts else None
            parts.append(Part(tile, self.decoder.prepared(features, guide, unknown, like)))
        return Encoded(parts, overlap, trimap, clamp)

    def _estimate(self, state: Encoded, x_t: Tensor, time: float) -> Tensor:
        """Estimate of x0 (B, 1, H, W), with raised-cosine weights where tiles overlap."""
        seen = self.diffusion.seen(x_t)
        times = x_t.new_full((len(x_t),), time)
        total, weights = torch.zeros_like(x_t), x_t.new_zeros(1, 1, *x_t.shape[-2:])
        for part in state.parts:
            tile = part.tile
            raw = part.raw_map(pad_to_multiple(tile.of(seen), self.size_divisibility), time)
            x0 = self.diffusion.clean(raw[..., : tile.height, : tile.width], tile.of(x_t), times)
            if len(state.parts) == 1 and tile.of(x_t).shape == x_t.shape:
                return x0
            weight = (torch.pi / 2 * ramp(tile, x_t.shape[-2:], state.overlap)).sin().square().to(x_t)
            tile.of(total).addcmul_(x0, weight)
            tile.of(weights).add_(weight)
        return total.div_(weights.clamp_(min=1e-6))

    # ---- training

    def losses(self, batch: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image, trimap, x0 = batch["image"], batch["trimap"], 2 * batch["alpha"] - 1
        features, guide = self._features_and_guide(image, trimap)

        def estimate(x_t: Tensor, time: Tensor) -> Tensor:
            seen = pad_to_multiple(self.diffusion.seen(x_t), self.size_divisibility)
            raw = self.decoder(features, guide, seen, time)[..., : x0.shape[-2], : x0.shape[-1]]
            return self.diffusion.clean(raw, x_t, time)

        stage = self.self_alignment()
        noise = torch.randn_like(x0)
        interval = torch.rand(len(x0), device=x0.device) if stage == "stage2" else 0
        time = torch.rand(len(x0), device=x0.device) * (1 - interval)
        source = x0
        if stage is not None:
            with torch.no_grad():
                if stage == "stage1":
                    source = estimate(noise, torch.ones_like(time))
                else:
                    source = estimate(self.diffusion.add_noise(x0, noise, time + interval), time + interval)
            torch.clear_autocast_cache()  # the cached weights were made without gradient
        x_t = self.diffusion.add_noise(source, noise, time)
        predicted = estimate(x_t, time)
        shown = {"noisy alpha": self._shown(x_t), "estimate": (predicted.detach() + 1) / 2}
        self._pictures = {"image": image, "trimap": trimap, **shown, "alpha": batch["alpha"]}
        return self.criterion(predicted, x0, trimap, counts["unknown_pixels"])

    def self_alignment(self) -> str | None:
        """Stage of self-alignment, "stage1" or "stage2", of the current iteration; None for plain training."""
        starts = {"stage2": self.self_align_stage2_step, "stage1": self.self_align_stage1_step}
        stage = next((name for name, start in starts.items() if start is not None and self.iteration >= start), None)
        if stage is None or self.self_align_prob >= 1:
            return stage
        drawn = torch.rand((), generator=torch.Generator().manual_seed(self.iteration))  # the same in all processes
        return stage if drawn.item() < self.self_align_prob else None

    def sample_errors(self) -> tuple[Tensor, Tensor] | None:
        errors = self.criterion.last_per_sample
        return None if errors is None else (errors[0], errors[1] / 2)  # errors of alphas in [-1, 1]

    def training_pictures(self) -> dict[str, Tensor]:
        return self._pictures

    # ---- training and inference

    def footprint(self) -> Footprint:
        features = self.backbone.embed_dim / self.backbone.patch_size**2
        shown = 4 * self.strategy.steps if "steps" in self.outputs else 0
        sparse = self.clamp_known_each_step is not False and self.device.type == "cpu"
        step = self.decoder.sparse_floats if sparse else self.decoder.dense_floats
        kept = step if sparse else self.decoder.static_floats + self.decoder.in_chans  # for each tile
        return Footprint(
            picture=FLOAT * (PICTURE_FLOATS + self.decoder.in_chans + CANVAS_FLOATS + shown),
            encoder=FLOAT * self.backbone.peak_floats,
            features=FLOAT * (features + step),
            band=FLOAT * (self.decoder.dense_floats - step),  # for a small image, whose steps are whole
            band_pixels=SMALL_PICTURE,
            token_pixels=self.backbone.patch_size**2,
            canvas=FLOAT * (PICTURE_FLOATS + CANVAS_FLOATS + shown + features + kept),
        )

    def traceable(self) -> nn.Module:
        raise InputError("cannot export a DiffMatte to ONNX: it samples in steps; export a one-shot ViTMatte instead")

    def _features_and_guide(
        self, image: Tensor, trimap: Tensor, unknown: Tensor | None = None, scale: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Features of the encoder, and the guide (B, C, H', W'), the decoder's input of image and trimap.

        The guide is 2 v - 1 for normalised RGB and the trimap's channels, and 0 in the padding.
        """
        pixels = self._inputs(image, trimap)
        needed = None if unknown is None else self.decoder.needed_features(unknown)
        features = self._features(pixels, needed, scale)
        kind = GUIDE_TRIMAPS[self.decoder.in_chans]
        channels = [pixels[:, :3, : image.shape[-2], : image.shape[-1]]]
        channels += [] if kind is None else [encode_trimap(trimap, kind)]
        guide = torch.cat(channels, dim=1).mul_(2).sub_(1)
        return features, pad_to_multiple(guide, self.size_divisibility)

    def _shown(self, x_t: Tensor) -> Tensor:
        """Picture in [0, 1] of a noisy alpha."""
        scaled = self.diffusion.seen(x_t.detach()) / SHOWN_DEVIATIONS
        return ((scaled + 1) / 2).clamp(0, 1)
