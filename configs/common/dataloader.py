"""Deep Image Matting for training, Composition-1k for validation.

The folders are set by dataloader.train.dataset.root and dataloader.test.root, or by the environment variables
DINOMATTE_DIM_ROOT and DINOMATTE_COMPOSITION1K_ROOT.
"""

from detectron2.config import LazyCall as L
from omegaconf import OmegaConf

from data.testing.composition1k import Composition1k
from data.training.dim_dataset import CompositionDataset
from data.training.loader import build_train_loader

dataloader = OmegaConf.create()
dataloader.train = L(build_train_loader)(
    dataset=L(CompositionDataset)(root=None, samples_per_epoch=43100, crop_size=512, seed="${train.seed}"),
    batch_size=16,  # for each process
    num_workers=4,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
)
dataloader.test = L(Composition1k)(root=None)
