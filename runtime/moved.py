"""New names of modules, classes and settings, so that older `config.yaml` files and checkpoints still load.

Both name classes by their import path. The table maps the old modules that they may name. These modules no longer
exist, so nothing else may use their names.
"""

MOVED = {
    "data.alpha_folders": "data.training.alpha_folders",
    "data.composition1k": "data.testing.composition1k",
    "data.dim_dataset": "data.training.dim_dataset",
    "data.eight_bit": "data.testing.eight_bit",
    "data.loader": "data.training.loader",
    "data.mixture": "data.training.mixture",
    "engine.training.optim": "engine.training.param_groups",
    "modeling.closed_form_prior": "modeling.priors.closed_form_prior",
    "modeling.colour_prior": "modeling.priors.colour_prior",
}
MOVED_CLASSES = {"data.composition1k.MattingFolder": "data.testing.matting_folder.MattingFolder"}

# Current import path of a class -> old names of its arguments -> new names
RENAMED_SETTINGS = {"engine.evaluation.evaluators.SegmentationEvaluator": {"num_classes": "classes"}}


def current_name(target: str) -> str:
    """Current import path of a class or function that a saved file names.

    Example:
        >>> current_name("data.loader.build_train_loader")
        'data.training.loader.build_train_loader'
    """
    module, _, name = target.rpartition(".")
    return MOVED_CLASSES.get(target, f"{MOVED.get(module, module)}.{name}" if module else target)
