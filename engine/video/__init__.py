"""Clips as more than their frames: motion, cuts, steadiness, and key frames carried to the frames between."""
