"""Building what a config describes: a wrong setting is one line, a fault of the code keeps its traceback."""

import traceback

import pytest
import torch
from detectron2.config import LazyCall as L
from tiny import CONFIG

from engine.config import build, load_config
from runtime.errors import InputError


def half(width: int) -> int:
    if width % 2:
        raise ValueError(f"half of {width}")
    return width // 2


class Base:
    def __init__(self, width: int) -> None:
        if width < 1:
            raise ValueError(f"Base: width must be at least 1, got {width}")
        self.width = width


class Network(Base):
    """Refuses a negative depth itself, other widths by its base class, and calls code that may fail."""

    def __init__(self, width: int = 4, depth: int = 1, parts: object = (1, 2), inner: object = None) -> None:
        super().__init__(width)
        if depth < 0:
            raise ValueError(f"Network: depth must be at least 0, got {depth}")
        if depth > 8:
            raise TypeError(f"Network: depth {depth} is not known")
        self.first, self.second = parts
        self.half = half(width)
        self.inner = inner

    @classmethod
    def with_a_bug(cls, width: int) -> "Network":
        return cls(width, height=3)


def network_of(width: int) -> Network:
    if width > 100:
        raise ValueError(f"network_of: {width} is too wide")
    return Network(width)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (L(Network)(widht=3), r"config: .*unexpected keyword argument 'widht'"),
        (L(Base)(), "config: .*missing 1 required positional argument: 'width'"),
        (L(Network)(depth=-1), "^config: Network: depth must be at least 0, got -1$"),
        (L(Network)(depth=9), "^config: Network: depth 9 is not known$"),
        (L(Network)(width=0), "^config: Base: width must be at least 1, got 0$"),
        (L(Network)(inner=L(Network)(depth=-2)), "^config: Network: depth must be at least 0, got -2$"),
        (L(network_of)(width=200), "^config: network_of: 200 is too wide$"),
        (L(torch.optim.AdamW)(params=[torch.nn.Parameter(torch.zeros(1))], lr=-1.0), "config: Invalid learning rate"),
        (L(torch.Size)(size=3), r"^config: .*keyword argument"),
    ],
)
def test_a_wrong_setting_is_one_line(node, message):
    with pytest.raises(InputError, match=message):
        build(node)


@pytest.mark.parametrize(
    ("node", "kind", "line"),
    [
        (L(Network)(width=3), ValueError, 'raise ValueError(f"half of {width}")'),  # a refusal of what it calls
        (L(Network)(parts=(1, 2, 3)), ValueError, "self.first, self.second = parts"),  # no `raise` statement
        (L(Network)(parts=7), TypeError, "self.first, self.second = parts"),
        (L(Network.with_a_bug)(width=4), TypeError, "return cls(width, height=3)"),  # a call from within
        (L(network_of)(width=0), ValueError, "return Network(width)"),  # a function answers for its own refusals only
        (L(Network)(inner=L(Network)(parts=())), ValueError, "self.first, self.second = parts"),
    ],
)
def test_a_fault_below_the_call_keeps_its_traceback(node, kind, line):
    with pytest.raises(kind) as caught:
        build(node)
    assert not isinstance(caught.value, InputError)
    assert line in "".join(traceback.format_exception(caught.value))


HEADER = "from omegaconf import OmegaConf\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate", r"optimizer\.params\.layer_decay here"),
        (
            "from functools import partial\nmodel = OmegaConf.create()\n"
            "optimizer = OmegaConf.create({'params': {}}, flags={'allow_objects': True})\n"
            "optimizer.params.lr_factor_func = partial(int, base=2)",
            r"^[^\n]*optimizer\.params\.lr_factor_func: .*layer_decay here",
        ),
        ("from modeling import Detail_Capture, ViT", "DetailCapture in modeling.decoder"),
        ("from modeling.decoder import Detail_Capture", "DetailCapture in modeling.decoder"),
        ("from data import ImageFileTrain, DataGenerator", r"CompositionDataset of data\.training\.dim_dataset"),
    ],
)
def test_a_config_of_vitdet_or_vitmatte_is_answered_with_where_things_are_here(tmp_path, text, message):
    (tmp_path / "theirs.py").write_text(HEADER + text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(str(tmp_path / "theirs.py"))
    assert "theirs.py" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["import nowhere_to_be_found", "raise RuntimeError('my modeling failed')"])
def test_other_faults_of_a_config_get_no_advice(tmp_path, text):
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(str(tmp_path / "own.py"))
    assert "configs/common" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("~/w.pth", "数据/w.pth", "Müller/w.pth", "photos (1)/w.pth", "it's.pth", "a,b.pth", "lr=1.pth", "w;1.pth"),
        *("my weights.pth", "2026_11_26", "1e5", "007", "nan", "-1", "[a].pth", "{x}.pth", "glob(*)", "choice(a,b)"),
        *("100%", "a:b", "x#y&z|.pth", "<a>.pth", "$HOME/w", "back\\slash\\", "a\\'b", "a'b\"c.pth", "@x", ""),
    ],
)
@pytest.mark.parametrize("key", ["train.init_checkpoint", "train.cache_features"])  # which hold a text, and null
def test_a_name_of_a_file_is_an_override_without_quotes(key, name):
    config = load_config(CONFIG, [f"{key}={name}"])
    assert config.train[key.rpartition(".")[2]] == name


def test_overrides_keep_the_grammar_where_it_applies():
    settings = {
        "train.cache_features=null": None,
        "train.init_checkpoint='quoted name'": "quoted name",
        "train.init_checkpoint=seed_${train.seed}.pth": "seed_0.pth",
        "train.ema_decay=9.9e-1": 0.99,  # null or a number
        "train.max_iter=7": 7,
        "train.checkpointer.best_metric=[sad,mse]": ["sad", "mse"],
        "dataloader.train.dataset.later=2026_11_26": "2026_11_26",  # an argument that the config does not set
        "dataloader.train.dataset.later=1e5": 1e5,
    }
    for override, value in settings.items():
        key = override.partition("=")[0]
        found = load_config(CONFIG, [override])
        for part in key.split("."):
            found = found[part]
        assert found == value, override


@pytest.mark.parametrize("override", ["train.max_iter=a,b", "train.seed=1;2", "train.amp.enabled=(yes)"])
def test_a_value_that_no_text_can_be_is_still_refused(override):
    with pytest.raises(InputError, match=override.partition("=")[0]):
        load_config(CONFIG, [override])
