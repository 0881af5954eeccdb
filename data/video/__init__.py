"""Reading and writing of video files, with exact timestamps and copied sound, in constant memory."""

from data.video.reading import VIDEO_SUFFIXES, Clip, Frame, open_clip
from data.video.writing import FrameWriter, check_video_output, frame_writer

__all__ = ["VIDEO_SUFFIXES", "Clip", "Frame", "FrameWriter", "check_video_output", "frame_writer", "open_clip"]
