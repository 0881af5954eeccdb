"""Training runs: set-up from a config."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig
from detectron2.engine import hooks
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from data.images.file_set import FileSet
from data.images.scan import require_none
from engine.config import build, describe_model
from engine.evaluation.evaluators import Evaluator, MattingEvaluator, format_scores
from engine.evaluation.validation import ValidationStopped, panel_title, validate
from engine.monitoring import (
    DrawCurves,
    ErrorByUnknownShare,
    FirstBatchPanel,
    ObservedBatches,
    RunScalars,
    RunWriters,
    TrainingPictures,
    TrainingScores,
    build_writers,
    record_environment,
    write_panels,
)
from engine.monitoring.metrics_file import VALIDATION
from engine.processes.agreement import from_main_process
from engine.training.averaging import WeightAverage
from engine.training.checkpoints import RunCheckpointer
from engine.training.feature_cache import cached_features
from engine.training.freezing import freeze
from engine.training.interruption import Interruption
from engine.training.muon import MuonAdamW
from engine.training.resuming import LoggedScalars, continue_log, finish_run, resume_run
from engine.training.run_folder import claimed, start_logging
from engine.training.saving import SaveCheckpoints, best_hooks
from engine.training.settings import RunSettings
from engine.training.trainer import BadBatchError, SystemTrainer
from modeling.meta_arch import System
from runtime.device import resolve_device
from runtime.errors import InputError
from runtime.precision import Precision

logger = logging.getLogger("dinomatte.training")


def train(config: DictConfig, resume: bool = False) -> nn.Module:
    """Train the config's model from its initial checkpoint, or continue from the last checkpoint of the run folder.

    Returns:
        The trained model without wrappers; with train.ema_decay, the average.

    Raises:
        InputError: a setting or a file cannot be used; most are found before the first iteration.
        NonFiniteLossError: training diverged.
        TrainingInterrupted: a signal asked to stop; completed iterations are saved.
    """
    output_dir = Path(config.train.output_dir)
    with claimed(output_dir, resume):
        if comm.is_main_process():
            LazyConfig.save(config, str(output_dir / "config.yaml"))
        return _train(config, resume)


def _train(config: DictConfig, resume: bool) -> nn.Module:
    trainer = _build_trainer(config)
    checkpointer = RunCheckpointer(
        trainer.scored,
        config.train.output_dir,
        description=describe_model(config.model),
        settings=RunSettings(config),  # before the trainer: its message names settings, the trainer's only groups
        trainer=trainer,
    )
    saving = config.train.checkpointer
    saver = SaveCheckpoints(checkpointer, saving.period, saving.get("max_to_keep"))
    trainer.register_hooks(_hooks(config, trainer.scored, saver))
    start = resume_run(checkpointer) if resume else 0
    if not start:
        checkpointer.load_initial(config.train.init_checkpoint, frozen=trainer.frozen_names())
        trainer.unwrapped.load_state_dict(trainer.scored.state_dict())  # the average has the loaded weights
    if resume and not start:
        logger.warning("--resume: no checkpoint in %s, the run starts from the beginning", config.train.output_dir)
    if start >= config.train.max_iter:
        finish_run(trainer, checkpointer, config, start)
    else:
        _train_from(start, trainer, saver, config)
    saver.raise_if_stopped()
    return trainer.scored


def _build_trainer(config: DictConfig) -> SystemTrainer:
    """Build model, optimizer and trainer. Hooks and batches are added when the first iteration is known."""
    settings = config.train
    device = resolve_device(settings.device)
    torch.manual_seed(settings.seed)
    model = build(config.model).to(device)
    freeze(model, settings.get("freeze") or ())
    if settings.compile:
        model.compile_encoder()
    average = None if settings.ema_decay is None else WeightAverage(model, settings.ema_decay)
    return SystemTrainer(
        _distributed(model, config, device),
        _build_optimizer(config, model),
        precision=Precision(settings.amp.enabled, settings.amp.get("dtype", "fp16"), device),
        seed=settings.seed,
        clip_grad_norm=settings.clip_grad_norm,
        accumulate=settings.accumulate,
        average=average,
        freeze_batch_norm_from=_freeze_batch_norm_from(config),
    )


def _train_from(start: int, trainer: SystemTrainer, saver: SaveCheckpoints, config: DictConfig) -> None:
    continue_log(trainer, config, start)
    loader = _build_batches(config, start, trainer.num_samples)
    _check_layers(trainer.unwrapped, loader.dataset)
    if config.train.get("cache_features"):
        _cache_features(trainer, loader, config)
    trainer.batches = ObservedBatches(loader)
    if comm.is_main_process():
        record_environment(config.train.output_dir, start)
    device = trainer.unwrapped.device
    millions = sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6
    logger.info("%.2f million parameters", millions)
    logger.info("training from iteration %d to %d on %s", start, config.train.max_iter, device)
    with Interruption() as trainer.interruption:
        try:
            trainer.train(start, config.train.max_iter)
        except BadBatchError as error:
            path = saver.save_finished()
            hint = f"; what was done is saved in {path}: fix the file and continue with --resume" if path else ""
            raise InputError(f"{error} (iteration {trainer.iter}){hint}") from error


def evaluate(config: DictConfig) -> tuple[dict[str, float], Evaluator]:
    """Score the checkpoint `train.init_checkpoint`, or the run folder's last one, on the config's validation set.

    Returns:
        The scores, and the evaluator that computed them.
    """
    start_logging(Path(config.train.output_dir))
    model = build(config.model).to(resolve_device(config.train.device))
    checkpointer = RunCheckpointer(model, config.train.output_dir)
    path = config.train.init_checkpoint or checkpointer.get_checkpoint_file()
    if not path:
        raise InputError(
            "--eval-only: set train.init_checkpoint to a trained checkpoint, or train.output_dir to its run"
        )
    checkpointer.load(path)
    evaluator = build_evaluator(config)
    scores, _ = validate(model, _build_validation(config), evaluator)
    return scores, evaluator


def build_evaluator(config: DictConfig) -> Evaluator:
    """The config's `dataloader.evaluator`; by default matting metrics over the unknown region."""
    node = config.dataloader.get("evaluator")
    return MattingEvaluator() if node is None else build(node)


