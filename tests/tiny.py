"""A model small enough to train within a test: the demo's config, shrunk by overrides."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "configs" / "ViTMatte_demo.py")
OVERRIDES = [
    "model.backbone.embed_dim=24",
    "model.backbone.depth=2",
    "model.backbone.window_block_indexes=[0]",
    "model.backbone.residual_block_indexes=[1]",
    "model.backbone.drop_path_rate=0.3",
    "model.backbone.rope_rescale=2.0",
    "model.decoder.convstream_out=[8,8,8]",
    "model.decoder.fusion_out=[8,8,8,8]",
    "dataloader.train.dataset.size=64",
    "dataloader.train.batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.dataset.size=64",
    "dataloader.test.dataset.samples_per_epoch=2",
    "train.device=cpu",
    "train.log_period=1",
    "train.curves=False",
]


def overrides(output_dir, max_iter: int, *more: str) -> list[str]:
    """Overrides for a run of `max_iter` iterations into `output_dir`, checkpointing every second iteration."""
    return [
        *OVERRIDES,
        f"train.output_dir={output_dir}",
        f"train.max_iter={max_iter}",
        "train.eval_period=0",
        "train.checkpointer.period=2",
        "lr_multiplier.warmup_length=0.2",
        *more,
    ]
