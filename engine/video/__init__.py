"""Processing of clips over time: motion, cuts, steadiness, and key frames carried to other frames."""
