import csv
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny import ROOT

import evaluation
from metrics import as_record, format_table, score_folders, score_image
from metrics.matching import match_folders
from metrics.pool import outcomes
from runtime.errors import InputError

GOLDEN_DIR = ROOT / "tests" / "goldens" / "metrics"
KINDS = ("pred", "alpha", "trimap")
NAMES = ["blob_33x47", "border_600x800", "hair_240x320", "islands_128x160", "no_unknown_64x80"]


@pytest.fixture
def folders(tmp_path):
    """The golden images without the one that has no unknown pixel: (pred, alpha, trimap) folders."""
    for kind in KINDS:
        shutil.copytree(GOLDEN_DIR / kind, tmp_path / kind)
        (tmp_path / kind / "no_unknown_64x80.png").unlink()
    return tmp_path


def command(folder, *more):
    pairs = (("--pred-dir", "pred"), ("--label-dir", "alpha"), ("--trimap-dir", "trimap"))
    return [argument for option, name in pairs for argument in (option, str(folder / name))] + [str(a) for a in more]


def goldens(file):
    return json.loads((GOLDEN_DIR / file).read_text())


def write(path, array, **options):
    Image.fromarray(array).save(path, **options)


def strict_json(path):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def refused(folder, *more):
    """Run the command, which must end in a one-line InputError, and return its text."""
    with pytest.raises(InputError) as caught:
        evaluation.main(command(folder, *more))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- complete sets


@pytest.mark.parametrize("region", ["unknown", "whole"])
def test_json_holds_the_reference_scores_and_their_mean(folders, tmp_path, region):
    file = tmp_path / "scores.json"
    assert evaluation.main(command(folders, "--region", region, "--json", file)) == 0
    record = strict_json(file)
    expected = goldens("goldens.json" if region == "unknown" else "goldens_whole.json")
    del expected["no_unknown_64x80"]
    assert list(record["images"]) == NAMES[:4]
    for name, scores in expected.items():
        assert record["images"][name] == pytest.approx(scores, rel=1e-5)
    assert (record["n"], record["expected"], record["region"]) == (4, 4, region)
    assert set(record["mean"]) == {"sad", "mse", "grad", "conn"}
    for metric, mean in record["mean"].items():
        assert mean == pytest.approx(sum(scores[metric] for scores in expected.values()) / 4, rel=1e-5)


def test_worker_processes_change_nothing(folders):
    arguments = (folders / "pred", folders / "alpha", folders / "trimap")
    one, two = (as_record(score_folders(*arguments, num_workers=n)) for n in (1, 2))
    assert one == two
    assert list(one["images"]) == list(two["images"])


def test_whole_region_needs_no_trimaps(folders):
    shutil.rmtree(folders / "trimap")
    arguments = ["--pred-dir", folders / "pred", "--label-dir", folders / "alpha"]
    assert evaluation.main([*map(str, arguments), "--region", "whole"]) == 0
    with pytest.raises(InputError, match="--trimap-dir"):
        evaluation.main([*map(str, arguments)])


def test_names_match_across_extensions_and_their_case(folders):
    for file in (folders / "pred").iterdir():
        Image.open(file).save(file.with_suffix(".BMP"))
        file.unlink()
    assert evaluation.main(command(folders)) == 0


def test_table_prints_the_units_of_papers(folders, capsys):
    evaluation.main(command(folders))
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert re.fullmatch("region: unknown, 4 of 4 images scored, fingerprint [0-9a-f]{12}", title)
    assert header.split() == ["image", "SAD", "(10^3)", "MSE", "(10^-3)", "Grad", "(10^3)", "Conn", "(10^3)"]
    assert rows[1].split() == ["border_600x800", "10.8716", "6.7769", "9.2957", "7.3439"]
    assert rows[-1].split()[0] == "mean"


def test_csv_has_one_row_per_image(folders, tmp_path):
    file = tmp_path / "scores.csv"
    evaluation.main(command(GOLDEN_DIR, "--csv", file))
    rows = list(csv.DictReader(file.open(newline="")))
    assert [row["name"] for row in rows] == NAMES
    assert list(rows[0]) == ["name", "sad", "mse", "grad", "conn", "pixels", "fingerprint"]
    assert float(rows[1]["sad"]) == pytest.approx(10.8716240, rel=1e-5)
    assert rows[-1]["mse"] == ""
    assert rows[0]["pixels"] == "443"


