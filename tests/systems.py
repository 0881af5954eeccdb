"""Systems small enough for a test: constants and copies, a trimap-free matting network, and a segmenting one."""

import torch
import torch.nn.functional as F
from torch import nn

from modeling.meta_arch import System


class Pointwise(System):
    """A system without an encoder: a subclass's `decode` gets the inputs."""

    def encode(self, inputs, scale=1):
        return inputs


class Red(Pointwise):
    """Alpha is the red channel."""

    def decode(self, state):
        return {"alpha": state["image"][:, :1]}


class Constant(Pointwise):
    """Alpha is a constant."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def decode(self, state):
        return {"alpha": torch.full_like(state["trimap"], self.value)}


class TrimapFree(System):
    """Alpha from the image alone, by three convolutions."""

    inputs = ("image",)
    size_divisibility = 2

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1))

    def encode(self, inputs, scale=1):
        image = inputs["image"]
        return self.encoder(image), image.shape[-2:]

    def decode(self, state):
        features, size = state
        return {"alpha": F.interpolate(self.head(features), size=size, mode="bilinear").sigmoid()}

    def losses(self, batch, counts):
        return {"l1_loss": (self.decode(self.encode(batch))["alpha"] - batch["alpha"]).abs().mean()}


class TwoClasses(TrimapFree):
    """Probabilities of background and foreground; its loss is a mean over the pixels of an iteration that count."""

    outputs = ("mask",)
    targets = ("mask",)

    def decode(self, state):
        foreground = super().decode(state)["alpha"]
        return {"mask": torch.cat([1 - foreground, foreground], dim=1)}

    def counts(self, batch):
        return {"pixels": (batch["mask"] != 255).sum().float()}

    def losses(self, batch, counts):
        probabilities = self.decode(self.encode(batch))["mask"]
        nats = F.nll_loss(probabilities.clamp(min=1e-6).log(), batch["mask"], reduction="sum", ignore_index=255)
        return {"cross_entropy_loss": nats / counts["pixels"]}


class Masks:
    """A matting data set with masks of the mostly opaque pixels instead of alpha."""

    def __init__(self, dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key):
        sample = self.dataset[key]
        opaque = sample["alpha"] > (0.5 if torch.is_tensor(sample["alpha"]) else 127)
        mask = opaque[0].long() if torch.is_tensor(opaque) else opaque.astype("uint8")
        return {"name": sample["name"], "image": sample["image"], "mask": mask}
