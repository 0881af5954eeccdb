"""Frames, timestamps, sound and transparency survive; what is no clip is refused in one line."""

import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from clips import NTSC, UNEVEN, picture, sound_of, write_clip
from PIL import Image
from tiny import ROOT

from data.video import check_video_output, count_frames, frame_writer, is_video, open_clip
from data.video.reading import MAX_FRAME_PIXELS
from runtime.errors import InputError


def copy(source, target, shown=lambda frame, index: frame.image):
    """Write a clip's frames, or what `shown` makes of them, and return the remarks."""
    with open_clip(source) as clip, frame_writer(target, clip) as writer:
        for index, frame in enumerate(clip):
            writer.write(shown(frame, index), frame.pts, frame.duration)
    return writer.remarks


def test_frames_are_those_of_opencv_with_exact_times(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, pts=UNEVEN)
    with open_clip(path) as clip:
        frames = list(clip)
    assert (clip.time_base, clip.num_frames, clip.missing(), clip.ends_early) == (Fraction(1, 30000), 12, 0, "")
    assert tuple(frame.pts for frame in frames) == UNEVEN
    reference = cv2.VideoCapture(str(path))
    for index, frame in enumerate(frames):
        opened, bgr = reference.read()
        assert opened
        assert np.abs(bgr[..., ::-1].astype(int) - frame.image).max() <= 1
        assert np.abs(picture(index).astype(int) - frame.image).max() <= 4  # what the encoder lost
    assert not reference.read()[0]


def test_a_rate_of_29_97_is_30000_over_1001(tmp_path):
    write_clip(tmp_path / "clip.mp4")
    copy(tmp_path / "clip.mp4", tmp_path / "copy.mp4")
    for name in ("clip.mp4", "copy.mp4"):
        with open_clip(tmp_path / name) as clip:
            assert clip.rate == NTSC
        assert cv2.VideoCapture(str(tmp_path / name)).get(cv2.CAP_PROP_FPS) == pytest.approx(float(NTSC), rel=1e-9)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_clips_are_upright_as_opencv_turns_them(tmp_path, rotation):
    write_clip(tmp_path / "clip.mp4", 2, rotation=rotation)
    with open_clip(tmp_path / "clip.mp4") as clip:
        frame = next(iter(clip))
    assert (clip.height, clip.width) == ((48, 64) if rotation == 180 else (64, 48))
    _, bgr = cv2.VideoCapture(str(tmp_path / "clip.mp4")).read()
    assert np.abs(bgr[..., ::-1].astype(int) - frame.image).max() <= 1


def test_a_moving_gif_has_the_pictures_and_times_that_pillow_gives_it(tmp_path):
    path = tmp_path / "moving.GIF"
    colours = [(250, 10, 20), (0, 200, 30), (5, 10, 255)]
    frames = [Image.new("RGB", (20, 12), colour) for colour in colours]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 250, 100], loop=0)
    with open_clip(path) as clip:
        assert (clip.height, clip.width) == (12, 20)
        found = list(clip)
    assert [float(frame.pts * clip.time_base) for frame in found] == pytest.approx([0, 0.04, 0.29])
    with Image.open(path) as image:
        for index, frame in enumerate(found):
            image.seek(index)
            np.testing.assert_array_equal(frame.image, np.asarray(image.convert("RGB")))
    assert is_video(path)
    frames[0].save(tmp_path / "still.gif")
    (tmp_path / "torn.gif").write_bytes(path.read_bytes()[:20])
    assert not any(is_video(tmp_path / name) for name in ("still.gif", "torn.gif", "none.gif", "a.png"))
    assert is_video(tmp_path / "none.mp4")


def test_frames_are_counted_without_the_header(tmp_path):
    for name, encoder in (("clip.mp4", "libx264"), ("clip.webm", "libvpx-vp9"), ("clip.avi", "mpeg4")):
        write_clip(tmp_path / name, encoder=encoder, pixels="yuv420p", sound=None)
        assert [count_frames(tmp_path / name, most) for most in (100, 12, 11, 3)] == [12, 12, 12, 4]


