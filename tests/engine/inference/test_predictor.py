"""Predicting within a budget: tiles, views, batches and the choice among them."""

import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_models import option_model
from systems import Pointwise, Red
from tiny import CONFIG, OVERRIDES
from torch import nn

from engine.config import build, load_config
from engine.inference import Job, Predictor, run_jobs
from engine.inference.tiles import predict_in_tiles, tiles_of
from engine.inference.views import VIEWS, View, predict_views
from modeling.weights.system_file import read_system
from runtime import memory as system_memory
from runtime.errors import InputError
from runtime.memory import amount_text, free_bytes, parse_bytes

GB = 10**9
VIEW_NAMES = ("none", "flip+scale")


def red(inputs):
    """A model that knows the answer: alpha is the red channel."""
    return {"alpha": inputs["image"][:, :1]}


def sample(image, trimap) -> dict:
    return {"image": image, "trimap": trimap}


# ---- tiles


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.data())
def test_tiles_cover_every_pixel_and_stay_inside(height, width, size, data):
    overlap = data.draw(st.integers(0, (size - 1) // 2))
    covered = np.zeros((height, width), int)
    for tile in tiles_of(height, width, size, overlap):
        assert min(tile.top, tile.left) >= 0
        assert (tile.height, tile.width) == (min(size, height), min(size, width))
        part = tile.of(covered)
        assert part.shape == (tile.height, tile.width)  # none reaches beyond the image
        part += 1
    assert covered.min() >= 1


@given(st.integers(1, 70), st.integers(1, 70), st.integers(12, 32))
def test_tiles_that_agree_blend_to_what_they_agree_on(height, width, size):
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * 100 + width))
    trimap = torch.full((1, 1, height, width), 0.5)
    alpha = predict_in_tiles(red, sample(image, trimap), size, size // 4)["alpha"]
    assert torch.allclose(alpha, image[:, :1], atol=1e-6)


def test_a_seam_is_a_ramp_not_a_step():
    answers = iter([0.0, 1.0])
    alpha = predict_in_tiles(
        lambda inputs: {"alpha": torch.full_like(inputs["trimap"], next(answers))},
        sample(torch.zeros(1, 3, 4, 24), torch.full((1, 1, 4, 24), 0.5)), size=16, overlap=8,
    )["alpha"][0, 0, 0]  # fmt: skip
    assert alpha[:8].tolist() == [0] * 8
    assert alpha[16:].tolist() == [1] * 8
    assert torch.allclose(alpha[8:16].diff(), torch.full((7,), 1 / 8))


def test_tiles_without_unknown_pixels_are_not_predicted():
    trimap = torch.zeros(1, 1, 64, 64)
    trimap[..., 40:, 40:] = 0.5
    trimap[..., :8, :8] = 1
    calls = []

    def predict(inputs):
        calls.append(inputs["trimap"].shape)
        return {"alpha": torch.full_like(inputs["trimap"], 0.25)}

    alpha = predict_in_tiles(predict, sample(torch.zeros(1, 3, 64, 64), trimap), size=32, overlap=0)["alpha"]
    assert len(calls) == 1
    assert torch.equal(alpha, torch.where(trimap == 0.5, 0.25, trimap))


# ---- views


def test_views_are_turned_back_before_they_are_averaged():
    image = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    trimap = torch.full((2, 1, 20, 30), 0.5)
    alpha = predict_views(red, sample(image, trimap), VIEWS["flip"])["alpha"]
    assert torch.allclose(alpha, image[:, :1], atol=1e-6)


def test_a_scaled_view_of_a_smooth_image_comes_back_in_place():
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 48, 64)
    inputs = sample(ramp, torch.full((1, 1, 48, 64), 0.5))
    alpha = predict_views(red, inputs, (View(scale=0.75),))["alpha"]
    assert (alpha - ramp[:, :1])[..., 4:-4].abs().max() < 2e-3  # half a pixel off would be 8e-3