def _distributed(model: nn.Module, config: DictConfig, device: torch.device) -> nn.Module:
    if comm.get_world_size() == 1:
        return model
    if config.train.sync_batch_norm:
        if device.type != "cuda":
            raise InputError(
                f"train.sync_batch_norm=True: expected GPUs, which torch's SyncBatchNorm needs, got {device.type}; set "
                "train.sync_batch_norm=False, and train.freeze_batch_norm=1.0 for results that do not depend on the "
                "number of processes"
            )
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    device_ids = [torch.cuda.current_device()] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids)


def _freeze_batch_norm_from(config: DictConfig) -> int | None:
    share = config.train.freeze_batch_norm
    if not 0 <= share <= 1:
        raise InputError(f"train.freeze_batch_norm: expected a share of the iterations, 0 to 1, got {share}")
    return None if share == 0 else config.train.max_iter - round(share * config.train.max_iter)


def _build_optimizer(config: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    node = config.optimizer.copy()
    node._set_flag("allow_objects", True)
    node.params.model = model
    optimizer = build(node)
    if any(group.get("muon") for group in optimizer.param_groups) != isinstance(optimizer, MuonAdamW):
        raise InputError(
            "expected both or neither of optimizer.params.muon_for_new=True and "
            "optimizer._target_=engine.training.muon.MuonAdamW, got one"
        )
    return optimizer


def _build_batches(config: DictConfig, start_iteration: int, start_sample: int) -> Iterable[dict[str, Any]]:
    config.dataloader.train.start_iteration = start_iteration
    config.dataloader.train.start_sample = start_sample
    loader = build(config.dataloader.train)
    if isinstance(loader.dataset, FileSet):
        loader.dataset.list_files()
    _scan(loader.dataset, config.train.scan_data)
    return loader


def _cache_features(trainer: SystemTrainer, loader: Any, config: DictConfig) -> None:
    """Add the features of the frozen encoder to the samples; the main process computes them if necessary."""
    settings = config.dataloader.train
    sizes = settings.batch_size, settings.get("num_workers", 0)
    path = from_main_process(
        lambda: cached_features(trainer.unwrapped, loader.dataset, config, trainer.precision, *sizes)
    )
    loader.dataset.use_features(path)


def _check_layers(model: System, dataset: Any) -> None:
    """Refuse a composition loss that would always be 0."""
    if model.learns_composition and not getattr(dataset, "knows_layers", True):
        raise InputError(
            f"model.criterion.composition_weight: a {type(dataset).__name__} does not know foreground and background, "
            "so the loss would always be 0; set it to 0, or train on a set that knows them"
        )


def _scan(dataset: Any, mode: str) -> None:
    """Report every unusable training file before the first iteration."""
    if mode not in ("off", "headers", "decode"):
        raise InputError(f"train.scan_data: expected off, headers or decode, got {mode!r}")
    if mode != "off" and isinstance(dataset, FileSet):
        from_main_process(lambda: _name_unusable_files(dataset, decode=mode == "decode"))


def _name_unusable_files(dataset: FileSet, decode: bool) -> None:
    problems = _problems(dataset, decode, "")
    if dataset.on_bad == "error":
        require_none(problems, f"fix or remove them, or set {dataset.on_bad_setting}")
    for problem in problems:
        logger.warning("will be skipped: %s", problem)


def _refuse_unusable_files(dataset: FileSet, decode: bool) -> None:
    require_none(_problems(dataset, decode, "validation: "), "fix or remove them")


def _problems(dataset: FileSet, decode: bool, prefix: str) -> list[str]:
    """Unusable files, with reasons. Remarks on usable files are logged."""
    unusable, remarks = dataset.look_at_mattes(decode)
    for remark in remarks:
        logger.warning("%s%s", prefix, remark)
    return list(dict.fromkeys([*dataset.problems(decode=decode), *unusable]))


def _build_validation(config: DictConfig, decode: bool = False) -> Any:
    if config.dataloader.get("test") is None:
        raise InputError("train.eval_period: the config has no dataloader.test to evaluate on")
    dataset = build(config.dataloader.test)
    if isinstance(dataset, FileSet):
        from_main_process(lambda: _refuse_unusable_files(dataset, decode))
    return dataset


def _hooks(config: DictConfig, model: System, saver: SaveCheckpoints) -> list[hooks.HookBase]:
    settings = config.train
    evaluator = build_evaluator(config)
    num_panels = settings.get("num_train_panels", 0) if comm.is_main_process() else 0
    run_hooks = [
        hooks.IterationTimer(),
        RunScalars(settings.log_period),
        ErrorByUnknownShare(settings.log_period),
        FirstBatchPanel(num_panels),
        TrainingPictures(settings.get("picture_period", 0), num_panels),
        TrainingScores(settings.eval_period or settings.log_period),
        hooks.LRScheduler(scheduler=build(config.lr_multiplier)),
        LoggedScalars(),
        saver,
    ]
    if settings.eval_period > 0:
        run_hooks.append(_evaluation_hook(config, model, evaluator, saver))
        run_hooks += best_hooks(saver.checkpointer, settings.checkpointer.get("best_metric"), evaluator.metrics)
    if comm.is_main_process():
        run_hooks.append(RunWriters(build_writers(config), period=settings.log_period))
        if settings.get("curves", True):
            run_hooks.append(DrawCurves(settings.output_dir, settings.log_period, evaluator.metrics))
    return run_hooks


def _evaluation_hook(config: DictConfig, model: System, evaluator: Evaluator, saver: SaveCheckpoints) -> hooks.EvalHook:
    dataset = _build_validation(config, decode=config.train.scan_data == "decode")

    def evaluate_now() -> dict[str, float]:
        try:
            scores, panels = validate(model, dataset, evaluator, config.train.num_panels, hook.trainer.interruption)
        except ValidationStopped as stopped:
            saver.stop(*stopped.args)
            return {}
        logger.info("validation: %s", format_scores(scores, evaluator.metrics))
        if comm.is_main_process():
            for name, picture in panels:
                hook.trainer.storage.put_image(f"{panel_title(model)}/{name}", picture)
            if config.train.get("panel_files"):
                write_panels(config.train.output_dir, min(hook.trainer.iter + 1, config.train.max_iter), panels)
        return {f"{VALIDATION}{metric}": scores[metric] for metric in evaluator.metrics}

    hook = hooks.EvalHook(config.train.eval_period, evaluate_now)
    return hook
