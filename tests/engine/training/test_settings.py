"""Settings kept in checkpoints: which others are refused, which are reported, and which do not matter."""

import pytest
from detectron2.config import LazyConfig
from omegaconf import DictConfig
from tiny import CONFIG, overrides

from engine.config import load_config
from engine.training.settings import RunSettings

FP16 = "train.amp.enabled=True"
BEFORE_THE_MODEL = (
    "optimizer", "lr_multiplier", "dataloader.train", "train.max_iter", "train.seed", "train.clip_grad_norm",
    "train.accumulate", "train.freeze_batch_norm", "train.sync_batch_norm",
)  # fmt: skip


def config(*settings: str) -> DictConfig:
    return load_config(CONFIG, overrides("run", 4, *settings))


def resume(saved: dict, *settings: str) -> None:
    RunSettings(config(*settings)).load_state_dict(saved)


def saved(*settings: str) -> dict:
    return RunSettings(config(*settings)).state_dict()


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        ((), "model.criterion.losses=[unknown_l1_loss]", "model.criterion.losses[3] loss_gradient_penalty -> None"),
        ((), "model.criterion.fuse_trimap=True", "model.criterion.fuse_trimap False -> True"),
        ((), "model.backbone.drop_path_rate=0.1", "model.backbone.drop_path_rate 0.3 -> 0.1"),
        ((), "model.backbone.rope_rescale=null", "model.backbone.rope_rescale 2.0 -> None"),
        (
            ("model.criterion.losses=[]",),
            "model.criterion.fuse_trimap=True",
            "model.criterion.fuse_trimap False -> True",
        ),
        (
            (),
            "model.criterion.losses=[]",
            "model.criterion.losses[0] unknown_l1_loss -> None, model.criterion.losses[1]",
        ),
        (("train.ema_decay=0.9",), "train.ema_decay=0.99", "train.ema_decay 0.9 -> 0.99"),
        ((), "train.accumulate=2", "train.accumulate 1 -> 2"),
        ((), "train.freeze_batch_norm=0.5", "train.freeze_batch_norm 0.0 -> 0.5"),
    ],
)
def test_what_acts_in_training_alone_is_reported(caplog, before, now, line):
    resume(saved(*before), *before, now)
    assert "continuing with other settings than before" in caplog.text
    assert line in caplog.text


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        ((FP16,), "train.amp.dtype=bf16", "train.amp.dtype fp16 -> bf16"),
        ((FP16,), "train.amp.enabled=False", "train.amp.dtype fp16 -> None, train.amp.enabled True -> False"),
        ((), "model.backbone.window_size=3", "model.backbone.window_size 6 -> 3"),
        ((), "model.backbone.window_block_indexes=[]", r"model.backbone.window_block_indexes[0] 0 -> None"),
        ((), "model.backbone.window_padding=zeros", "model.backbone.window_padding masked -> zeros"),
        ((), "model.size_divisibility=16", "model.size_divisibility 32 -> 16"),
        ((), "train.freeze=[pretrained]", "train.freeze[0] None -> pretrained"),
        ((), "optimizer.lr=1e-5", "optimizer.lr 0.003 -> 1e-05"),
    ],
)
def test_what_the_checkpoint_fixes_is_refused(before, now, line):
    with pytest.raises(ValueError, match=r"start a new run from the checkpoint with train\.init_checkpoint") as caught:
        resume(saved(*before), *before, now)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    "now",
    [
        "model.backbone.use_act_checkpoint=True",
        "model.decoder.use_act_checkpoint=True",
        "+model.sparse_decoding=False",
        "dataloader.train.num_workers=3",
        "train.eval_period=7",
        "train.amp.dtype=bf16",  # amp is off
        "+model.trimap_input=value",  # the rest spells a default out
        "+model.backbone.num_register_tokens=4",
        "+model.criterion.fuse_trimap=False",
        "+optimizer.eps=1e-8",
    ],
)
def test_what_changes_no_iteration_is_neither(caplog, now):
    resume(saved(), now)
    resume(saved(now))
    assert "other settings" not in caplog.text


def test_a_default_that_was_kept_is_compared_with_a_value_that_is_given(caplog):
    with pytest.raises(ValueError, match=r"model\.backbone\.window_prefix global -> mean"):
        resume(saved(), "model.backbone.window_prefix=mean")
    with pytest.raises(ValueError, match=r"model\.backbone\.window_prefix mean -> global"):
        resume(saved("model.backbone.window_prefix=mean"))


def test_the_epsilon_of_a_norm_is_a_setting_too():
    other = config()
    other.model.backbone.norm_layer.keywords["eps"] = 1e-6
    with pytest.raises(ValueError, match=r"model\.backbone\.norm_layer\.eps 1e-05 -> 1e-06"):
        RunSettings(other).load_state_dict(saved())


@pytest.mark.parametrize("more", [(), ("model.criterion.fuse_trimap=True", "train.ema_decay=0.5", FP16)])
def test_a_checkpoint_that_says_nothing_of_a_section_is_not_held_to_it(caplog, more):
    """As those of before the model was kept; what they hold is still compared."""
    old = {"values": {key: value for key, value in saved()["values"].items() if key.startswith(BEFORE_THE_MODEL)}}
    resume(old, *more)
    assert "other settings" not in caplog.text
    resume(old, *more, "train.seed=5")
    sections = ("dataloader.train.dataset", "dataloader.train", "train")
    changed = ", ".join(f"{section}.seed 0 -> 5" for section in sections)
    assert f"remaining iterations differ: {changed}\n" in caplog.text


def test_the_run_folders_own_config_has_the_same_settings(tmp_path):
    ours = config("train.ema_decay=0.9", FP16)
    LazyConfig.save(ours, str(tmp_path / "config.yaml"))
    again = RunSettings(load_config(str(tmp_path / "config.yaml")))
    assert again.values == RunSettings(ours).values
    assert again.defaults == RunSettings(ours).defaults
