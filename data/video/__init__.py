"""Reading and writing of video files, with exact timestamps and copied sound, in constant memory."""

from data.video.reading import Clip, Frame, count_frames, is_video, open_clip
from data.video.writing import FrameWriter, check_video_output, frame_writer

__all__ = [
    "Clip",
    "Frame",
    "FrameWriter",
    "check_video_output",
    "count_frames",
    "frame_writer",
    "is_video",
    "open_clip",
]