def test_the_shape_of_pixels_is_kept_and_turned(tmp_path):
    for rotation, expected in ((0, Fraction(4, 3)), (90, Fraction(3, 4))):
        write_clip(tmp_path / "clip.mp4", 2, rotation=rotation, pixel_aspect=Fraction(4, 3))
        copy(tmp_path / "clip.mp4", tmp_path / "copy.mp4")
        with open_clip(tmp_path / "copy.mp4") as clip:
            assert clip.pixel_aspect == expected


def test_high_definition_that_names_no_colours_is_bt_709(tmp_path):
    """The same luma and chroma, 120, 90 and 160, by the two standards' formulas."""
    for height, expected in ((718, (172, 110, 44)), (720, (178, 112, 41))):
        with av.open(str(tmp_path / "clip.mp4"), "w") as output:
            video = output.add_stream("libx264", rate=25, options={"crf": "1"})
            video.height, video.width, video.pix_fmt = height, 64, "yuv420p"
            frame = av.VideoFrame(64, height, "yuv420p")
            for plane, level in zip(frame.planes, (120, 90, 160), strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            output.mux(video.encode(frame))
            output.mux(video.encode(None))
        with open_clip(tmp_path / "clip.mp4") as clip:
            assert np.abs(next(iter(clip)).image[10, 10].astype(int) - expected).max() <= 2


def test_mirrored_clips_are_mirrored(tmp_path):
    write_clip(tmp_path / "clip.mp4", 2, mirrored=True)
    with open_clip(tmp_path / "clip.mp4") as clip:
        frame = next(iter(clip))
    assert np.abs(picture(0)[:, ::-1].astype(int) - frame.image).max() <= 4


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
@pytest.mark.parametrize("size", [(48, 64), (47, 65)])
def test_a_written_clip_keeps_count_size_times_and_pictures(tmp_path, suffix, size):
    source = [cv2.GaussianBlur(picture(index, *size), (0, 0), 3) for index in range(12)]
    write_clip(tmp_path / "clip.mp4", source, pts=UNEVEN)
    remarks = copy(tmp_path / "clip.mp4", tmp_path / f"copy{suffix}")
    with open_clip(tmp_path / f"copy{suffix}") as clip:
        frames = list(clip)
    exact = 1 if suffix != ".webm" else Fraction(1, 2000)  # Matroska keeps milliseconds
    times = [frame.pts * clip.time_base for frame in frames]
    assert len(times) == 12
    assert all(
        time == Fraction(pts, 30000) if suffix != ".webm" else abs(time - Fraction(pts, 30000)) <= exact
        for time, pts in zip(times, UNEVEN, strict=True)
    )
    assert (clip.height, clip.width) == size
    assert all(np.abs(image.astype(int) - f.image).mean() < 2 for image, f in zip(source, frames, strict=True))
    assert any("odd side" in remark for remark in remarks) == (size == (47, 65) and suffix == ".mp4")


def test_sound_is_copied_to_the_byte_and_the_tick(tmp_path):
    write_clip(tmp_path / "clip.mp4", pts=UNEVEN)
    assert len(sound_of(tmp_path / "clip.mp4")) > 10
    for name in ("copy.mp4", "copy.mov"):
        assert copy(tmp_path / "clip.mp4", tmp_path / name) == []
        assert sound_of(tmp_path / name) == sound_of(tmp_path / "clip.mp4")
    (remark,) = copy(tmp_path / "clip.mp4", tmp_path / "copy.webm")
    assert "sound (aac) cannot be copied into webm" in remark


def test_opus_goes_into_webm(tmp_path):
    write_clip(tmp_path / "clip.webm", encoder="libvpx-vp9", sound="libopus", time_base=Fraction(1, 1000), rate=25)
    assert copy(tmp_path / "clip.webm", tmp_path / "copy.webm") == []
    assert sound_of(tmp_path / "copy.webm") == sound_of(tmp_path / "clip.webm") != []


@pytest.mark.parametrize("name", ["cutout.mov", "cutout.webm", "frames/%04d.png"])
def test_transparency_survives(tmp_path, name):
    write_clip(tmp_path / "clip.mp4")
    target = tmp_path / name
    shown = lambda frame, index: np.dstack([frame.image, np.full(frame.image.shape[:2], 20 * index, np.uint8)])  # noqa: E731
    copy(tmp_path / "clip.mp4", target, shown)
    if "%" in name:
        alphas = [np.asarray(Image.open(path))[..., 3] for path in sorted(target.parent.glob("*.png"))]
    else:
        with av.open(str(target)) as container:
            stream = container.streams.video[0]
            decoder = av.CodecContext.create("libvpx-vp9", "r") if target.suffix == ".webm" else stream.codec_context
            decoded = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        alphas = [frame.to_ndarray(format="rgba")[..., 3] for frame in decoded]
    assert len(alphas) == 12
    assert all(np.abs(alpha.astype(int) - 20 * index).max() <= 1 for index, alpha in enumerate(alphas))


def test_mp4_refuses_transparency_and_leaves_nothing(tmp_path):
    write_clip(tmp_path / "clip.mp4", sound=None)
    with pytest.raises(InputError, match=r"\.mp4 does not support transparency"):
        copy(tmp_path / "clip.mp4", tmp_path / "out.mp4", lambda frame, index: np.zeros((48, 64, 4), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_numbered_frames_keep_their_times(tmp_path):
    write_clip(tmp_path / "clip.mp4", pts=UNEVEN)
    copy(tmp_path / "clip.mp4", tmp_path / "frames" / "%d.png", lambda frame, index: frame.image[..., 0] * 0 + index)
    lines = (tmp_path / "frames" / "timestamps.txt").read_text().splitlines()
    assert lines[:3] == ["# timestamp format v2", "0.000000", "33.366667"]
    assert len(lines) == 13
    assert [np.asarray(Image.open(tmp_path / "frames" / f"{n}.png"))[0, 0] for n in (1, 2, 12)] == [0, 1, 11]
    with pytest.raises(InputError, match="new or empty folder"):
        copy(tmp_path / "clip.mp4", tmp_path / "frames" / "%d.png")


@pytest.mark.parametrize("name", ["out.mp4", "out/%04d.png"])
def test_an_interrupted_clip_leaves_nothing_under_its_name(tmp_path, name):
    write_clip(tmp_path / "clip.mp4")

    def interrupted(frame, index):
        if index == 5:
            raise KeyboardInterrupt
        return frame.image

    with pytest.raises(KeyboardInterrupt):
        copy(tmp_path / "clip.mp4", tmp_path / name, interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_clip_that_ends_before_its_header_says_so(tmp_path):
    write_clip(tmp_path / "clip.mp4", 300)
    copy(tmp_path / "clip.mp4", tmp_path / "whole.mp4")  # its index is at the front
    write_clip(tmp_path / "whole.mkv", 300)
    for name in ("whole.mp4", "whole.mkv"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
        with open_clip(tmp_path / f"cut_{name}") as clip:
            frames = list(clip)
        assert "its header says 10.01 s; the file is truncated" in clip.ends_early
        assert len(frames) + clip.missing() == pytest.approx(300, abs=2)
        with open_clip(tmp_path / name) as clip:
            assert len(list(clip)) == 300
        assert clip.ends_early == ""


def test_damaged_frames_are_counted_and_the_rest_is_read(tmp_path):
    rng = np.random.default_rng(0)
    write_clip(tmp_path / "clip.mp4", [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(60)], sound=None)
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    middle = content.find(b"mdat") + 8 + len(content) // 2
    content[middle : middle + 30000] = bytes(30000)  # some three packets
    (tmp_path / "clip.mp4").write_bytes(content)
    with open_clip(tmp_path / "clip.mp4") as clip:
        frames = list(clip)
    assert 0 < clip.missing() < 20
    assert len(frames) >= 40


def _audio_only(path):
    with av.open(str(path), "w") as output:
        audio = output.add_stream("aac", rate=48000)
        audio.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))


def _huge(path):
    side = int(MAX_FRAME_PIXELS**0.5) // 2 * 2 + 2
    write_clip(path, [np.zeros((side, side, 3), np.uint8)], sound=None, pixels="yuv420p")


def _cut_before_its_index(path):
    write_clip(path)
    path.write_bytes(path.read_bytes()[:2000])


def _of_an_unknown_codec(path):
    write_clip(path)
    content = path.read_bytes()
    sample_entry = content.rindex(b"avc1")  # the first is among the brands
    path.write_bytes(content[:sample_entry] + b"zz9z" + content[sample_entry + 4 :])


HOSTILE = {
    "empty": (lambda path: path.touch(), "found an empty one"),
    "text": (lambda path: path.write_text("no video " * 500), "is not a video, is damaged, or ends"),
    "a picture": (lambda path: Image.new("RGB", (8, 8)).save(path, "PNG"), "is not a video, is damaged, or ends"),
    "a playlist": (
        lambda path: path.write_text("#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"),
        "is not a video, is damaged",
    ),
    "a list of files": (lambda path: path.write_text("ffconcat version 1.0\nfile other.mp4\n"), "is not a video"),
    "sound alone": (_audio_only, "found only sound"),
    "cut before its index": (_cut_before_its_index, "is not a video, is damaged, or ends"),
    "of an unknown codec": (_of_an_unknown_codec, "has no decoder for its pictures"),
    "missing": (lambda path: None, "found nothing"),
    "a folder": (lambda path: path.mkdir(), "found a folder"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_clip_is_one_clear_line(tmp_path, kind):
    make, message = HOSTILE[kind]
    make(tmp_path / "clip.mp4")
    with pytest.raises(InputError, match=message) as caught, open_clip(tmp_path / "clip.mp4"):
        pass
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "clip.mp4") in str(caught.value)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.webm"])
def test_a_missing_encoder_is_named_before_any_work(tmp_path, monkeypatch, name):
    def missing(encoder, mode):
        raise av.codec.codec.UnknownCodecError(encoder)

    monkeypatch.setattr(av.codec, "Codec", missing)
    with pytest.raises(InputError, match=r"this PyAV has no encoder .*; install the one of requirements/video"):
        check_video_output(tmp_path / name)
    check_video_output(tmp_path / "frames" / "%d.png")  # needs none


@pytest.mark.slow
def test_a_picture_of_too_many_pixels_is_refused(tmp_path):
    _huge(tmp_path / "clip.mp4")
    with pytest.raises(InputError, match="at most 67108864 are read"), open_clip(tmp_path / "clip.mp4"):
        pass


def test_a_missing_library_is_named():
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from data.video.library import import_av\n"
        "try: import_av()\n"
        "except ValueError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip install -r requirements/video.txt" in result.stdout


@pytest.mark.slow
def test_memory_does_not_grow_with_a_clip(tmp_path):
    """Peak resident memory of copying 40 and 400 frames of 640 x 360, each in a process of its own."""
    code = (
        "import sys, resource; sys.path.insert(0, 'tests')\n"
        "from data.video import check_video_output, frame_writer, open_clip\n"
        "with open_clip(sys.argv[1]) as clip, frame_writer(sys.argv[2], clip) as writer:\n"
        "    for frame in clip: writer.write(frame.image, frame.pts, frame.duration)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for frames in (80, 480):
        source = tmp_path / f"{frames}.mp4"
        write_clip(source, [picture(index, 360, 640) for index in range(frames)])
        command = [sys.executable, "-c", code, str(source), str(tmp_path / "copy.mp4")]
        peaks.append(int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.1 * peaks[0]
