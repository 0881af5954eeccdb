"""tools/benchmark_real.py on procedural pictures laid out as photographs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import OVERRIDES, ROOT

import evaluation
from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from data.testing.matting_folder import MattingFolder
from engine.config import build, describe_model, load_config
from metrics import score_image
from runtime.errors import InputError
from tools import auto_matte, benchmark_real
from tools.benchmark_real import Measured, box_around, measure


def write_set(folder, samples) -> MattingFolder:
    for sample in samples:
        for kind in ("image", "trimap", "alpha"):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(sample[kind]).save(folder / kind / f"{sample['name']}.png")
    return MattingFolder(folder / "image", folder / "trimap", folder / "alpha")


@pytest.fixture
def photographs(tmp_path):
    scenes = EightBit(SyntheticMatting(size=96, samples_per_epoch=3, seed=9))
    samples = [{**scenes[index], "name": str(index)} for index in range(3)]
    return tmp_path, samples, write_set(tmp_path, samples)


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark_real.py", *arguments])
    benchmark_real.main()


def checkpoint(path, config: str, *overrides: str) -> str:
    """A checkpoint of the system of a config, with random weights."""
    torch.manual_seed(0)
    model = load_config(str(ROOT / "configs" / f"{config}.py"), list(overrides)).model
    torch.save({"model": build(model).state_dict(), **describe_model(model)}, path)
    return str(path)


def test_scores_are_those_of_the_methods_own_mattes(photographs, monkeypatch, capsys):
    pymatting = pytest.importorskip("pymatting")
    root, samples, _ = photographs
    file = root / "scores.json"
    run(monkeypatch, "--data-root", str(root), "--methods", "pymatting,closed-form", "--json", str(file),
        "--mattes", str(root / "mattes"), "--sheet", str(root / "sheet.png"), "--sheet-rows", "2")  # fmt: skip
    scores = json.loads(file.read_text())
    for index, sample in enumerate(samples):
        trimap = np.select([sample["trimap"] == 0, sample["trimap"] == 255], [0.0, 1.0], 0.5)
        alpha = np.rint(pymatting.estimate_alpha_cf(sample["image"] / 255, trimap) * 255).astype(np.uint8)
        kept = np.asarray(Image.open(root / "mattes" / "pymatting" / f"{index}.png"))
        np.testing.assert_array_equal(kept, alpha)
        expected = score_image(alpha, sample["alpha"], sample["trimap"])
        assert scores["pymatting"]["scores"][str(index)] == pytest.approx(expected)
    assert Image.open(root / "sheet.png").size == (5 * 240, 24 + 2 * 240)
    assert all(method["cpu_seconds"] > 0 for method in scores.values())
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| 3 images, trimap | SAD (10^3) | MSE (10^-3) |")
    assert [row.split(" | ")[0] for row in table[2:]] == ["| pymatting", "| closed-form"]
    assert " of 3 | " in table[3]


def test_scores_are_those_of_evaluation(photographs, monkeypatch):
    root, _, images = photographs
    seen = tuple(checkpoint(root / f"{config}.pth", config) for config in ("FrozenDINOv3_demo", "DIM_demo_stage1"))
    for name in (f"free={seen[0]}", f"dim={seen[1]}"):
        label = name.split("=")[0]
        (root / label).mkdir()
        measured = measure(name, images, root / label)
        for region, mean in (
            ("unknown", {key: np.mean([one[key] for one in measured.scores.values()]) for key in ("sad", "mse")}),
            ("whole", {"sad": np.mean(list(measured.whole_sad.values()))}),
        ):
            file = root / f"{label}_{region}.json"
            arguments = ["--pred-dir", root / label, "--label-dir", root / "alpha", "--trimap-dir", root / "trimap",
                         "--region", region, "--json", file]  # fmt: skip
            monkeypatch.setattr("sys.argv", ["evaluation.py", *map(str, arguments)])
            assert not evaluation.main()
            written = json.loads(file.read_text())["mean"]
            assert {key: written[key] for key in mean} == pytest.approx(mean)


def test_a_trained_system_sees_what_it_takes(photographs):
    """One without a trimap gives the same matte with any trimap, which it may contradict; the others keep the known."""
    root, samples, _ = photographs
    free = checkpoint(root / "free.pth", "FrozenDINOv3_demo")
    vitmatte = checkpoint(root / "vitmatte.pth", "ViTMatte_demo", *OVERRIDES)
    for path in (free, vitmatte):
        method = benchmark_real.method_of(f"mine={path}")
        sample = samples[0]
        alpha, other = (
            method.alpha_of(sample["image"], trimap, (0, 0, 96, 96))
            for trimap in (sample["trimap"], np.full_like(sample["trimap"], 128))
        )
        known = sample["trimap"] != 128
        assert (alpha == other).all() == (path is free)
        assert (alpha[known] == sample["trimap"][known]).all() == (path is vitmatte)
        state = torch.load(path, weights_only=True)["model"]
        counted = sum(value.numel() for key, value in state.items() if not key.endswith(BUFFERS))
        assert method.parameters == counted


BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "periods", "pixel_mean", "pixel_std")


def test_the_chains_are_those_of_auto_matte(photographs):
    root, (sample, *_), _ = photographs
    (root / "one").mkdir()
    images = write_set(root / "one", [sample])
    segmentation = checkpoint(root / "seg.pth", "PersonSeg_demo")
    for name, how in (("chain", None), (f"seg={segmentation}", ["--seg", segmentation])):
        mattes = root / name.split("=")[0]
        mattes.mkdir()
        measure(name, images, mattes)
        box = ["--box", *map(str, box_around(sample["alpha"]))]
        picture = root / "image" / f"{sample['name']}.png"
        assert auto_matte.main([str(picture), "--output", str(root / "auto.png"), *(how or box)]) == 0
        written = [np.asarray(Image.open(path)) for path in (root / "auto.png", mattes / picture.name)]
        np.testing.assert_array_equal(*written)


def test_the_box_is_around_what_a_user_sees():
    alpha = np.zeros((6, 8), np.uint8)
    alpha[1:3, 2:7] = 200
    alpha[5, 0] = 25  # hardly visible
    assert box_around(alpha) == (2, 1, 7, 3)
    assert box_around(np.zeros((6, 8), np.uint8)) == (0, 0, 8, 6)


def test_the_whole_image_counts_what_a_trimap_hides(tmp_path):
    """Four unknown pixels of alpha 0, 51, 204 and 255, and a known one whose alpha is 51 although the trimap is 0."""
    alpha = np.zeros((40, 40), np.uint8)
    trimap = np.zeros((40, 40), np.uint8)
    alpha[10, 10:14], trimap[10, 10:14] = (0, 51, 204, 255), 128
    alpha[30, 30] = 51
    alpha[20, 10:14] = trimap[20, 10:14] = 255
    image = np.zeros((40, 40, 3), np.uint8)
    images = write_set(tmp_path, [{"name": "a", "image": image, "trimap": trimap, "alpha": alpha}])
    measured = measure("half", images, None)
    assert measured.scores["a"]["sad"] == pytest.approx((128 + 77 + 76 + 127) / 255 / 1000)
    assert measured.scores["a"]["mse"] == pytest.approx((128**2 + 77**2 + 76**2 + 127**2) / 255**2 / 4)
    assert measured.whole_sad["a"] == pytest.approx((128 + 77 + 76 + 127 + 51) / 255 / 1000)
    assert measured.parameters == 0


def test_a_row_has_the_interval_of_the_paired_difference():
    def measured(offset: float) -> Measured:
        scores = {
            name: {"sad": sad + offset, "mse": 0.01, "grad": 1.0 - offset, "conn": sad}
            for name, sad in (("a", 2.0), ("b", 4.0))
        }
        return Measured(scores, {"a": 3.0, "b": 5.0}, 1.0, 2.0, 0.5, 6_040_000)

    baseline = measured(0.0)
    assert benchmark_real.row("first", baseline, baseline) == (
        "| first | 3.00 | 10.00 | 1.00 | 3.00 | 4.00 | – | 2.00 | 0.50 | 6.04 |"
    )
    assert benchmark_real.row("second", measured(-1.0), baseline) == (
        "| second | 2.00 (-1.00 to -1.00) | 10.00 (+0.00 to +0.00) | 2.00 (+1.00 to +1.00) | 3.00 (+0.00 to +0.00) "
        "| 4.00 | 2 of 2 | 2.00 | 0.50 | 6.04 |"
    )


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("magic", r"--methods: expected NAME=CHECKPOINT or some of box, closed-form, .*, got 'magic'"),
        ("box,mine=nowhere.pth", "--methods mine=nowhere.pth: expected the checkpoint of a trained system, found no"),
        ("box=nowhere.pth", "--methods box=nowhere.pth: expected a name of your own before ="),
        ("../mine=nowhere.pth", "expected a name of your own before ="),
        ("box,a=scores.pth,a=scores.pth", "--methods: a is named twice"),
    ],
)
def test_a_method_that_there_is_not_is_named(photographs, monkeypatch, methods, message):
    root, _, _ = photographs
    monkeypatch.chdir(root)
    (root / "scores.pth").touch()
    with pytest.raises(InputError, match=message):
        run(monkeypatch, "--data-root", str(root), "--methods", methods)


def test_a_sheet_without_mattes_is_refused(photographs, monkeypatch):
    with pytest.raises(InputError, match="--sheet: expected --mattes too"):
        run(monkeypatch, "--data-root", str(photographs[0]), "--sheet", "sheet.jpg")
