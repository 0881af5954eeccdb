"""Small video files for tests, encoded with PyAV alone."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

NTSC = Fraction(30000, 1001)
UNEVEN = (0, 1001, 2002, 5005, 6006, 9009, 10010, 11011, 12012, 20020, 21021, 24024)  # a phone's, of 1/30000 s


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Red above, green at the bottom left, and a blue that changes at the bottom right: no symmetry."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2] = (255, 0, 0)
    image[height // 2 :, : width // 2] = (0, 200, 0)
    image[height // 2 :, width // 2 :] = (10 * index % 256, 10 * index % 256, 255)
    return image


def write_clip(
    path,
    pictures: Sequence[np.ndarray] | int = 12,
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 30000),
    rate: Fraction = NTSC,
    rotation: int = 0,
    mirrored: bool = False,
    sound: str | None = "aac",
    encoder: str = "libx264",
    pixels: str = "yuv444p",
    pixel_aspect: Fraction = Fraction(1),
) -> None:
    """Write pictures (or so many of `picture`), by default at 29.97 frames a second, with a tone of their length."""
    pictures = [picture(index) for index in range(pictures)] if isinstance(pictures, int) else pictures
    step = round(1 / (rate * time_base))
    with av.open(str(path), "w") as output:
        video = output.add_stream(encoder, rate=rate, options={"crf": "1"})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = pixels
        video.codec_context.time_base = video.time_base = time_base
        video.codec_context.colorspace = 1
        video.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation or mirrored:
            video.set_display_rotation(rotation, hflip=mirrored)
        audio = None
        if sound is not None:
            audio = output.add_stream(sound, rate=48000)
            audio.layout = "mono"
        for index, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = (index * step if pts is None else pts[index]), time_base
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None:
            _write_tone(output, audio, float(len(pictures) / rate))


def _write_tone(output, audio, seconds: float) -> None:
    tone = (0.3 * np.sin(0.05 * np.arange(int(48000 * seconds)))).astype(np.float32)
    for start in range(0, len(tone), 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, start
        output.mux(audio.encode(frame))
    output.mux(audio.encode(None))


def sound_of(path) -> list[tuple[Fraction, bytes]]:
    """Time and bytes of each audio packet."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        packets = container.demux(container.streams.audio[0])
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in packets if packet.size]