def test_the_prediction_is_scored_as_it_is_not_clamped_by_the_trimap(folders):
    record = as_record(score_folders(folders / "pred", folders / "alpha", folders / "trimap"))
    images = [np.array(Image.open(folders / kind / "blob_33x47.png")) for kind in KINDS]
    clamped = np.where(images[2] == 128, images[0], images[2])
    assert record["images"]["blob_33x47"]["grad"] == score_image(*images)["grad"]
    assert record["images"]["blob_33x47"]["grad"] != score_image(clamped, *images[1:])["grad"]


# ---- images without unknown pixels


def test_undefined_mse_is_null_and_so_is_its_mean_but_the_others_are_told(tmp_path, capsys):
    file = tmp_path / "scores.json"
    assert evaluation.main(command(GOLDEN_DIR, "--json", file)) == 0
    record = strict_json(file)
    assert record["images"]["no_unknown_64x80"] == {"sad": 0, "mse": None, "grad": 0, "conn": 0, "pixels": 0}
    assert record["mean"]["mse"] is None
    assert record["mean"]["sad"] == pytest.approx(sum(s["sad"] for s in goldens("goldens.json").values()) / 5, rel=1e-5)
    defined = [scores["mse"] for scores in goldens("goldens.json").values() if scores["mse"] is not None]
    assert record["mean_where_defined"]["mse"] == pytest.approx(sum(defined) / 4, rel=1e-5)
    assert record["mean_where_defined"]["n_mse"] == 4
    assert record["without_unknown"] == ["no_unknown_64x80"]
    out, err = capsys.readouterr()
    assert "undefined" in out
    assert "no_unknown_64x80" in err


# ---- incomplete and mismatched sets


def test_missing_predictions_are_named_and_refused(folders, tmp_path):
    (folders / "pred" / "hair_240x320.png").unlink()
    message = refused(folders, "--json", tmp_path / "scores.json")
    assert "1 without a prediction" in message
    assert "hair_240x320" in message
    assert "--allow-missing" in message
    assert not (tmp_path / "scores.json").exists()


def test_allow_missing_reports_n_of_the_expected(folders, tmp_path, capsys):
    (folders / "pred" / "hair_240x320.png").unlink()
    assert evaluation.main(command(folders, "--allow-missing", "--json", tmp_path / "scores.json")) == 0
    record = strict_json(tmp_path / "scores.json")
    assert (record["n"], record["expected"], record["missing"]) == (3, 4, ["hair_240x320"])
    assert record["settings"]["allow_missing"] is True
    assert record["mean"]["sad"] == pytest.approx(sum(s["sad"] for s in record["images"].values()) / 3)
    out, err = capsys.readouterr()
    assert "3 of 4" in out
    assert "hair_240x320" in err


@pytest.mark.parametrize(
    ("kind", "message"),
    [("alpha", "1 without a truth in .*alpha"), ("trimap", "1 without a trimap in .*trimap")],
)
@pytest.mark.parametrize("more", [(), ("--allow-missing",)])
def test_a_lacking_truth_or_trimap_is_refused_even_if_missing_predictions_are_allowed(folders, kind, message, more):
    (folders / kind / "blob_33x47.png").unlink()
    with pytest.raises(InputError, match=rf"{message} \(blob_33x47\)"):
        evaluation.main(command(folders, *more))


def test_a_trimap_that_belongs_to_nothing_is_refused(folders):
    shutil.copy(folders / "trimap" / "blob_33x47.png", folders / "trimap" / "other.png")
    assert "1 without a truth" in refused(folders)


def test_many_misfits_are_counted_and_the_first_named(folders):
    for number in range(30):
        shutil.copy(folders / "pred" / "blob_33x47.png", folders / "pred" / f"extra_{number:02}.png")
    message = refused(folders)
    assert "30 without a truth" in message
    assert "extra_04 and 25 more" in message
    assert "extra_05" not in message


def test_nothing_predicted_at_all_is_refused_even_if_missing_is_allowed(folders):
    for file in (folders / "pred").iterdir():
        file.unlink()
    assert "found no image" in refused(folders, "--allow-missing")
    (folders / "pred" / "notes.txt").write_text("not an image")
    assert "found no image" in refused(folders, "--allow-missing")


def test_two_files_of_one_name_are_refused(folders):
    shutil.copy(folders / "pred" / "blob_33x47.png", folders / "pred" / "blob_33x47.bmp")
    assert "share a name" in refused(folders)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_does_not_exist_is_named(folders, kind):
    shutil.rmtree(folders / kind)
    assert f"{kind}: expected a folder" in refused(folders)


