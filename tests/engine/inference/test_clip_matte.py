"""The chain over clips: from a box, from key frames, from a segmentation of each frame."""

import cv2
import numpy as np
import pytest
from clips import NTSC, write_clip
from PIL import Image
from systems import Red

from data.images.mattes import read_trimap
from data.synthetic.clips import SyntheticClip
from data.video import open_clip
from engine.inference import Predictor
from engine.inference.auto_matte import AutoMatte
from engine.inference.clip_matte import ClipMatte, key_frames_of
from engine.inference.clips import looking_ahead
from engine.inference.subjects import Subject
from metrics.temporal import score_sequence
from runtime.errors import InputError
from runtime.text import NAMED_AT_MOST

FRAMES = 8


@pytest.fixture(scope="module")
def scene():
    return list(SyntheticClip((96, 128), FRAMES, seed=3, family="solid", noise=0.01, motion=1, turn=0.3))


@pytest.fixture
def clip(tmp_path, scene):
    write_clip(tmp_path / "clip.mp4", [frame.image for frame in scene])
    return tmp_path / "clip.mp4"


def frames_of(path) -> list[np.ndarray]:
    with open_clip(path) as clip:
        assert clip.rate == NTSC
        return [frame.image for frame in clip]


def error(alphas, scene) -> float:
    """Mean absolute difference of gray frames from the truth, as a fraction of white."""
    return float(np.mean([cv2.absdiff(a, f.alpha).mean() / 255 for a, f in zip(alphas, scene, strict=True)]))


def trimap_of(alpha: np.ndarray) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    inside = (alpha >= 128).astype(np.uint8)
    return np.where(cv2.erode(inside, disc) > 0, 255, np.where(cv2.dilate(inside, disc) == 0, 0, 128)).astype(np.uint8)


