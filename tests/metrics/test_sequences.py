"""Clips: which frames follow each other, and that a clip's score does not depend on how the work is shared."""

import json
import math
import re

import numpy as np
import pytest
from PIL import Image

import evaluation
from metrics import score_folders
from metrics.matching import Case
from metrics.sequences import PAIRS_PER_TASK, score_clips
from runtime.errors import InputError

KINDS = ("pred", "alpha", "trimap")


def write_clip(root, clip, pred_levels, name="{}", size=(6, 5), folder_kinds=KINDS):
    """Write a clip of flat frames: the truth 100 everywhere, the predictions at the given levels, all unknown."""
    for kind in folder_kinds:
        (root / kind / clip).mkdir(parents=True, exist_ok=True)
        for number, level in enumerate(pred_levels):
            value = {"pred": level, "alpha": 100, "trimap": 128}[kind]
            Image.fromarray(np.full(size, value, np.uint8)).save(root / kind / clip / f"{name.format(number)}.png")


def command(root):
    folders = [argument for kind, option in zip(KINDS, ("pred", "label", "trimap"), strict=True)
               for argument in (f"--{option}-dir", str(root / kind))]  # fmt: skip
    return [*folders, "--sequences", "--json", str(root / "scores.json")]


def score(root, **options):
    return score_folders(*(root / kind for kind in KINDS), sequences=True, **options)


def test_a_folder_is_a_clip_and_flicker_is_scored_by_hand(tmp_path):
    write_clip(tmp_path, "steady", [110] * 4)
    write_clip(tmp_path, "flicker", [100, 151, 100])  # +-51 / 255 = 0.2 from frame to frame
    result = score(tmp_path)
    assert result.sequences["steady"] == {"dtssd": 0, "messddt": 0, "pairs": 3, "undefined_pairs": 0}
    assert result.sequences["flicker"]["dtssd"] == pytest.approx(20)
    assert result.sequences["flicker"]["messddt"] == pytest.approx(0.04)
    assert result.sequence_mean() == pytest.approx({"dtssd": 10, "messddt": 0.02})


def test_frames_follow_each_other_in_natural_order(tmp_path):
    write_clip(tmp_path, "clip", [100] * 9 + [151] * 3)  # frames 0..11: one step, between 8 and 9, if 10 follows 9
    assert score(tmp_path).sequences["clip"]["dtssd"] == pytest.approx(20 / 11)


def test_no_pair_spans_a_frame_without_prediction(tmp_path):
    write_clip(tmp_path, "clip", [100, 100, 100, 151, 151])
    (tmp_path / "pred" / "clip" / "2.png").unlink()
    with pytest.raises(InputError, match="clip/2"):
        score(tmp_path)
    clip = score(tmp_path, allow_missing=True).sequences["clip"]
    assert clip == {"dtssd": 0, "messddt": 0, "pairs": 2, "undefined_pairs": 0}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_long_clip_scores_the_same_in_parts(tmp_path, num_workers):
    levels = np.random.default_rng(0).integers(90, 130, 2 * PAIRS_PER_TASK + 5)
    write_clip(tmp_path, "clip", levels)
    clip = score(tmp_path, num_workers=num_workers).sequences["clip"]
    assert clip["pairs"] == len(levels) - 1
    assert clip["dtssd"] == pytest.approx(100 * np.abs(np.diff(levels)).mean() / 255)


def test_frames_of_two_sizes_are_named_and_leave_no_mean(tmp_path):
    write_clip(tmp_path, "clip", [100, 100])
    write_clip(tmp_path, "clip", [100], name="2", size=(7, 5))
    result = score(tmp_path)
    assert "frame 2" in result.failed_clips["clip"]
    assert "(7, 5)" in result.failed_clips["clip"]
    assert math.isnan(result.sequence_mean()["dtssd"])
    assert result.mean()["sad"] == 0  # the images have their scores


def test_clips_are_listed_in_natural_order(tmp_path):
    for clip in ("clip10", "clip9"):
        write_clip(tmp_path, clip, [100, 100])
    assert list(score(tmp_path).sequences) == ["clip9", "clip10"]


def test_a_frame_that_is_gone_when_clips_are_scored_is_not_said_to_have_another_size(tmp_path):
    write_clip(tmp_path, "clip", [100, 100])
    cases = {f"clip/{k}": Case(f"clip/{k}", *(tmp_path / kind / "clip" / f"{k}.png" for kind in KINDS)) for k in (0, 1)}
    cases["clip/1"].pred_file.unlink()
    clips, failed = score_clips(cases, list(cases), quantise_trimaps=False, num_workers=1)
    assert clips == {}
    assert str(cases["clip/1"].pred_file) in failed["clip"]
    assert "of one size" not in failed["clip"]


def test_a_bad_frame_is_named_and_the_other_scores_are_kept(tmp_path, capsys):
    write_clip(tmp_path, "clip", [100, 100])
    bad = tmp_path / "pred" / "clip" / "1.png"
    bad.write_bytes(bad.read_bytes()[:50])
    with pytest.raises(InputError, match=re.escape(str(bad))):
        evaluation.main(command(tmp_path))
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["n"] == 1
    assert record["sequences"]["clips"]["clip"]["pairs"] == 0


def test_flat_predictions_keep_the_clips_of_the_truths(tmp_path):
    write_clip(tmp_path, "a", [100, 100], name="a{}")
    write_clip(tmp_path, "b", [151, 151], name="b{}")
    for frame in list((tmp_path / "pred").rglob("*.png")):
        frame.rename(tmp_path / "pred" / frame.name)
    result = score(tmp_path)
    assert list(result.sequences) == ["a", "b"]
    assert [clip["pairs"] for clip in result.sequences.values()] == [1, 1]


def test_a_set_without_sequences_is_refused(tmp_path):
    write_clip(tmp_path, "a", [100])
    write_clip(tmp_path, "b", [100])
    with pytest.raises(InputError, match="no two frames"):
        score(tmp_path)


def test_the_command_prints_and_saves_the_clips(tmp_path, capsys):
    write_clip(tmp_path, "flicker", [100, 151, 100])
    assert evaluation.main(command(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert re.search(r"clip +dtSSD \(10\^-2\) +MESSDdt \(10\^-3\)", printed)
    assert re.search(r"flicker +20.0000 +40.0000", printed)
    record = json.loads((tmp_path / "scores.json").read_text())["sequences"]
    assert record["clips"]["flicker"]["pairs"] == 2
    assert record["mean"]["dtssd"] == pytest.approx(20)