def test_a_reduced_view_below_what_the_system_takes_is_left_out():
    image, sizes = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0)), []

    def brightest(inputs):
        sizes.append(tuple(inputs["image"].shape[-2:]))
        return {"alpha": torch.full_like(inputs["image"][:, :1], len(sizes))}

    alpha = predict_views(brightest, {"image": image}, VIEWS["flip+scale"], min_side=16)["alpha"]
    assert sizes == [(20, 30)] * 2 + [(25, 38)] * 2  # not 15 rows
    assert torch.allclose(alpha, torch.full_like(alpha, (1 + 2 + 1 + 1) / 4))  # clamped where it is resized
    predict_views(brightest, {"image": image}, VIEWS["flip+scale"], min_side=15)
    assert sizes[6:8] == [(15, 22)] * 2


def test_a_scaled_trimap_knows_only_what_is_known_throughout():
    trimap = torch.tensor([0.0, 0, 1, 1] * 8).expand(1, 1, 32, 32)
    seen = []
    inputs = sample(torch.zeros(1, 3, 32, 32), trimap)
    predict_views(lambda x: seen.append(x["trimap"]) or {"alpha": x["trimap"]}, inputs, (View(scale=0.5),))
    assert set(seen[0].unique().tolist()) <= {0, 0.5, 1}
    assert (seen[0] == 0.5).any()


# ---- memory


@pytest.mark.parametrize(
    ("text", "amount"),
    [("6GB", 6 * GB), ("6 gb", 6 * GB), ("1.5GiB", 3 * 2**29), ("900M", 900_000_000), ("2097152", 2**21)],
)
def test_amounts_of_memory_are_read_as_people_write_them(text, amount):
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "much", "-1GB", "6 apples", "1e9", "0", "12KB", "9" * 400])
def test_other_amounts_are_refused(text):
    with pytest.raises(InputError, match="expected an amount such as 6GB"):
        parse_bytes(text)


def test_free_memory_is_less_than_the_machine_has():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**28 < free_bytes(torch.device("cpu")) < total


