"""Times of parts, from a clock that is known."""

import pytest

from engine.inference.stopwatch import Stopwatch


def test_medians_and_means_of_laps_by_hand(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    watch = Stopwatch()
    for matting, steadying in ((9, 9), (1, 0), (2, 4), (6, 0), (50, 50)):
        for name, seconds in (("matting", matting), ("steadying", steadying), ("matting", 1)):
            if seconds:
                with watch.part(name):
                    now += seconds
        watch.lap()
    assert watch.laps[1] == {"matting": 2}
    assert watch.summary(1, 1) == {"matting": (3, 4), "steadying": (0, pytest.approx(4 / 3))}


def test_what_fails_is_not_counted():
    watch = Stopwatch()
    with pytest.raises(ValueError, match="no"), watch.part("matting"):
        raise ValueError("no")
    watch.lap()
    assert watch.laps == [{}]