# ---- files that cannot be scored: named, the others kept


def bad_size(file):
    image = Image.open(file)
    image.resize((image.width + 1, image.height)).save(file)


def truncated(file):
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


def not_an_image(file):
    file.write_text("hello")


def animated(file):
    image = Image.open(file)
    image.save(file, save_all=True, append_images=[image.point(lambda v: 255 - v)])


def deep(file):
    write(file, np.array(Image.open(file)).astype(np.uint16) * 257)


def tinted(file):
    gray = np.array(Image.open(file))
    write(file, np.stack([gray, gray, gray // 2], -1))


def translucent(file):
    gray = np.array(Image.open(file))
    write(file, np.stack([np.full_like(gray, 255)] * 3 + [gray], -1))


SPOILT = [(spoil, kind) for spoil in (bad_size, truncated, not_an_image, animated) for kind in KINDS]
SPOILT += [(spoil, kind) for spoil in (tinted, translucent) for kind in ("pred", "trimap")] + [(deep, "trimap")]


@pytest.mark.parametrize(("spoil", "kind"), SPOILT)
def test_an_unsuitable_file_is_named_and_the_others_are_scored(folders, tmp_path, spoil, kind, capsys):
    file = folders / kind / "islands_128x160.png"
    spoil(file)
    message = refused(folders, "--json", tmp_path / "scores.json")
    assert "1 of 4" in message
    assert str(file) in message
    record = strict_json(tmp_path / "scores.json")
    assert list(record["images"]) == ["blob_33x47", "border_600x800", "hair_240x320"]
    assert record["images"]["hair_240x320"] == pytest.approx(goldens("goldens.json")["hair_240x320"], rel=1e-5)
    assert (record["n"], record["expected"]) == (3, 4)
    assert list(record["failed"]) == ["islands_128x160"]
    assert set(record["mean"].values()) == {None}
    assert "no mean" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_gray_saved_as_rgb_scores_the_same(folders, kind):
    for file in (folders / kind).iterdir():
        Image.open(file).convert("RGB").save(file)
    record = as_record(score_folders(folders / "pred", folders / "alpha", folders / "trimap"))
    for name in NAMES[:4]:
        assert record["images"][name] == pytest.approx(goldens("goldens.json")[name], rel=1e-5)


def test_a_multi_channel_truth_is_read_by_its_first_channel(folders):
    for file in (folders / "alpha").iterdir():
        tinted(file)
    record = as_record(score_folders(folders / "pred", folders / "alpha", folders / "trimap"))
    assert record["images"]["hair_240x320"] == pytest.approx(goldens("goldens.json")["hair_240x320"], rel=1e-5)


def test_trimaps_of_other_values_are_refused_until_they_are_to_be_snapped(folders, tmp_path):
    for name in ("hair_240x320", "islands_128x160"):
        trimap = np.array(Image.open(folders / "trimap" / f"{name}.png"))
        trimap[trimap == 128] = 127
        write(folders / "trimap" / f"{name}.png", trimap)
    message = refused(folders)
    assert "2 of 4" in message
    assert "found 127" in message
    assert "--quantise-trimaps" in message
    assert evaluation.main(command(folders, "--quantise-trimaps", "--json", tmp_path / "scores.json")) == 0
    record = strict_json(tmp_path / "scores.json")
    assert record["settings"]["quantise_trimaps"] is True
    assert record["images"]["hair_240x320"] == pytest.approx(goldens("goldens.json")["hair_240x320"], rel=1e-5)


def test_many_failures_make_one_line(folders):
    for number in range(30):
        for kind in KINDS:
            shutil.copy(folders / kind / "blob_33x47.png", folders / kind / f"copy_{number:02}.png")
        truncated(folders / "pred" / f"copy_{number:02}.png")
    message = refused(folders, "--num-workers", "2")
    assert "30 of 34" in message
    assert "copy_04.png" in message
    assert "and 25 more" in message


# ---- the command itself


def test_names_that_are_not_text_do_not_break_the_reports(folders, tmp_path):
    strange = os.fsdecode(b"caf\xe9\n")
    try:
        for kind in KINDS:
            (folders / kind / "blob_33x47.png").rename(folders / kind / f"{strange}.png")
    except OSError:
        pytest.skip("this file system takes no such names")
    result = score_folders(folders / "pred", folders / "alpha", folders / "trimap")
    assert format_table(result).encode()
    more = ("--json", tmp_path / "scores.json", "--csv", tmp_path / "scores.csv")
    assert evaluation.main(command(folders, *more)) == 0
    assert strange in strict_json(tmp_path / "scores.json")["images"]


def test_report_paths_that_are_folders_are_refused_before_any_work(folders):
    assert "found a folder" in refused(folders, "--json", folders)


def test_a_report_replaces_the_old_one_whole(folders, tmp_path):
    file = tmp_path / "deep" / "scores.json"
    file.parent.mkdir()
    file.write_text("old")
    evaluation.main(command(folders, "--json", file))
    assert strict_json(file)["n"] == 4
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("workers", ["-1", "-3"])
def test_a_number_of_workers_that_means_nothing_is_refused(folders, workers):
    assert "number of workers" in refused(folders, "--num-workers", workers)


def test_a_mistake_ends_the_script_with_status_2_and_one_line(folders):
    (folders / "pred" / "hair_240x320.png").unlink()
    done = subprocess.run(
        [sys.executable, ROOT / "evaluation.py", *command(folders)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")


def wait_for_a_child(process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 30
    while not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("delay", [0, 4], ids=["while workers start", "while they score"])
def test_interrupting_ends_the_workers_without_tracebacks(folders, tmp_path, delay):
    for number in range(1500):
        for kind in KINDS:
            os.link(folders / kind / "border_600x800.png", folders / kind / f"copy_{number:03}.png")
    code = (
        "import sys, evaluation; from runtime.command_line import run; print('imported', flush=True); "
        "run(lambda: evaluation.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command(folders, "--num-workers", "2", "--json", tmp_path / "a.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout.readline() == "imported\n"
    wait_for_a_child(process)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    record = strict_json(tmp_path / "a.json")  # what was done is kept, what was not is named
    assert record["n"] + len(record["failed"]) == record["expected"] == 1504
    assert record["failed"]
    assert set(record["failed"].values()) == {"not scored: interrupted"}
    assert set(record["mean"].values()) == {None}


def die(case):
    os._exit(1)


def test_a_killed_worker_is_told_and_ends_the_run(folders):
    cases = {case.name: case for case in match_folders(folders / "pred", folders / "alpha", None).cases}
    reasons = dict(outcomes(cases, die, num_workers=2))
    assert set(reasons) == set(NAMES[:4])
    assert all("worker process was killed" in reason for reason in reasons.values())


def test_an_evaluation_with_failures_has_no_mean(folders):
    truncated(folders / "pred" / "blob_33x47.png")
    result = score_folders(folders / "pred", folders / "alpha", folders / "trimap")
    assert all(math.isnan(value) for value in result.mean().values())
    assert len(result.scores) == 3


# ---- sub-folders, shared truths


def nest(folder, subfolder):
    (folder / subfolder).mkdir(parents=True)
    for path in list(folder.glob("*.png")):
        path.rename(folder / subfolder / path.name)


def test_subfolders_are_scored_under_their_path(folders):
    for kind in KINDS:
        nest(folders / kind, "clip 1/left")
    names = [f"clip 1/left/{name}" for name in NAMES[:4]]
    result = score_folders(folders / "pred", folders / "alpha", folders / "trimap")
    assert list(result.scores) == names
    assert result.scores[names[0]] == pytest.approx(goldens("goldens.json")[NAMES[0]], rel=1e-5)


def test_a_file_in_another_subfolder_is_not_taken_for_its_namesake(folders):
    for kind in KINDS:
        nest(folders / kind, "a")
    shutil.copytree(folders / "alpha" / "a", folders / "alpha" / "b")
    shutil.copytree(folders / "trimap" / "a", folders / "trimap" / "b")
    assert "4 without a prediction" in refused(folders)
    assert "b/blob_33x47" in refused(folders)


def test_predictions_saved_flat_are_matched_by_bare_name(folders):
    nest(folders / "alpha", "person")
    nest(folders / "trimap", "person")
    nested = fingerprint(folders)
    assert list(score_folders(folders / "pred", folders / "alpha", folders / "trimap").scores) == [
        f"person/{name}" for name in NAMES[:4]
    ]
    nest(folders / "pred", "person")
    assert fingerprint(folders) == nested  # how predictions are saved is no matter of the set


def test_bare_names_that_occur_twice_are_not_guessed_at(folders):
    for kind in ("alpha", "trimap"):
        nest(folders / kind, "a")
        shutil.copytree(folders / kind / "a", folders / kind / "b")
    assert "8 without a prediction" in refused(folders)


def test_extensions_need_not_agree(folders):
    image = Image.open(folders / "alpha" / "hair_240x320.png")
    image.save(folders / "alpha" / "hair_240x320.TIFF", format="TIFF")
    (folders / "alpha" / "hair_240x320.png").unlink()
    result = score_folders(folders / "pred", folders / "alpha", folders / "trimap")
    assert result.scores["hair_240x320"] == pytest.approx(goldens("goldens.json")["hair_240x320"], rel=1e-5)


def test_one_name_with_two_extensions_is_refused(folders):
    shutil.copy(folders / "pred" / "hair_240x320.png", folders / "pred" / "hair_240x320.bmp")
    assert "share a name" in refused(folders)


@pytest.fixture
def shared(folders):
    """Two foregrounds over three backgrounds each, with two truths: Composition-1k before its mattes are copied."""
    for kind in KINDS:
        for name in NAMES[:4]:
            path = folders / kind / f"{name}.png"
            if kind != "alpha" and name in NAMES[1:3]:
                for k in range(3):
                    shutil.copy(path, folders / kind / f"{name}_{k}.png")
            if kind != "alpha" or name not in NAMES[1:3]:
                path.unlink()
    return folders


def test_truths_that_were_not_copied_serve_all_their_composites(shared, capsys):
    assert evaluation.main(command(shared)) == 0
    assert "image NAME_k is scored against truth NAME" in capsys.readouterr().out
    result = score_folders(shared / "pred", shared / "alpha", shared / "trimap")
    assert list(result.scores) == [f"{name}_{k}" for name in NAMES[1:3] for k in range(3)]
    assert result.scores["hair_240x320_2"] == pytest.approx(goldens("goldens.json")["hair_240x320"], rel=1e-5)
    assert result.expected == 6


def test_a_missing_composite_of_a_shared_truth_is_named(shared):
    (shared / "pred" / "hair_240x320_1.png").unlink()
    assert "1 without a prediction" in refused(shared)
    assert "hair_240x320_1" in refused(shared)
    result = score_folders(shared / "pred", shared / "alpha", shared / "trimap", allow_missing=True)
    assert (len(result.scores), result.expected, result.missing) == (5, 6, ["hair_240x320_1"])


def test_a_shared_truth_without_any_composite_is_named(shared):
    shutil.copy(shared / "alpha" / "hair_240x320.png", shared / "alpha" / "lone.png")
    assert "lone" in refused(shared)


def test_whole_images_against_shared_truths_need_the_names_of_the_trimaps(shared):
    with pytest.raises(InputError, match="give --trimap-dir"):
        score_folders(shared / "pred", shared / "alpha", region="whole")
    result = score_folders(shared / "pred", shared / "alpha", shared / "trimap", region="whole")
    assert result.scores["hair_240x320_0"] == pytest.approx(goldens("goldens_whole.json")["hair_240x320"], rel=1e-5)
    assert all(item.trimap is None for item in result.items.values())


def test_a_numbered_set_with_truths_of_its_own_uses_them(folders):
    for kind in KINDS:
        shutil.copy(folders / kind / "border_600x800.png", folders / kind / "hair_240x320_1.png")
    result = score_folders(folders / "pred", folders / "alpha", folders / "trimap")
    assert result.scores["hair_240x320_1"]["sad"] == result.scores["border_600x800"]["sad"]
    assert not result.shared_truths


# ---- the fingerprint of the set


def fingerprint(folders, **options):
    return score_folders(folders / "pred", folders / "alpha", folders / "trimap", **options).fingerprint


def test_the_fingerprint_is_the_hash_that_the_docs_describe(folders):
    lines = []
    for name in NAMES[:4]:
        alpha, trimap = (np.array(Image.open(folders / kind / f"{name}.png")) for kind in ("alpha", "trimap"))
        digests = [hashlib.sha256(array.tobytes()).hexdigest() for array in (alpha, trimap)]
        lines.append(json.dumps([name, *alpha.shape, *digests]))
    assert fingerprint(folders) == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_the_fingerprint_stays_with_other_predictions_files_and_workers(folders):
    before = fingerprint(folders)
    write(folders / "pred" / "hair_240x320.png", np.zeros((240, 320), np.uint8))
    Image.open(folders / "alpha" / "hair_240x320.png").save(folders / "alpha" / "hair_240x320.png", compress_level=0)
    assert fingerprint(folders, num_workers=2, metrics=["sad"]) == before


@pytest.mark.parametrize("change", ["truth", "trimap", "name", "one fewer"])
def test_the_fingerprint_changes_with_the_set(folders, change):
    before = fingerprint(folders)
    if change in ("truth", "trimap"):
        path = folders / {"truth": "alpha"}.get(change, change) / "hair_240x320.png"
        pixels = np.array(Image.open(path))
        pixels[0, 0] = 255 - pixels[0, 0] if pixels[0, 0] != 128 else 0
        write(path, pixels)
    for kind in KINDS:
        path = folders / kind / "hair_240x320.png"
        if change == "name":
            path.rename(path.with_name("fur.png"))
        elif change == "one fewer":
            path.unlink()
    assert fingerprint(folders) != before


def test_every_report_carries_the_fingerprint(folders, tmp_path, capsys):
    evaluation.main(command(folders, "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv"))
    digits = fingerprint(folders)
    record = strict_json(tmp_path / "a.json")
    assert record["fingerprint"] == digits
    assert record["set"]["blob_33x47"]["height"] == 33
    assert {row["fingerprint"] for row in csv.DictReader((tmp_path / "a.csv").open(newline=""))} == {digits}
    assert digits[:12] in capsys.readouterr().out


# ---- choosing metrics


def test_only_the_metrics_asked_for_are_computed(folders, tmp_path):
    file = tmp_path / "scores.json"
    evaluation.main(command(folders, "--metrics", "mse,sad", "--json", file))
    record = strict_json(file)
    assert list(record["mean"]) == ["mse", "sad"]
    assert list(record["images"]["blob_33x47"]) == ["mse", "sad", "pixels"]


def test_an_unknown_metric_is_named(folders):
    assert "'sadd'" in refused(folders, "--metrics", "sad,sadd")


# ---- what must not be lost, hung or taken for something else


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["pred", "alpha", "trimap"])
def test_16_bits_in_several_channels_are_refused_not_truncated(folders, kind, suffix):
    (folders / kind / "blob_33x47.png").unlink()
    pixels = np.full((33, 47, 3), 40_000, np.uint16)
    assert cv2.imwrite(str(folders / kind / f"blob_33x47{suffix}"), pixels)
    assert "16 bits" in refused(folders)


def test_a_broken_link_is_not_a_missing_file(folders):
    (folders / "pred" / "blob_33x47.png").unlink()
    (folders / "pred" / "blob_33x47.png").symlink_to("nowhere.png")
    assert "blob_33x47.png: expected an image file, found a broken link" in refused(folders, "--allow-missing")


def test_outputs_that_cannot_be_written_are_told_before_the_work(folders, tmp_path):
    assert "cannot write" in refused(folders, "--json", "/proc/nowhere/a.json")
    assert "another output" in refused(folders, "--json", tmp_path / "a", "--csv", tmp_path / "b" / ".." / "a")
    prediction = folders / "pred" / "blob_33x47.png"
    before = prediction.read_bytes()
    assert "over an input or an image" in refused(folders, "--json", prediction)
    assert prediction.read_bytes() == before
    assert "give --html" in refused(folders, "--image-dir", folders / "alpha")
    assert "expected a folder of photographs" in refused(
        folders, "--html", tmp_path / "a.html", "--image-dir", tmp_path_of_nothing(tmp_path)
    )


def tmp_path_of_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_a_report_that_fails_does_not_take_the_others_with_it(folders, tmp_path, monkeypatch):
    def fail(path, evaluation):
        raise InputError(f"{path}: cannot write: No space left on device")

    monkeypatch.setattr(evaluation, "write_json", fail)
    assert "No space left" in refused(folders, "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 5


def test_a_reader_that_leaves_early_costs_no_report(folders, tmp_path):
    arguments = command(folders, "--json", tmp_path / "a.json")
    process = subprocess.Popen(
        [sys.executable, "evaluation.py", *arguments],
        cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()  # as "| head -0" does
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 141
    assert strict_json(tmp_path / "a.json")["n"] == 4


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_under_stdout_is_told_and_costs_no_report(folders, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "evaluation.py", *command(folders, "--json", tmp_path / "a.json")],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert strict_json(tmp_path / "a.json")["n"] == 4


def many_images(folders):
    for number in range(1500):
        for kind in KINDS:
            os.link(folders / kind / "border_600x800.png", folders / kind / f"copy_{number:03}.png")


def start_with_workers(folders, json_file):
    code = (
        "import sys, evaluation; from runtime.command_line import run; print('imported', flush=True); "
        "run(lambda: evaluation.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command(folders, "--num-workers", "2", "--json", json_file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "imported\n"
    return process


@pytest.mark.slow
def test_a_second_interrupt_does_not_hang(folders, tmp_path):
    many_images(folders)
    process = start_with_workers(folders, tmp_path / "a.json")
    time.sleep(4)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    process.communicate(timeout=30)
    assert process.returncode == 130


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(folders, tmp_path, sent):
    many_images(folders)
    process = start_with_workers(folders, tmp_path / "a.json")
    wait_until(lambda: len(session_members(process.pid)) > 3)  # itself, the fork server, two workers at the least
    os.kill(process.pid, sent)
    process.wait()
    wait_until(lambda: not session_members(process.pid))


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def session_members(session):
    """Processes of a session that are not zombies."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, member_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(member_session) == session and state != "Z":
            members.append(int(stat.parent.name))
    return members


def test_a_truth_in_the_alpha_channel_scores_as_one_in_gray_and_is_reported(folders, capsys):
    rng = np.random.default_rng(0)
    for file in (folders / "alpha").iterdir():
        gray = np.array(Image.open(file))
        write(file, np.dstack([rng.integers(0, 256, (*gray.shape, 3), np.uint8), gray]))
    assert evaluation.main(command(folders, "--json", folders / "scores.json")) == 0
    record = strict_json(folders / "scores.json")
    for name in NAMES[:4]:
        assert record["images"][name] == pytest.approx(goldens("goldens.json")[name], rel=1e-5)
    assert "warning: 4 truths: read from the alpha channel (the first is" in capsys.readouterr().err


def test_a_truth_in_colours_is_reported(folders, capsys):
    tinted(folders / "alpha" / "hair_240x320.png")
    assert evaluation.main(command(folders)) == 0
    assert "warning: 1 truth: read by the first of channels that differ (" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pred", "alpha"])
def test_mattes_of_0_and_1_are_refused(folders, kind):
    file = folders / kind / "hair_240x320.png"
    write(file, (np.array(Image.open(file)) > 127).astype(np.uint8))
    message = refused(folders)
    assert "1 of 4" in message
    assert "found only 0 and 1; multiply it by 255" in message


def test_a_prediction_of_0_and_1_of_a_nearly_empty_picture_is_scored_with_a_warning(folders, capsys):
    for truth in (0, 255):  # where the picture is empty, and where the prediction misses what little there is
        pred_alpha, alpha = np.zeros((2, 240, 320), np.uint8)
        pred_alpha[:3, :4], alpha[200, :5] = 1, truth
        write(folders / "pred" / "hair_240x320.png", pred_alpha)
        write(folders / "alpha" / "hair_240x320.png", alpha)
        assert evaluation.main(command(folders, "--region", "whole", "--json", folders / "scores.json")) == 0
        expected = (12 + 5 * truth) / 255 / 1000
        assert strict_json(folders / "scores.json")["images"]["hair_240x320"]["sad"] == pytest.approx(expected)
        assert "warning: 1 prediction: no value is above 1 of 255; scored as nearly transparent (" in (
            capsys.readouterr().err
        )


@pytest.mark.parametrize("bits", [8, 16])
def test_a_truth_of_0_and_1_of_a_nearly_empty_picture_is_scored_with_a_warning(folders, capsys, bits):
    scale = 1 if bits == 8 else 257
    pred_alpha, alpha = np.zeros((2, 240, 320), np.uint8 if bits == 8 else np.uint16)
    pred_alpha[100, :7], alpha[:3, :4] = 2 * scale, 1
    write(folders / "pred" / "hair_240x320.png", pred_alpha)
    write(folders / "alpha" / "hair_240x320.png", alpha)
    assert evaluation.main(command(folders, "--region", "whole", "--json", folders / "scores.json")) == 0
    expected = (12 / scale + 7 * 2) / 255 / 1000
    assert strict_json(folders / "scores.json")["images"]["hair_240x320"]["sad"] == pytest.approx(expected)
    assert f"warning: 1 truth: no value is above 1 of {255 * scale}; scored as nearly transparent (" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", ["pred", "alpha"])
def test_values_of_0_and_1_are_refused_where_no_other_file_shows_the_scale(folders, kind):
    """Nothing was predicted, which on the scale of 255 would be nearly right for truths of 0 and 1."""
    other = "alpha" if kind == "pred" else "pred"
    for file in (folders / kind).iterdir():
        values = np.array(Image.open(file))
        write(file, (values > 127).astype(np.uint8))
        write(folders / other / file.name, np.zeros_like(values))
    message = refused(folders)
    assert "4 of 4" in message
    beside = ", and no picture beside it with values above 127" if kind == "pred" else ""
    assert f"found only 0 and 1{beside}; multiply it by 255" in message


def test_a_truth_of_labels_beside_others_is_refused_where_nothing_was_predicted(folders):
    file = min((folders / "alpha").iterdir())
    values = np.array(Image.open(file))
    write(file, (values > 127).astype(np.uint8))
    write(folders / "pred" / file.name, np.zeros_like(values))
    message = refused(folders)
    assert "1 of 4" in message
    assert "found only 0 and 1; multiply it by 255" in message


def test_predictions_of_16_bits_have_the_scores_of_equal_values_of_8(folders):
    for file in (folders / "pred").iterdir():
        write(file, np.array(Image.open(file)) * np.uint16(257))
    assert evaluation.main(command(folders, "--json", folders / "scores.json", "--html", folders / "page.html")) == 0
    for name, scores in strict_json(folders / "scores.json")["images"].items():
        assert scores == pytest.approx(goldens("goldens.json")[name], rel=1e-5, abs=1e-9), name


def test_values_of_8_bits_in_16_are_refused(folders):
    file = folders / "pred" / "hair_240x320.png"
    write(file, np.array(Image.open(file)).astype(np.uint16))
    message = refused(folders)
    assert "expected a prediction of 0..65535 in 16 bits, found values up to 255, as of 8 bits" in message
    assert "multiply it by 257" in message


def test_a_trimap_of_16_bits_is_refused(folders):
    file = folders / "trimap" / "hair_240x320.png"
    write(file, np.array(Image.open(file)).astype(np.uint16))
    assert "expected a trimap of 0, 128 and 255 in 8 bits, found 16 bits; save it with 8 bits" in refused(folders)


def test_trimaps_of_labels_are_read_with_the_option_and_reported(folders, capsys):
    for file in (folders / "trimap").iterdir():
        write(file, (np.array(Image.open(file)) // 127).astype(np.uint8))
    assert "found 1, 2; correct it" in refused(folders)
    assert evaluation.main(command(folders, "--quantise-trimaps", "--json", folders / "scores.json")) == 0
    record = strict_json(folders / "scores.json")
    assert record["images"]["hair_240x320"] == pytest.approx(goldens("goldens.json")["hair_240x320"], rel=1e-5)
    assert "trimaps: values 0, 1, 2 read as background, unknown, foreground" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "role"), [("pred", "prediction"), ("trimap", "trimap")])
def test_a_file_with_another_orientation_than_its_truth_is_read_upright_and_reported(folders, kind, role, capsys):
    file = folders / kind / "hair_240x320.png"
    exif = Image.Exif()
    exif[0x0112] = 3  # a half turn
    Image.open(file).transpose(Image.Transpose.ROTATE_180).save(file, exif=exif)
    assert evaluation.main(command(folders, "--json", folders / "scores.json")) == 0
    record = strict_json(folders / "scores.json")
    assert record["images"]["hair_240x320"] == pytest.approx(goldens("goldens.json")["hair_240x320"], rel=1e-5)
    assert f"warning: 1 {role}: EXIF orientation other than that of the file it belongs to" in capsys.readouterr().err


@pytest.mark.parametrize(("strays", "listed"), [((1, 2, 3, 4), "1, 2, 3, 4;"), ((1, 2, 3, 4, 5), "1, 2, 3, 4, ...;")])
def test_four_values_that_are_no_trimap_are_listed(folders, strays, listed):
    file = folders / "trimap" / "hair_240x320.png"
    trimap = np.array(Image.open(file))
    trimap[0, : len(strays)] = strays
    write(file, trimap)
    assert f"found {listed} correct it" in refused(folders)


def test_what_the_folders_hold_besides_images_is_named(folders, capsys):
    (folders / "alpha" / "x.psd").touch()
    assert evaluation.main(command(folders)) == 0
    assert f"warning: {folders / 'alpha'}: ignored 1 .psd (x.psd)" in capsys.readouterr().err
