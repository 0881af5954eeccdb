"""Names of modules that moved: a `config.yaml` saved before still loads.

A saved config names its classes by module. This table maps the modules of those that a config can hold; modules in it
are gone, so nothing else may depend on them.
"""

from omegaconf import DictConfig, ListConfig

MOVED = {
    "data.alpha_folders": "data.training.alpha_folders",
    "data.composition1k": "data.testing.composition1k",
    "data.dim_dataset": "data.training.dim_dataset",
    "data.eight_bit": "data.testing.eight_bit",
    "data.loader": "data.training.loader",
    "data.mixture": "data.training.mixture",
}
MOVED_CLASSES = {"data.composition1k.MattingFolder": "data.testing.matting_folder.MattingFolder"}


def use_current_names(node: DictConfig | ListConfig) -> None:
    """Give each `_target_` in `node` and below its present name, in place."""
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for key in keys:
        value = node._get_node(key)
        if isinstance(value, DictConfig | ListConfig):
            use_current_names(value)
        elif key == "_target_" and isinstance(value._value(), str):
            node[key] = _current(value._value())


def _current(target: str) -> str:
    module, _, name = target.rpartition(".")
    return MOVED_CLASSES.get(target, f"{MOVED.get(module, module)}.{name}")
