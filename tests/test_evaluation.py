import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluation
from data.errors import InputError
from metrics import as_record, format_table, score_folders, score_image
from metrics.dataset import _outcomes
from metrics.matching import match_folders

ROOT = Path(__file__).parents[1]
GOLDEN_DIR = ROOT / "tests" / "data" / "metrics"
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
    assert title == "region: unknown, 4 of 4 images scored"
    assert header.split() == ["image", "SAD", "(10^3)", "MSE", "(10^-3)", "Grad", "(10^3)", "Conn", "(10^3)"]
    assert rows[1].split() == ["border_600x800", "10.8716", "6.7769", "9.2957", "7.3439"]
    assert rows[-1].split()[0] == "mean"


def test_csv_has_one_row_per_image(folders, tmp_path):
    file = tmp_path / "scores.csv"
    evaluation.main(command(GOLDEN_DIR, "--csv", file))
    rows = list(csv.DictReader(file.open(newline="")))
    assert [row["name"] for row in rows] == NAMES
    assert list(rows[0]) == ["name", "sad", "mse", "grad", "conn", "pixels"]
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


SPOILT = [(spoil, kind) for spoil in (bad_size, truncated, not_an_image, animated, deep) for kind in KINDS]
SPOILT += [(spoil, kind) for spoil in (tinted, translucent) for kind in ("pred", "trimap")]


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


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT to a process group")
@pytest.mark.parametrize("delay", [0.5, 4], ids=["while workers start", "while they score"])
def test_interrupting_ends_the_workers_without_tracebacks(folders, tmp_path, delay):
    for number in range(1500):
        for kind in KINDS:
            os.link(folders / kind / "border_600x800.png", folders / kind / f"copy_{number:03}.png")
    code = (
        "import sys, evaluation; from engine.cli import run; print('imported', flush=True); "
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
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not (tmp_path / "a.json").exists()


def die(case):
    os._exit(1)


def test_a_killed_worker_is_told_and_ends_the_run(folders):
    cases = match_folders(folders / "pred", folders / "alpha", None).cases
    outcomes = dict(_outcomes(cases, die, num_workers=2))
    assert set(outcomes) == set(NAMES[:4])
    assert all("worker process was killed" in outcome for outcome in outcomes.values())


def test_an_evaluation_with_failures_has_no_mean(folders):
    truncated(folders / "pred" / "blob_33x47.png")
    result = score_folders(folders / "pred", folders / "alpha", folders / "trimap")
    assert all(math.isnan(value) for value in result.mean().values())
    assert len(result.scores) == 3