def test_files_in_the_page_cache_are_not_taken_memory(monkeypatch, tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text(f"MemAvailable: {2**40} kB\n")
    (tmp_path / "self/mountinfo").write_text(f"31 24 0:27 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(system_memory, "PROC", tmp_path)
    for name, text in {"max": 8 * GB, "current": 7 * GB, "stat": f"anon 1\ninactive_file {5 * GB}\n"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert free_bytes(torch.device("cpu")) == int(0.8 * 6 * GB)


# ---- the predictor


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return build(load_config(CONFIG, [*OVERRIDES, "model.colour_prior=null", "model.decoder.img_chans=4"]).model).eval()


def job_of(image, trimap, output) -> Job:
    return Job({"image": image, "trimap": trimap}, {"alpha": output})


def picture(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    trimap = np.full((height, width), 128, np.uint8)
    trimap[: height // 3] = 0
    return rng.integers(0, 256, (height, width, 3), np.uint8), trimap


def test_less_memory_means_a_smaller_way_of_working(model):
    size = (4000, 4000)
    needed = Predictor(model, mode="whole").plan(*size).nbytes
    modes = [Predictor(model, max_memory=int(needed * share)).plan(*size).mode for share in (1.1, 1, 0.95, 0.9, 0.85)]
    assert list(dict.fromkeys(modes)) in (["whole", "tiles"], ["whole", "reduced", "tiles"])
    order = ["whole", "reduced", "tiles"]
    assert [order.index(mode) for mode in modes] == sorted(order.index(mode) for mode in modes)


def test_an_image_that_fits_in_no_way_is_refused_with_what_it_takes(model):
    with pytest.raises(InputError, match=r"^4000 x 3000 pixels take about [0-9]+MiB in tiles of 256 pixels, and 99MiB"):
        Predictor(model, max_memory=99 * 2**20).plan(3000, 4000)


def test_larger_views_are_reckoned_with(model):
    budget = {"max_memory": 10**12}
    for mode in ("whole", "tiles"):
        plain, scaled = (Predictor(model, mode=mode, views=views, **budget).plan(8000, 8000) for views in VIEW_NAMES)
        assert (scaled.mode, scaled.tile) == (plain.mode, plain.tile)
        assert scaled.nbytes > plain.nbytes
    scaled = Predictor(model, mode="whole", views="flip+scale", **budget).plan(2000, 2000)
    larger = Predictor(model, mode="whole", **budget).plan(2500, 2500)
    assert scaled.nbytes == pytest.approx(larger.nbytes, rel=0.03)


@pytest.mark.parametrize("views", list(VIEWS))
def test_a_matte_does_not_depend_on_what_shares_its_batch(tmp_path, model, views):
    jobs, pairs = [], [picture(60, 40, 1), picture(40, 60, 2), picture(64, 64, 3)]
    for index, (image, trimap) in enumerate(pairs):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
        Image.fromarray(trimap).save(tmp_path / f"{index}_trimap.png")
        files = (f"{index}.png", f"{index}_trimap.png", f"out/{index}.png")
        jobs.append(job_of(*(tmp_path / file for file in files)))
    assert {outcome.status for outcome in run_jobs(Predictor(model, batch_size=4, views=views), jobs)} == {"written"}
    for job, (image, trimap) in zip(jobs, pairs, strict=True):
        alone = Predictor(model, views=views).one(sample(image, trimap))["alpha"]
        assert np.abs(np.array(Image.open(job.outputs["alpha"])).astype(int) - alone).max() <= 1


def test_running_out_of_memory_on_a_cpu_is_one_line(model):
    class Greedy(Pointwise):
        def decode(self, state):
            return {"alpha": torch.empty(2**60)}

    with pytest.raises(InputError, match="out of memory, predicting as a whole"):
        Predictor(Greedy(), mode="whole").one(sample(*picture(32, 32)))


class Hungry(Red):
    """Runs out of memory on images above some pixels, as if its footprint were wrong."""

    def __init__(self, most_pixels: int) -> None:
        super().__init__()
        self.most_pixels, self.seen = most_pixels, []

    def decode(self, state):
        pixels = state["image"].shape[-2] * state["image"].shape[-1]
        self.seen.append(pixels)
        if pixels > self.most_pixels:
            raise torch.OutOfMemoryError("out of memory")
        return super().decode(state)


def test_out_of_memory_in_mode_auto_falls_to_the_next_smaller_plan(caplog):
    caplog.set_level("INFO", "dinomatte.inference")
    image, trimap = picture(700, 900)
    model = Hungry(600 * 600)
    alpha = Predictor(model).one(sample(image, trimap))["alpha"]
    assert (alpha == np.where(trimap == 128, image[..., 0], trimap)).all()  # as the whole would have given
    assert (model.seen[0], model.seen[1], max(model.seen[2:])) == (700 * 900, 700 * 768, 512 * 512)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "out of memory, predicting as a whole; trying again in tiles of 768 pixels",
        "out of memory, predicting in tiles of 768 pixels; trying again in tiles of 512 pixels",
    ]


def test_a_mode_that_was_asked_for_is_not_changed_when_memory_runs_out():
    with pytest.raises(InputError, match="out of memory, predicting as a whole; give --mode tiles"):
        Predictor(Hungry(100), mode="whole").one(sample(*picture(32, 32)))


def test_memory_that_no_plan_fits_into_fails_the_image_alone(jobs):
    outcomes = list(run_jobs(Predictor(Hungry(40 * 50)), jobs))
    assert [outcome.status for outcome in outcomes] == ["written", "failed", "failed", "failed", "failed"]
    assert "out of memory" in outcomes[1].remark
    outcomes = list(run_jobs(Predictor(Hungry(600 * 600)), jobs_of_one_large_image(jobs)))
    assert [outcome.status for outcome in outcomes] == ["written"]
    assert "memory ran out, predicting as a whole; predicted in tiles of 512 pixels" in outcomes[0].remark


def jobs_of_one_large_image(jobs: list[Job]) -> list[Job]:
    image, trimap = picture(700, 900)
    Image.fromarray(image).save(jobs[0].inputs["image"])
    Image.fromarray(trimap).save(jobs[0].inputs["trimap"])
    return jobs[:1]


def test_images_of_two_sizes_share_no_batch_where_padding_would_be_a_region():
    """Of a one-hot trimap padding is no region, which a batch of two sizes could not say."""
    model = option_model(trimap_input="one_hot").eval()
    pairs = [picture(40, 50, 1), picture(33, 64, 2), picture(40, 50, 3)]
    assert Predictor(model).padded_shape(33, 40) == (33, 40)
    together = Predictor(model, batch_size=2)([sample(*pairs[0]), sample(*pairs[2])])
    for (image, trimap), arrays in zip((pairs[0], pairs[2]), together, strict=True):
        alone = Predictor(model).one(sample(image, trimap))["alpha"]
        assert np.abs(arrays["alpha"].astype(int) - alone).max() <= 1


@pytest.mark.parametrize(("nbytes", "text"), [(1, "1MiB"), (180 * 2**20, "180MiB"), (3 * 2**30 + 1, "3.1GiB")])
def test_amounts_are_written_as_they_are_read(nbytes, text):
    assert amount_text(nbytes) == text
    assert parse_bytes(text) >= nbytes


def test_auto_does_not_encode_a_huge_image_whole_however_much_memory_there_is(model):
    assert Predictor(model, max_memory=10**15).plan(12000, 9000).mode != "whole"
    assert Predictor(model, max_memory=10**15, mode="whole").plan(12000, 9000).mode == "whole"


def test_auto_reduces_the_image_of_an_encoder_beyond_the_area_that_it_is_good_at(model, monkeypatch):
    budget = {"max_memory": 10**12}
    assert Predictor(model, **budget).plan(2000, 2000).mode == "whole"
    monkeypatch.setattr(model, "encoder_side", 1024)
    plans = {  # after padding to multiples of 32
        (1024, 1024): ("whole", 1),
        (512, 2048): ("whole", 1),
        (1025, 1024): ("reduced", 2),
        (2048, 2048): ("reduced", 2),
        (2049, 2048): ("reduced", 3),
        (512, 8192): ("reduced", 2),
        (6016, 4000): ("reduced", 6),
        (15000, 20000): ("reduced", 8),  # beyond the largest scale it is still better than tiles at the full size
    }
    for size, (mode, scale) in plans.items():
        plan = Predictor(model, **budget).plan(*size)
        assert (plan.mode, plan.scale) == (mode, scale), size
    assert Predictor(model, mode="whole", **budget).plan(2000, 2000).mode == "whole"
    assert Predictor(model, mode="reduced", **budget).plan(6000, 4000).scale == 2
    assert Predictor(model, views="flip+scale", **budget).plan(1024, 1024).mode == "reduced"  # a view is larger


def test_the_model_in_the_box_sees_large_pictures_reduced():
    predictor = Predictor(read_system(), max_memory=10**12)
    assert [predictor.plan(side, side).mode for side in (1024, 3000)] == ["whole", "reduced"]


@pytest.mark.parametrize("mode", ["reduced", "tiles"])
def test_every_mode_leaves_the_known_region_alone_and_is_near_the_whole(model, mode):
    image, trimap = picture(260, 300)
    whole = Predictor(model, mode="whole").one(sample(image, trimap))["alpha"]
    other = Predictor(model, mode=mode).one(sample(image, trimap))["alpha"]
    assert (other[trimap == 0] == 0).all()
    assert np.abs(whole.astype(int) - other)[trimap == 128].mean() < 32


def test_a_batch_of_one_padded_shape_gives_what_its_images_give_alone(model):
    pairs = [picture(40, 50, 1), picture(33, 64, 2), picture(64, 64, 3)]
    predictor = Predictor(model, batch_size=3)
    assert {predictor.padded_shape(*trimap.shape) for _, trimap in pairs} == {(64, 64)}
    together = predictor([sample(*pair) for pair in pairs])
    for (image, trimap), arrays in zip(pairs, together, strict=True):
        alpha = arrays["alpha"]
        alone = Predictor(model).one(sample(image, trimap))["alpha"]
        assert alpha.shape == trimap.shape
        assert np.abs(alpha.astype(int) - alone).max() <= 1  # rounding of a last bit


def test_images_for_a_colour_prior_are_batched_by_their_own_size(model):
    with_prior = build(load_config(CONFIG, OVERRIDES).model)
    assert Predictor(with_prior).padded_shape(33, 40) == (33, 40)
    assert Predictor(model).padded_shape(33, 40) == (64, 64)


@pytest.mark.parametrize("settings", [{"mode": "quick"}, {"views": "twice"}, {"precision": "int4"}, {"batch_size": 0}])
def test_settings_that_mean_nothing_are_refused(model, settings):
    with pytest.raises(InputError, match="expected"):
        Predictor(model, **settings)


def test_another_model_has_no_reduced_mode():
    with pytest.raises(InputError, match="no encoder"):
        Predictor(Red(), mode="reduced")


# ---- the pipeline


@pytest.fixture
def jobs(tmp_path) -> list[Job]:
    made = []
    for number, size in enumerate([(40, 50), (70, 40), (33, 64), (64, 40), (50, 64)]):
        image, trimap = picture(*size, number)
        files = [tmp_path / f"{kind}_{number}.png" for kind in ("image", "trimap", "matte")]
        Image.fromarray(image).save(files[0])
        Image.fromarray(trimap).save(files[1])
        made.append(job_of(*files))
    return made


def test_files_in_batches_give_the_mattes_of_files_alone(model, jobs):
    outcomes = list(run_jobs(Predictor(model), jobs))
    assert [outcome.job for outcome in outcomes] == jobs  # in the order given
    alone = [np.asarray(Image.open(job.outputs["alpha"])).astype(int) for job in jobs]
    outcomes = list(run_jobs(Predictor(model, batch_size=8), jobs))
    assert {outcome.job for outcome in outcomes} == set(jobs)
    assert {outcome.status for outcome in outcomes} == {"written"}
    for job, expected in zip(jobs, alone, strict=True):
        assert np.abs(np.asarray(Image.open(job.outputs["alpha"])) - expected).max() <= 1


def test_a_bad_file_in_a_batch_costs_only_itself(model, jobs):
    jobs[2].inputs["image"].write_bytes(jobs[2].inputs["image"].read_bytes()[:60])
    outcomes = {outcome.job: outcome for outcome in run_jobs(Predictor(model, batch_size=8), jobs)}
    assert [outcomes[job].status for job in jobs] == ["written", "written", "failed", "written", "written"]
    assert str(jobs[2].inputs["image"]) in outcomes[jobs[2]].remark


class Watched(Pointwise):
    """Notes in which thread it runs, and what is on the disk then."""

    def __init__(self, jobs):
        super().__init__()
        self.jobs, self.threads, self.written = jobs, [], []

    def decode(self, state):
        self.threads.append(threading.current_thread())
        self.written.append(sum(job.is_done() for job in self.jobs))
        return {"alpha": torch.full_like(state["trimap"], 0.5)}


def test_the_model_stays_in_the_main_thread_and_results_come_as_they_are_done(jobs):
    model = Watched(jobs)
    outcomes = run_jobs(Predictor(model), jobs)
    next(outcomes)
    assert len(model.threads) < len(jobs)  # the first is out before the last is begun
    list(outcomes)
    assert set(model.threads) == {threading.main_thread()}
    assert model.written[-1] >= len(jobs) - 3


def test_skipped_jobs_do_not_overtake_the_others(model, jobs):
    list(run_jobs(Predictor(model), jobs[1:3]))
    outcomes = list(run_jobs(Predictor(model), jobs, skip_existing=True))
    assert [outcome.job for outcome in outcomes] == list(jobs)
    skipped = [outcome.job for outcome in outcomes if outcome.status == "skipped"]
    assert skipped == list(jobs[1:3])


def test_an_interrupt_leaves_whole_files_only_and_a_rerun_goes_on(jobs, tmp_path):
    class Interrupted(Watched):
        def decode(self, state):
            if len(self.threads) == 3:
                raise KeyboardInterrupt
            return super().decode(state)

    with pytest.raises(KeyboardInterrupt):
        list(run_jobs(Predictor(Interrupted(jobs)), jobs))
    left = [job for job in jobs if job.is_done()]
    assert 0 < len(left) < len(jobs)
    for job in left:
        Image.open(job.outputs["alpha"]).load()
    assert not list(tmp_path.glob(".*part"))
    again = Watched(jobs)
    outcomes = list(run_jobs(Predictor(again), jobs, skip_existing=True))
    assert sum(outcome.status == "skipped" for outcome in outcomes) == len(left)
    assert len(again.threads) == len(jobs) - len(left)
