"""System: the contract of a matting or segmentation network with training, inference, checkpoints and export.

Trainer, predictor, evaluators, checkpoints and exporter only use this class. A new system subclasses `System`, declares
its inputs, outputs and targets, and implements `encode`, `decode` and `losses`; everything else has defaults.
tests/systems.py has two small examples.
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
PUBLIC_NAMES = {"alpha": "phas"}  # names of outputs in the result of `forward`: ViTMatte's spelling


@dataclass(frozen=True)
class ParameterRoles:
    """Groups of parameters for the optimizer. A parameter in no group has the base rate and weight decay.

    Attributes:
        layers: pretrained parameters with their depth: 0 for embeddings, i + 1 for block i.
        tokens: tokens, position embeddings and LayerScale factors, which are exempt from weight decay.
        head: parameters after the encoder, whose learning rate has its own factor.
        new: parameters that start from random weights even if a pretrained file is loaded.
    """

    layers: Mapping[nn.Parameter, int] = field(default_factory=dict)
    tokens: frozenset[nn.Parameter] = frozenset()
    head: frozenset[nn.Parameter] = frozenset()
    new: frozenset[nn.Parameter] = frozenset()

    @classmethod
    def of(cls, encoder: "Encoder", head: nn.Module) -> "ParameterRoles":
        """Roles of a pretrained encoder and a head that starts from random weights."""
        layers = dict(encoder.parameter_layers())
        head_parameters = frozenset(head.parameters())
        return cls(
            layers=layers,
            tokens=frozenset(encoder.token_parameters()),
            head=head_parameters,
            new=head_parameters | {parameter for parameter in encoder.parameters() if parameter not in layers},
        )


class System(nn.Module):
    """Base class of a network with its losses.

    Attributes:
        inputs: names of the inputs. "image" is (B, 3, H, W) RGB float in [0, 1], "trimap" (B, 1, H, W).
        outputs: names of the predictions. "alpha" is (B, 1, H, W) and "foreground" (B, 3, H, W) in [0, 1], "mask"
            (B, K, H, W) probabilities of K classes.
        targets: names in a training batch besides the inputs.
        learns_composition: whether a loss compares the image with its composite from alpha, "fg" and "bg".
        num_classes: number of classes of a "mask".
        size_divisibility: multiple to which the system pads both sides of an image. Images of one padded size can share
            a batch.
        min_side: shorter side in pixels of the smallest image that the system accepts.
        depends_on_padding: whether padding an image changes its result; then only images of one size share a batch.
        has_scalable_encoder: whether `encode` accepts a `scale` above 1.
        encoder_side: side in pixels of the largest square image that the encoder should see at its full size; None for
            no limit. Mode "auto" of `Predictor` reduces the encoder's image if an image has a larger area.
        has_tiled_encoder: whether `encode_in_tiles` replaces prediction tile by tile.
        tile_multiple: multiple for the first rows and columns of tiles, if the result depends on the position of pools;
            a divisor of 32.
        needs_weights: reason why training cannot start from random weights, and the weights that it needs, for a
            message; None if it can.
        iteration: training iteration, set by the trainer before each step.
        padding_colour: (3,) RGB that is equivalent to the padding of the system.
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
    encoder_side: int | None = None
    has_tiled_encoder: bool = False
    tile_multiple: int = 1
    needs_weights: str | None = None
    iteration: int = 0

    # ---- implemented by each system

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Any:
        """Run the encoder once; `decode` can then be called any number of times.

        Args:
            inputs: tensors named in `inputs`, on the system's device, with a trimap of exactly 0, 0.5 and 1.
            scale: factor by which the encoder's image is reduced, if `has_scalable_encoder`.

        Returns:
            A state for `decode` and `losses`.
        """
        raise NotImplementedError

    def encode_in_tiles(self, inputs: Mapping[str, Tensor], size: int, overlap: int) -> Any:
        """Encode tile by tile for a `decode` of the whole image, if `has_tiled_encoder`.

        Args:
            size, overlap: size and overlap of the tiles in pixels.
        """
        raise NotImplementedError

    def decode(self, state: Any) -> dict[str, Tensor]:
        """Compute the tensors named in `outputs` from a state, at the size of the image."""
        raise NotImplementedError

    def losses(self, batch: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Named scalar losses of a batch.

        Args:
            batch: result of `prepare` in training mode.
            counts: result of `counts`, or its mean if the batch is part of a larger one.
        """
        raise NotImplementedError

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars by which the losses divide, such as the number of unknown pixels.

        The trainer averages them over the micro-batches and processes of an iteration and passes the means to `losses`,
        so that the loss does not depend on how a batch is divided.
        """
        return {}

    def frozen_features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Features (B, C, h, w) of a frozen encoder for `inputs`. A batch with "features" is not encoded.

        Args:
            inputs: result of `prepare`, of one size.

        Raises:
            InputError: there is no encoder, or it is not frozen.
        """
        raise InputError(f"train.cache_features: {type(self).__name__} has no encoder whose features could be stored")

    def footprint(self) -> Footprint:
        """Peak memory of a prediction. The default is a generous estimate."""
        return Footprint.unknown()

    def parameter_roles(self) -> ParameterRoles:
        """Pretrained layers, tokens, head and new parameters. By default every parameter is new."""
        return ParameterRoles(new=frozenset(self.parameters()))

    def starts_fresh(self, key: str) -> bool:
        """Return whether a pretrained file may lack this tensor of the system."""
        return False

    def check_start(self, description: Mapping[str, Any]) -> None:
        """Refuse a checkpoint whose weights fit but from which this run must not start.

        Args:
            description: config of the checkpoint's model in plain values; empty if it has none.

        Raises:
            InputError: training cannot start from this checkpoint.
        """

    def may_be_left_out(self, key: str) -> bool:
        """Return whether a pretrained file may contain this tensor although the system does not have it."""
        return False

    def metadata(self) -> dict[str, Any]:
        """Plain values that weights and system must agree on, such as pixel statistics."""
        return {}

    def mask_cell(self, height: int, width: int) -> float:
        """Side in pixels of a cell of a predicted mask's grid for an image of this size; mask edges are this coarse."""
        return 1.0

    def sample_errors(self) -> tuple[Tensor, Tensor] | None:
        """For monitoring: unknown share and mean absolute error (B,) of the samples of the last training batch."""
        return None

    def training_confusion(self) -> Tensor | None:
        """For monitoring: training pixels since the last call by true class (rows) and predicted class, (K, K); None
        for systems without "mask"."""
        return None

    def training_pictures(self) -> dict[str, Tensor]:
        """For monitoring: named pictures (B, 1 or 3, H, W) in [0, 1] of the last training batch."""
        return {}

    def set_sampling(
        self,
        strategy: str | None = None,
        seed: int | None = None,
        clamp_known: str | None = None,
        keep_steps: bool = False,
    ) -> None:
        """Change the sampling of a system that predicts in several steps, see DiffMatte."""
        raise InputError(f"{type(self).__name__} predicts in one step: it has no sampling strategy, seed or steps")

    def compile_encoder(self, **options: Any) -> None:
        """Compile the suitable parts with torch.compile, in place, so that the weights keep their names."""
        raise InputError(f"compile: {type(self).__name__} has no part that can be compiled")

    def traceable(self) -> nn.Module:
        """Network in traceable operations, called with the inputs in their order, for an ONNX file."""
        raise InputError(f"cannot export a {type(self).__name__} to ONNX")

    # ---- common to all systems

    def __init__(self) -> None:
        super().__init__()
        self._has_frozen_parts = False

    def freeze(self, parameters: Collection[nn.Parameter]) -> None:
        """Freeze parameters: no gradient, and eval mode for modules that are frozen as a whole."""
        for parameter in parameters:
            parameter.requires_grad_(False)
        self._has_frozen_parts = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "System":
        super().train(mode)
        if self._has_frozen_parts:  # looked up each time, because BatchNorm modules may be replaced
            for module in self.modules():
                learns = [parameter.requires_grad for parameter in module.parameters()]
                if learns and not any(learns):
                    module.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    @property
    def classes(self) -> Classes:
        """Colours and label values of the classes of a "mask"."""
        return Classes.numbered(self.num_classes)

    @property
    def padding_colour(self) -> Tensor:
        """(3,) on the CPU; black by default."""
        return torch.zeros(3)

    def forward(self, batch: Batch, counts: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return predictions in eval mode and losses in training mode.

        Args:
            batch: `inputs`, and in training mode `targets`; any H, W >= 1, any device. Trimaps are quantised.
            counts: divisors from the trainer, for a batch that is a result of `prepare`. None for those of this batch.

        Returns:
            Outputs by their public name ("alpha" is "phas", (B, 1, H, W) in [0, 1]), or name -> scalar loss.

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
        """First output of the system, for most systems alpha (B, 1, H, W) in [0, 1].

        Args:
            image: (B, 3, H, W) RGB float in [0, 1].
            trimap: (B, 1, H, W), for systems with a trimap.
            encoder_scale: reduction of the encoder's image, see `encode`. More than 1 is an approximation that saves
                most of the memory and time for large images.

        Example:
            >>> from modeling.weights.system_file import read_system
            >>> model = read_system()  # the model in the box, in eval mode
            >>> image, trimap = torch.rand(1, 3, 32, 48), torch.full((1, 1, 32, 48), 0.5)
            >>> trimap[..., :16], trimap[..., 32:] = 0, 1
            >>> alpha = model.predict(image, trimap)
            >>> tuple(alpha.shape), alpha[0, 0, 0, 0].item(), alpha[0, 0, 0, 47].item()
            ((1, 1, 32, 48), 0.0, 1.0)
        """
        given = {"image": image} if trimap is None else {"image": image, "trimap": trimap}
        return self.decode(self.encode(self.prepare(given), encoder_scale))[self.outputs[0]]

    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """Inputs, and targets in training mode, on the system's device. The trimap is exactly 0, 0.5 and 1."""
        names = self.inputs + (self.targets if self.training else ())
        missing = [name for name in names if name not in batch]
        if missing:
            raise InputError(
                f"{type(self).__name__} needs {', '.join(names)}; the batch lacks {', '.join(missing)} and has "
                f"{', '.join(batch)}"
            )
        tensors = {name: batch[name].to(self.device, non_blocking=True) for name in names}
        if "trimap" in tensors:
            if not self.training or batch["trimap"].device.type == "cpu":  # a training step does not wait
                _check_scale(batch["trimap"])
            tensors["trimap"] = quantise_trimap_tensor(tensors["trimap"])
        return tensors


def _check_scale(trimap: Tensor) -> None:
    """Refuse values of 0..255 in a float tensor, which would all be foreground. Resizing may exceed 1 slightly."""
    if trimap.is_floating_point() and trimap.numel() and trimap.max() > 2:
        raise InputError(
            f"trimap: expected floats in [0, 1] or integers in 0..255, got floats up to {float(trimap.max()):g}"
        )
