"""The contract of a system: what it takes, what it gives, and what it costs.

Trainer, predictor, evaluators, checkpoints and exporter know a system by this class alone. A new system subclasses
`System`, states its inputs, outputs and targets, and implements `encode`, `decode` and `losses`; the rest has defaults.
tests/systems.py holds two small ones.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data.images.classes import Classes
from data.images.trimap_tensors import quantise_trimap_tensor
from modeling.meta_arch.footprint import Footprint
from runtime.errors import InputError

if TYPE_CHECKING:
    from modeling.backbone.base import Encoder

Batch = Mapping[str, Any]
PUBLIC_NAMES = {"alpha": "phas"}  # what `forward` calls an output: ViTMatte's spelling


@dataclass(frozen=True)
class ParameterRoles:
    """What the optimizer treats differently; a parameter in none of these learns at the base rate, with decay.

    Attributes:
        layers: pretrained parameters with their depth: 0 for embeddings, i + 1 for block i.
        tokens: tokens, position embeddings and LayerScale factors, which weight decay must not shrink.
        head: parameters behind the encoder, whose learning rate has a factor of its own.
        new: parameters that start from random weights also where a pretrained file is loaded.
    """

    layers: Mapping[nn.Parameter, int] = field(default_factory=dict)
    tokens: frozenset[nn.Parameter] = frozenset()
    head: frozenset[nn.Parameter] = frozenset()
    new: frozenset[nn.Parameter] = frozenset()

    @classmethod
    def of(cls, encoder: "Encoder", head: nn.Module) -> "ParameterRoles":
        """The roles of a pretrained encoder and a head that starts from random weights."""
        layers = dict(encoder.parameter_layers())
        head_parameters = frozenset(head.parameters())
        return cls(
            layers=layers,
            tokens=frozenset(encoder.token_parameters()),
            head=head_parameters,
            new=head_parameters | {parameter for parameter in encoder.parameters() if parameter not in layers},
        )


class System(nn.Module):
    """A network with its losses, as training and inference see it.

    Attributes:
        inputs: names of what it reads. "image" is (B, 3, H, W) RGB float in [0, 1], "trimap" (B, 1, H, W).
        outputs: names of what it predicts. "alpha" is (B, 1, H, W) and "foreground" (B, 3, H, W) in [0, 1], "mask"
            (B, K, H, W) probabilities of K classes.
        targets: what a training batch holds besides the inputs.
        learns_composition: whether a loss compares the image with what alpha makes of its "fg" and "bg".
        num_classes: of a "mask".
        size_divisibility: the multiple that both sides of an image are padded to inside. Images whose padded sizes
            agree can share a batch.
        min_side: pixels of the shorter side of the smallest image that it takes.
        depends_on_padding: whether padding an image changes its result; then only images of one size share a batch.
        has_scalable_encoder: whether `encode` takes a `scale` above 1.
        has_tiled_encoder: whether `encode_in_tiles` takes the place of predicting tile by tile.
        tile_multiple: of the first rows and columns of tiles, where a result depends on where the pools lie; it divides
            32.
        needs_weights: for a message, why training cannot start from random weights and what it starts from; None where
            it can.
        iteration: of training; the trainer sets it before each step.
        padding_colour: (3,) RGB that equals the padding which the system adds itself.
    """

    inputs: tuple[str, ...] = ("image", "trimap")
    outputs: tuple[str, ...] = ("alpha",)
    targets: tuple[str, ...] = ("alpha",)
    learns_composition: bool = False
    num_classes: int = 2
    size_divisibility: int = 1
    min_side: int = 1
    depends_on_padding: bool = False
    has_scalable_encoder: bool = False
    has_tiled_encoder: bool = False
    tile_multiple: int = 1
    needs_weights: str | None = None
    iteration: int = 0

    # ---- what a system implements

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Any:
        """Run the encoder once; `decode` may then be called any number of times.

        Args:
            inputs: tensors named in `inputs`, on the system's device, the trimap of exactly 0, 0.5 and 1.
            scale: the encoder sees an image so many times smaller, where `has_scalable_encoder`.

        Returns:
            a state that only `decode` and `losses` look into.
        """
        raise NotImplementedError

    def encode_in_tiles(self, inputs: Mapping[str, Tensor], size: int, overlap: int) -> Any:
        """Encode tile by tile, for a `decode` that sees the picture as a whole, where `has_tiled_encoder`.

        Args:
            size, overlap: of the tiles, pixels.
        """
        raise NotImplementedError

    def decode(self, state: Any) -> dict[str, Tensor]:
        """Turn a state into the tensors named in `outputs`, at the image's size."""
        raise NotImplementedError

    def losses(self, batch: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Named scalar losses of a batch.

        Args:
            batch: from `prepare`, in training mode.
            counts: as `counts` gives them, or their means where the batch is part of a larger one.
        """
        raise NotImplementedError

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars that the losses divide by, such as the number of unknown pixels.

        The trainer averages them over the micro-batches and processes of an iteration and passes the means to `losses`,
        so that how a batch is divided does not change what is minimised.
        """
        return {}

    def frozen_features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Features (B, C, h, w) that a frozen encoder makes of `inputs`; a batch that has "features" is not encoded.

        Args:
            inputs: from `prepare`, of one size.

        Raises:
            InputError: there is no encoder, or it is not frozen.
        """
        raise InputError(f"train.cache_features: {type(self).__name__} has no encoder whose features could be kept")

    def footprint(self) -> Footprint:
        """Peak memory of a prediction; the default is generous."""
        return Footprint.unknown()

    def parameter_roles(self) -> ParameterRoles:
        """Pretrained layers, tokens, head and new parameters; by default everything is new."""
        return ParameterRoles(new=frozenset(self.parameters()))

    def starts_fresh(self, key: str) -> bool:
        """Whether a pretrained file may lack this tensor of the system."""
        return False

    def check_start(self, description: Mapping[str, Any]) -> None:
        """Refuse to start training from a checkpoint of another kind of run than is meant, although its weights fit.

        Args:
            description: of the checkpoint's model, its config in plain values; empty where it has none.

        Raises:
            InputError: training does not start from such a checkpoint.
        """

    def may_be_left_out(self, key: str) -> bool:
        """Whether a pretrained file may hold this tensor although the system has none of that name."""
        return False

    def metadata(self) -> dict[str, Any]:
        """Plain values that must agree between weights and system, such as pixel statistics."""
        return {}

    def mask_cell(self, height: int, width: int) -> float:
        """Pixels of a picture of this size that one cell of a predicted mask's grid covers: its edges are so vague."""
        return 1.0

    def sample_errors(self) -> tuple[Tensor, Tensor] | None:
        """For monitoring: unknown share and mean absolute error (B,) of the last training batch's samples, or None."""
        return None

    def training_confusion(self) -> Tensor | None:
        """For monitoring: pixels by true class (rows) and predicted class, (K, K), of what was trained on since the
        last call; None for systems that predict no "mask"."""
        return None

    def training_pictures(self) -> dict[str, Tensor]:
        """For monitoring: pictures (B, 1 or 3, H, W) in [0, 1] of the last training batch, by name."""
        return {}

    def set_sampling(
        self,
        strategy: str | None = None,
        seed: int | None = None,
        clamp_known: str | None = None,
        keep_steps: bool = False,
    ) -> None:
        """Change how a system samples that predicts in several steps, see DiffMatte."""
        raise InputError(f"{type(self).__name__} predicts in one step: it has no sampling strategy, seed or steps")

    def compile_encoder(self, **options: Any) -> None:
        """Compile what gains by it with torch.compile, in place, so that the weights keep their names."""
        raise InputError(f"compile: {type(self).__name__} has no part that can be compiled")

    def traceable(self) -> nn.Module:
        """The network in traceable operations, called with the inputs in their order: what an ONNX file computes."""
        raise InputError(f"cannot export a {type(self).__name__} to ONNX")

    # ---- what every system has

    def __init__(self) -> None:
        super().__init__()
        self._has_frozen_parts = False

    def freeze(self, parameters: Collection[nn.Parameter]) -> None:
        """Keep parameters as they are: without gradient, and in eval mode the modules that are frozen as a whole."""
        for parameter in parameters:
            parameter.requires_grad_(False)
        self._has_frozen_parts = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "System":
        super().train(mode)
        if self._has_frozen_parts:  # looked up each time: BatchNorm is exchanged where processes share statistics
            for module in self.modules():
                learns = [parameter.requires_grad for parameter in module.parameters()]
                if learns and not any(learns):
                    module.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    @property
    def classes(self) -> Classes:
        """Colours and label values of the classes of a "mask"."""
        return Classes.numbered(self.num_classes)

    @property
    def padding_colour(self) -> Tensor:
        """(3,) on the CPU; black unless the system says otherwise."""
        return torch.zeros(3)

    def forward(self, batch: Batch, counts: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Predict in eval mode, return losses in training mode.

        Args:
            batch: `inputs`, and in training mode `targets`; any H, W >= 1, any device. Trimaps are quantised.
            counts: from the trainer, with a batch that went through `prepare` already. None counts this batch's own.

        Returns:
            outputs by their public name ("alpha" is "phas", (B, 1, H, W) in [0, 1]), or name -> scalar loss.

        Raises:
            InputError: the batch lacks an input or a target.
        """
        if counts is None:
            batch = self.prepare(batch)
        if self.training:
            return self.losses(batch, self.counts(batch) if counts is None else counts)
        outputs = self.decode(self.encode(batch))
        return {PUBLIC_NAMES.get(name, name): output for name, output in outputs.items()}

    def predict(self, image: Tensor, trimap: Tensor | None = None, encoder_scale: int = 1) -> Tensor:
        """The first output, for systems with alpha (B, 1, H, W) in [0, 1].

        Args:
            image: (B, 3, H, W) RGB float in [0, 1].
            trimap: (B, 1, H, W); for systems that read one.
            encoder_scale: see `encode`. More than 1 saves most of the memory and time of large images, and is an
                approximation.

        Example:
            >>> alpha = model.eval().predict(image, trimap)
        """
        given = {"image": image} if trimap is None else {"image": image, "trimap": trimap}
        return self.decode(self.encode(self.prepare(given), encoder_scale))[self.outputs[0]]

    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """Inputs (and targets in training mode) on the system's device, the trimap as exactly 0, 0.5 and 1."""
        names = self.inputs + (self.targets if self.training else ())
        missing = [name for name in names if name not in batch]
        if missing:
            raise InputError(
                f"{type(self).__name__} needs {', '.join(names)}; the batch lacks {', '.join(missing)} and has "
                f"{', '.join(batch)}"
            )
        tensors = {name: batch[name].to(self.device, non_blocking=True) for name in names}
        if "trimap" in tensors:
            if not self.training or batch["trimap"].device.type == "cpu":  # a training step waits for no accelerator
                _check_scale(batch["trimap"])
            tensors["trimap"] = quantise_trimap_tensor(tensors["trimap"])
        return tensors


def _check_scale(trimap: Tensor) -> None:
    """Refuse 0..255 in a float tensor, all of which would be foreground. Resizing may overshoot 1 a little."""
    if trimap.is_floating_point() and trimap.numel() and trimap.max() > 2:
        raise InputError(
            f"trimap: expected floats in [0, 1] or integers in 0..255, got floats up to {float(trimap.max()):g}"
        )