def test_one_key_frame_becomes_a_matte_of_every_frame(tmp_path, clip, scene, run_auto_matte):
    """Better than the key frame's own matte, kept still."""
    Image.fromarray((scene[0].alpha >= 128).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    arguments = (clip, "--mask", tmp_path / "mask.png", "--save", "alpha,composite", "--output", tmp_path / "out.mp4")
    status, out, err = run_auto_matte(*arguments, "--background", "blue")
    assert status == 0, err
    assert f"{FRAMES} frames written, 0 failed" in out
    alphas = [frame[..., 0] for frame in frames_of(tmp_path / "out.mp4")]
    assert error(alphas, scene) < 0.02
    assert error(alphas, scene) < 0.5 * error([scene[0].alpha] * FRAMES, scene)
    composite = frames_of(tmp_path / "out_composite.mp4")[-1]
    assert np.abs(composite[scene[-1].alpha == 0].astype(int) - (0, 0, 255)).mean() < 12


def test_key_frames_of_a_folder_are_used_as_they_are(tmp_path, clip, scene, run_auto_matte):
    (tmp_path / "keys").mkdir()
    for index in (0, FRAMES - 1):
        Image.fromarray(trimap_of(scene[index].alpha)).save(tmp_path / "keys" / f"frame_{index + 1:04d}.png")
    output = tmp_path / "frames" / "%d.png"
    status, _, err = run_auto_matte(clip, "--trimap", tmp_path / "keys", "--save", "trimap,rgba", "--output", output)
    assert status == 0, err
    for index in (0, FRAMES - 1):
        written = np.asarray(Image.open(tmp_path / "frames" / f"{index + 1}.png"))
        np.testing.assert_array_equal(written, trimap_of(scene[index].alpha))
    status, out, _ = run_auto_matte(
        clip, "--trimap", tmp_path, "--save", "trimap,rgba", "--output", output, "--skip-existing"
    )
    assert (status, "exists, skipped" in out) == (0, True)
    cutouts = [np.asarray(Image.open(tmp_path / "frames_rgba" / f"{n}.png")) for n in range(1, FRAMES + 1)]
    assert error([np.ascontiguousarray(cutout[..., 3]) for cutout in cutouts], scene) < 0.02


def test_a_box_around_the_subject_of_the_first_frame_is_enough(tmp_path, clip, scene, run_auto_matte):
    rows, columns = (np.flatnonzero((scene[0].alpha > 0).any(axis=axis)) for axis in (1, 0))
    box = (max(1, columns[0] - 2), max(1, rows[0] - 2), min(126, columns[-1] + 2), min(94, rows[-1] + 2))
    status, _, err = run_auto_matte(clip, "--box", *box, "--output", tmp_path / "out.mov", "--save", "rgba")
    assert status == 0, err
    assert len(frames_of(tmp_path / "out.mov")) == FRAMES


def test_clicks_fix_their_pixels_of_the_first_frame(tmp_path, clip, scene, run_auto_matte):
    soft = np.argwhere((scene[0].alpha > 60) & (scene[0].alpha < 200))
    y, x = soft[len(soft) // 2]
    rows, columns = (np.flatnonzero((scene[0].alpha > 0).any(axis=axis)) for axis in (1, 0))
    box = (max(1, columns[0] - 2), max(1, rows[0] - 2), min(126, columns[-1] + 2), min(94, rows[-1] + 2))
    for option, level in (("--click", 255), ("--click-outside", 0)):
        output = tmp_path / option / "%d.png"
        status, _, err = run_auto_matte(clip, "--box", *box, option, x, y, "--output", output)
        assert status == 0, err
        assert np.asarray(Image.open(tmp_path / option / "1.png"))[y, x] == level


def test_a_moving_gif_is_a_clip_alone_and_refused_among_pictures(tmp_path, scene, run_auto_matte):
    frames = [Image.fromarray(frame.image) for frame in scene]
    (tmp_path / "in").mkdir()
    frames[0].save(tmp_path / "in" / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    arguments = ("--box", 4, 4, 124, 92, "--save", "alpha")
    status, out, err = run_auto_matte(tmp_path / "in" / "a.gif", *arguments, "--output", tmp_path / "frames" / "%d.png")
    assert (status, f"{FRAMES} frames written" in out) == (0, True), err
    frames[0].save(tmp_path / "in" / "b.png")
    status, _, err = run_auto_matte(tmp_path / "in", *arguments, "--output", tmp_path / "out")
    assert (status, sorted(path.name for path in (tmp_path / "out").iterdir())) == (2, ["b.png", "manifest.json"])
    assert "a.gif: expected a single image, found several frames" in err


@pytest.mark.parametrize("name", ["key.png", "key_0.png"])
def test_key_frames_without_a_number_are_refused(tmp_path, name):
    Image.new("L", (4, 4)).save(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: expected a name that ends in the number of a frame"):
        key_frames_of(tmp_path, lambda path: np.zeros((4, 4), np.uint8))


def test_key_frames_are_read_where_they_are_used(tmp_path):
    for number in (1, 30):
        Image.new("L", (4, 4), 128).save(tmp_path / f"key_{number:03d}.png")
    read = []
    keys = key_frames_of(tmp_path, lambda path: read.append(path.name) or read_trimap(path))
    assert (sorted(keys), read) == ([0, 29], [])
    assert keys[29].source == str(tmp_path / "key_030.png")
    assert keys[29].read().shape == (4, 4)
    assert read == ["key_030.png"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({1: None, 99: None}, "keys/99.png: is for frame 99, but {clip} has 8 frames"),
        ({1: None, 5: (60, 40)}, "keys/5.png: expected 128 x 96 like frame 5 of {clip}, got 60 x 40"),
        ({1: None}, "{clip}: expected a key frame in each scene, found none in frames 5 to 8"),
    ],
)
def test_key_frames_that_do_not_fit_are_refused_before_any_matting(
    tmp_path, scene, run_auto_matte, monkeypatch, keys, message
):
    def matted(*_):
        raise AssertionError("matted")

    monkeypatch.setattr(ClipMatte, "_matte", matted)
    is_cut = len(keys) == 1
    images = [frame.image for frame in (SyntheticClip((96, 128), FRAMES, seed=4, cut_at=4) if is_cut else scene)]
    write_clip(tmp_path / "clip.mp4", images)
    (tmp_path / "keys").mkdir()
    for number, size in keys.items():
        key = Image.fromarray(trimap_of(scene[0].alpha))
        (key if size is None else key.resize(size, Image.NEAREST)).save(tmp_path / "keys" / f"{number}.png")
    status, _, err = run_auto_matte(
        tmp_path / "clip.mp4", "--trimap", tmp_path / "keys", "--output", tmp_path / "out.mp4"
    )
    assert (status, err.count("\n")) == (2, 1)
    assert message.format(clip=tmp_path / "clip.mp4") in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "keys"]


@pytest.mark.parametrize(("level", "remark"), [(0, "no subject was found"), (255, "the subject has no edge")])
def test_no_person_and_nothing_but_a_person(tmp_path, clip, run_auto_matte, level, remark):
    """The matte is empty, or full; each frame is written, and the remark is made once a frame, for the first few."""
    Image.new("L", (128, 96), level).save(tmp_path / "mask.png")
    output = tmp_path / "frames" / "%d.png"
    status, out, err = run_auto_matte(clip, "--mask", tmp_path / "mask.png", "--output", output, "--save", "alpha,rgba")
    assert (status, f"{FRAMES} frames written, 0 failed" in out) == (0, True)
    assert 1 <= err.count(remark) <= NAMED_AT_MOST
    for number in range(1, FRAMES + 1):
        alpha = np.asarray(Image.open(tmp_path / "frames" / f"{number}.png"))
        assert (alpha == level).mean() > 0.95  # what comes into the picture from outside is unknown
        assert np.asarray(Image.open(tmp_path / "frames_rgba" / f"{number}.png")).shape == (96, 128, 4)


@pytest.mark.parametrize("rotation", [90, 180])
def test_a_phone_that_was_turned_gives_an_upright_matte_of_its_upright_frames(
    tmp_path, scene, run_auto_matte, rotation
):
    write_clip(tmp_path / "clip.mp4", [frame.image for frame in scene[:3]], rotation=rotation)
    with open_clip(tmp_path / "clip.mp4") as clip:
        upright = next(iter(clip)).image
    turned = [np.rot90(scene[0].image, turns) for turns in range(4)]
    (turns,) = (
        turns
        for turns, image in enumerate(turned)
        if image.shape == upright.shape and np.abs(image.astype(int) - upright).mean() < 8
    )
    assert turns != 0
    mask = np.rot90((scene[0].alpha >= 128).astype(np.uint8) * 255, turns)
    Image.fromarray(np.ascontiguousarray(mask)).save(tmp_path / "mask.png")
    arguments = (tmp_path / "clip.mp4", "--mask", tmp_path / "mask.png", "--output", tmp_path / "f" / "%d.png")
    status, _, err = run_auto_matte(*arguments)
    assert status == 0, err
    alphas = [np.asarray(Image.open(tmp_path / "f" / f"{number}.png")) for number in (1, 2, 3)]
    truths = [frame._replace(alpha=np.ascontiguousarray(np.rot90(frame.alpha, turns))) for frame in scene[:3]]
    assert error(alphas, truths) < 0.02


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "f/%d.png"])
def test_odd_sizes_go_through_the_chain(tmp_path, scene, run_auto_matte, output):
    images = [np.ascontiguousarray(frame.image[:-1, :-3]) for frame in scene[:3]]
    write_clip(tmp_path / "clip.mp4", images)
    Image.fromarray((scene[0].alpha[:-1, :-3] >= 128).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    arguments = (tmp_path / "clip.mp4", "--mask", tmp_path / "mask.png", "--output", tmp_path / output)
    status, _, err = run_auto_matte(*arguments)
    assert status == 0, err
    if output.endswith("png"):
        sizes = {np.asarray(Image.open(tmp_path / "f" / f"{n}.png")).shape for n in (1, 2, 3)}
    else:
        sizes = {frame.shape[:2] for frame in frames_of(tmp_path / output)}
    assert sizes == {(95, 125)}


class Wandering:
    """A segmentation whose edge is off by another pixel or two in each frame."""

    def __init__(self, scene, off: float = 1.5) -> None:
        self.truths = {id(frame.image): (number, frame.alpha) for number, frame in enumerate(scene)}
        self.off = off
        self.numbers = []

    def __call__(self, sample) -> Subject:
        number, truth = self.truths[id(sample["image"])]
        self.numbers.append(number)
        off = np.random.default_rng((1, number)).normal(0, 1, 2) * self.off
        matrix = np.float32([[1, 0, off[0]], [0, 1, off[1]]])
        moved = cv2.warpAffine(truth, matrix, truth.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        return Subject(cv2.GaussianBlur(moved.astype(np.float32) / 255, (0, 0), 1), 1.0, is_sharp=False)


def test_a_segmentation_that_wanders_makes_steadier_trimaps_than_frame_by_frame():
    frame = SyntheticClip((96, 128), 1, seed=3, family="solid", noise=0)[0]
    still = [frame._replace(image=frame.image.copy()) for _ in range(10)]
    plain = AutoMatte(Wandering(still), Predictor(Red()))
    results = [
        [plain.one({"image": frame.image}) for frame in still],
        mattes(ClipMatte(Wandering(still), Predictor(Red())), [frame.image for frame in still]),
    ]
    changes = [np.abs(np.diff([r["trimap"].astype(int) for r in each], axis=0)).mean() for each in results]
    assert changes[1] < 0.5 * changes[0]


def mattes(chain: ClipMatte, images, trimaps=None, first: int = 0) -> list[dict[str, np.ndarray]]:
    """The results of a clip's frames from `first` on, each with the frames around it that the chain asks for."""
    samples = [{"image": image, "number": number} for number, image in enumerate(images)]
    for sample, trimap in zip(samples, trimaps or [], strict=False):
        sample["trimap"] = trimap
    results = []
    for sample, following in looking_ahead(samples, chain.look_ahead):
        if sample["number"] >= first:
            number = sample["number"]
            preceding = samples[max(0, number - chain.look_back) : number] if number == first else []
            results.append(chain.one({**sample, "preceding": preceding, "following": following}))
    return results


class Noisy(ClipMatte):
    """A stand-in for matting that needs no model: alpha is the truth with noise."""

    def __init__(self, scene, *arguments, **settings) -> None:
        super().__init__(*arguments, **settings)
        self.truths = {id(frame.image): frame.alpha for frame in scene}
        self.made = []

    def alpha_of(self, image, trimap):
        truth = self.truths[id(image)]
        rng = np.random.default_rng((0, int(image.sum())))
        noisy = np.clip(truth + 25 * rng.standard_normal(truth.shape), 0, 255).round().astype(np.uint8)
        self.made.append(np.where(trimap == 128, noisy, trimap))
        return self.made[-1]


def test_a_clip_becomes_steadier_at_less_error():
    frames = list(SyntheticClip((120, 160), 12, seed=3, family="solid", motion=0.5, turn=0.1, pan=0.3, noise=0.01))
    chain = Noisy(frames, None, Predictor(Red()))
    steady = [r["alpha"] for r in mattes(chain, [f.image for f in frames], [trimap_of(f.alpha) for f in frames])]
    assert len(chain.made) == 12  # each frame was matted once

    def scores(alphas):
        scored = score_sequence((a, frame.alpha, None) for a, frame in zip(alphas, frames, strict=True))
        return scored["dtssd"], error(alphas, frames)

    (before, error_before), (after, error_after) = scores(chain.made), scores(steady)
    assert after < 0.5 * before
    assert error_after < 0.8 * error_before


def test_nothing_is_averaged_over_a_cut():
    frames = list(SyntheticClip((96, 128), 8, seed=4, cut_at=4))
    images, trimaps = [frame.image for frame in frames], [trimap_of(frame.alpha) for frame in frames]
    whole = mattes(Noisy(frames, None, Predictor(Red())), images, trimaps)
    apart = [
        result
        for part in (slice(0, 4), slice(4, 8))
        for result in mattes(Noisy(frames, None, Predictor(Red())), images[part], trimaps[part])
    ]
    for one, other in zip(whole, apart, strict=True):
        np.testing.assert_array_equal(one["alpha"], other["alpha"])


def test_alpha_is_steadied_in_the_unknown_region_alone(scene):
    trimaps = [trimap_of(frame.alpha) for frame in scene]
    for result, trimap in zip(
        mattes(Noisy(scene, None, Predictor(Red())), [frame.image for frame in scene], trimaps), trimaps, strict=True
    ):
        known = trimap != 128
        np.testing.assert_array_equal(result["alpha"][known], trimap[known])


@pytest.mark.parametrize("segment_every", [1, 3])
@pytest.mark.parametrize("first", [1, 5, 7])
def test_frames_are_the_same_wherever_a_run_begins(scene, segment_every, first):
    images = [frame.image for frame in scene]

    def chain():
        return Noisy(scene, Wandering(scene), Predictor(Red()), segment_every=segment_every)

    whole, part = mattes(chain(), images), mattes(chain(), images, first=first)
    assert len(part) == FRAMES - first
    for one, other in zip(whole[first:], part, strict=True):
        for kind in ("alpha", "trimap", "mask"):
            np.testing.assert_array_equal(one[kind], other[kind])


def test_of_every_third_frame_the_others_trimaps_are_carried(scene):
    subjects = Wandering(scene, off=0.0)
    chain = Noisy(scene, subjects, Predictor(Red()), segment_every=3)
    results = mattes(chain, [frame.image for frame in scene])
    assert subjects.numbers == [0, 3, 6]
    for frame, result in zip(scene, results, strict=True):
        trimap = result["trimap"]
        wrong = ((trimap == 0) & (frame.alpha > 127)) | ((trimap == 255) & (frame.alpha < 128))
        assert wrong.mean() < 1e-3
        assert (trimap == 128).mean() < 0.5


def test_a_segmentation_of_every_nth_frame_begins_again_at_a_cut():
    frames = list(SyntheticClip((96, 128), 8, seed=4, cut_at=4))
    subjects = Wandering(frames, off=0.0)
    mattes(Noisy(frames, subjects, Predictor(Red()), segment_every=3), [frame.image for frame in frames])
    assert subjects.numbers == [0, 3, 4, 6]


def test_a_frame_that_fails_fails_alone(scene):
    class Fails(Noisy):
        def alpha_of(self, image, trimap):
            if image is scene[4].image:
                raise InputError("no")
            return super().alpha_of(image, trimap)

    chain = Fails(scene, Wandering(scene), Predictor(Red()))
    results = mattes(chain, [frame.image for frame in scene[:4]])
    with pytest.raises(InputError, match="no"):
        mattes(chain, [frame.image for frame in scene], first=4)
    chain = Fails(scene, Wandering(scene), Predictor(Red()))
    results = [*results, *mattes(chain, [frame.image for frame in scene], first=5)]
    assert len(results) == FRAMES - 1


def test_another_subject_ends_the_mean_of_alpha_too():
    """The picture is the same, so no cut: only the mask moves from the left half to the right half."""
    image = np.full((64, 96, 3), 200, np.uint8)
    left, right = np.zeros((64, 96), np.float32), np.zeros((64, 96), np.float32)
    left[:, :48] = right[:, 48:] = 1
    images = [image.copy() for _ in range(4)]
    for name, planes in {"same": [left] * 4, "other": [left, left, right, right]}.items():
        shown = {id(image): plane for image, plane in zip(images, planes, strict=True)}
        chain = ClipMatte(lambda sample, shown=shown: Subject(shown[id(sample["image"])], 1.0, False), Predictor(Red()))
        counts = []
        neighbours = chain._neighbours
        chain._neighbours = lambda kind, index, neighbours=neighbours, counts=counts: (
            counts.append((kind, len(neighbours(kind, index)))) or neighbours(kind, index)
        )
        mattes(chain, images)
        alphas = [count for kind, count in counts if kind == "alpha plane"]
        assert alphas == {"same": [2, 3, 3, 2], "other": [1, 1, 1, 1]}[name]
