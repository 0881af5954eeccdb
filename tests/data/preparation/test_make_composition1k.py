"""The Composition-1k builder: pixels worked out by hand, lists, resuming, the manifest."""

import hashlib
import json
import os
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from data.preparation.composition1k_builder import MANIFEST, Built, build_composition1k, plan_composites
from data.preparation.manifest import read_manifest, verify
from data.preparation.published_composite import cover, published_composite, read_as_stored
from data.testing.composition1k import Composition1k
from runtime.errors import InputError
from tools.make_composition1k import main

FOREGROUNDS, EACH = ("zebra.png", "ant.png"), 3  # the list's order is not the alphabet's


def solid(size, colour):
    return np.broadcast_to(np.uint8(colour), (*size, 3)).copy()


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def sources(tmp_path):
    """Two foregrounds of 6 x 4 pixels, six backgrounds that hold them, lists with the line ends of Windows."""
    rng = np.random.default_rng(0)
    test_set, voc = tmp_path / "Test_set", tmp_path / "voc"
    images = test_set / "Adobe-licensed images"
    for name in FOREGROUNDS:
        save(images / "fg" / name, rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
        save(images / "alpha" / name, rng.integers(0, 256, (4, 6), dtype=np.uint8))
        for k in range(EACH):
            trimap = rng.choice(np.uint8([0, 128, 255]), (4, 6))
            save(images / "trimaps" / name.replace(".png", f"_{k}.png"), trimap)
    backgrounds = [f"2008_{number:06}.png" for number in range(EACH * len(FOREGROUNDS))]
    for name in backgrounds:
        save(voc / name, rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    (test_set / "test_fg_names.txt").write_bytes("\r\n".join(FOREGROUNDS).encode())
    (test_set / "test_bg_names.txt").write_bytes("\r\n".join([*backgrounds, ""]).encode())
    return test_set, voc


def build(sources, output, **options):
    test_set, voc = sources
    return build_composition1k(plan_composites(test_set, [voc], EACH), output, progress=False, **options)


def message(action):
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- pixels


@pytest.mark.parametrize(
    ("alpha", "foreground", "background", "expected"),
    [
        (0, 200, 100, 100),
        (255, 200, 100, 200),
        (51, 255, 0, 51),  # a fifth of 255
        (51, 100, 99, 99),  # 99.2
        (102, 100, 99, 99),  # 99.4
        (204, 100, 99, 99),  # 99.8: dropped, not rounded
        (128, 255, 0, 128),
        (127, 0, 255, 128),
        (85, 30, 60, 50),  # exactly 10 + 40
        (5, 3, 3, 2),  # 3 in exact arithmetic; the doubles add up to just below it, and the fraction is dropped
    ],
)
def test_a_pixel_by_hand(alpha, foreground, background, expected):
    composed = published_composite(
        solid((1, 1), (foreground, 0, background)), solid((1, 1), (background, 0, foreground)), np.uint8([[alpha]])
    )
    assert composed[0, 0, 0] == expected


def rounded_to_double(exact):
    return Fraction(float(exact))  # Python rounds a fraction to the nearest double


def test_all_alphas_agree_with_exact_arithmetic_rounded_at_each_step():
    """Doubles are followed in rational numbers, each operation rounded once, as IEEE 754 asks."""
    colours = np.random.default_rng(1).integers(0, 256, (256, 4, 2), dtype=np.uint8)
    colours[:, 3, 1] = colours[:, 3, 0]  # equal colours, where a level may be lost
    alpha = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
    foreground, background = (np.repeat(colours[..., k, None], 3, axis=2) for k in (0, 1))
    composed = published_composite(foreground, background, alpha)
    lost = 0
    for a in range(256):
        weight = rounded_to_double(Fraction(a, 255))
        rest = rounded_to_double(1 - weight)
        for column in range(4):
            fg, bg = (int(c) for c in colours[a, column])
            total = rounded_to_double(rounded_to_double(weight * fg) + rounded_to_double(rest * bg))
            assert (composed[a, column] == int(total)).all()
            lost += int(total) < (a * fg + (255 - a) * bg) // 255
    assert lost > 0  # so the precision matters, and is tested


def test_rows_in_parts_join_seamlessly():
    rng = np.random.default_rng(2)
    foreground, background = rng.integers(0, 256, (2, 700, 5, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (700, 5), dtype=np.uint8)
    whole = published_composite(foreground, background, alpha)
    rows = [published_composite(foreground[i : i + 1], background[i : i + 1], alpha[i : i + 1]) for i in range(700)]
    np.testing.assert_array_equal(whole, np.concatenate(rows))


def test_a_larger_background_is_cut_at_the_upper_left_and_never_shrunk():
    background = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
    np.testing.assert_array_equal(cover(background, (2, 3)), background[:2, :3])
    np.testing.assert_array_equal(cover(background, (5, 8)), background)


def test_a_smaller_background_grows_by_the_larger_ratio_to_whole_pixels():
    """4 x 3 under 6 x 6: ratios 1.5 and 2, so 8 x 6; its left 6 columns are taken."""
    background = np.random.default_rng(3).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    enlarged = np.asarray(Image.fromarray(background).resize((8, 6), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(cover(background, (6, 6)), enlarged[:, :6])


def test_sides_are_rounded_up():
    """5 x 2 under 6 x 2: ratio 1.2, height 2.4 becomes 3, of which 2 rows are taken."""
    background = np.random.default_rng(4).integers(0, 256, (2, 5, 3), dtype=np.uint8)
    enlarged = np.asarray(Image.fromarray(background).resize((6, 3), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(cover(background, (2, 6)), enlarged[:2])


def test_a_side_grows_one_pixel_further_where_the_doubles_do():
    """19 wide under 21: 19 * (21 / 19) is 21.000000000000004 in doubles, rounded up to 22, as the script has it."""
    background = np.random.default_rng(5).integers(0, 256, (19, 19, 3), dtype=np.uint8)
    enlarged = np.asarray(Image.fromarray(background).resize((22, 22), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(cover(background, (21, 21)), enlarged[:21, :21])


def test_the_enlargement_is_bicubic():
    """A step doubled: only the pixels beside it, 1/4 away from the nearest, are neither 0 nor 255.

    Keys' kernel with a = -1/2 is 29/128 at distance 3/4 and -3/128 at 7/4: 26/128 of 255 is 51.8.
    """
    step = np.repeat(np.uint8([[0, 0, 0, 0, 255, 255, 255, 255]])[..., None], 3, axis=2)
    row = cover(np.repeat(step, 8, axis=0), (16, 16))[8, :, 0]
    np.testing.assert_array_equal(row, [0] * 7 + [52, 203] + [255] * 7)


def test_a_sliver_of_a_background_is_refused_before_it_fills_the_memory():
    with pytest.raises(InputError, match="2000 x 8000000"):
        cover(solid((4000, 1), 0), (10, 2000))
    assert cover(solid((4000, 1), 7), (4, 6)).shape == (4, 6, 3)


def test_files_are_read_as_stored(tmp_path):
    """The published script knows nothing of EXIF, of transparency or of palettes' order."""
    pixels = np.random.default_rng(5).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    save(tmp_path / "turned.png", pixels, exif=exif)
    save(tmp_path / "clear.png", np.dstack([pixels, np.zeros((3, 5), np.uint8)]))
    np.testing.assert_array_equal(read_as_stored(tmp_path / "turned.png"), pixels)
    np.testing.assert_array_equal(read_as_stored(tmp_path / "clear.png"), pixels)
    save(tmp_path / "deep.png", np.full((3, 5), 40000, np.uint16))
    assert "deep.png" in message(lambda: read_as_stored(tmp_path / "deep.png"))


# --- the set


def test_each_foreground_takes_the_next_backgrounds_of_the_list(tmp_path, sources):
    test_set, voc = sources
    assert build(sources, tmp_path / "out") == Built(made=18, kept=0)
    images = test_set / "Adobe-licensed images"
    for number, (fg_name, k) in enumerate((fg_name, k) for fg_name in FOREGROUNDS for k in range(EACH)):
        name = fg_name.replace(".png", f"_{k}.png")
        fg, alpha, bg = (
            np.asarray(Image.open(path)).astype(int)
            for path in (images / "fg" / fg_name, images / "alpha" / fg_name, voc / f"2008_{number:06}.png")
        )
        merged = np.asarray(Image.open(tmp_path / "out" / "merged" / name))
        for y, x, channel in np.ndindex(merged.shape):
            a = alpha[y, x] / 255
            assert merged[y, x, channel] == int(a * fg[y, x, channel] + (1 - a) * bg[y, x, channel])
        assert (tmp_path / "out" / "alpha_copy" / name).read_bytes() == (images / "alpha" / fg_name).read_bytes()
        assert (tmp_path / "out" / "trimaps" / name).read_bytes() == (images / "trimaps" / name).read_bytes()


def test_the_result_is_a_test_set(tmp_path, sources):
    build(sources, tmp_path / "out")
    dataset = Composition1k(tmp_path / "out")
    assert [item["name"] for item in dataset] == [f"{stem}_{k}" for stem in ("ant", "zebra") for k in range(EACH)]
    assert dataset.problems() == []


def test_other_formats_than_png_become_gray_png_of_the_same_values(tmp_path, sources):
    folder = sources[0] / "Adobe-licensed images"
    alpha = np.asarray(Image.open(folder / "alpha" / "ant.png"))
    (folder / "alpha" / "ant.png").unlink()
    save(folder / "alpha" / "ant.tif", np.dstack([alpha, 255 - alpha, alpha]))  # the first channel counts
    for k in range(EACH):
        (folder / "trimaps" / f"ant_{k}.png").unlink()
    save(folder / "trimaps" / "ant.bmp", np.full((4, 6), 128, np.uint8))  # one for all
    build(sources, tmp_path / "out")
    for k in range(EACH):
        copy = Image.open(tmp_path / "out" / "alpha_copy" / f"ant_{k}.png")
        assert (copy.format, copy.mode) == ("PNG", "L")
        np.testing.assert_array_equal(copy, alpha)
        assert (np.asarray(Image.open(tmp_path / "out" / "trimaps" / f"ant_{k}.png")) == 128).all()


def test_processes_make_the_same_files(tmp_path, sources):
    build(sources, tmp_path / "one")
    build(sources, tmp_path / "two", num_workers=2)
    one, two = (sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert len(one) == 19


# --- resuming


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def test_a_second_run_keeps_what_is_right_and_makes_the_rest(tmp_path, sources):
    out = tmp_path / "out"
    build(sources, out)
    bytes_before = {path: path.read_bytes() for path in out.rglob("*.png")}
    for path in bytes_before:
        os.utime(path, ns=(1, 1))
    (out / "merged" / "ant_1.png").write_bytes(b"cut off")
    (out / "trimaps" / "zebra_2.png").unlink()
    assert build(sources, out) == Built(made=2, kept=16)
    assert {path for path, stamp in stamps(out).items() if stamp != 1} == {
        out / "merged" / "ant_1.png",
        out / "trimaps" / "zebra_2.png",
    }
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == bytes_before


def test_a_changed_source_is_composed_again(tmp_path, sources):
    build(sources, tmp_path / "out")
    save(sources[1] / "2008_000004.png", solid((4, 6), 7))  # the second background of the second foreground
    assert build(sources, tmp_path / "out") == Built(made=1, kept=17)
    save(sources[0] / "Adobe-licensed images" / "alpha" / "zebra.png", np.zeros((4, 6), np.uint8))
    assert build(sources, tmp_path / "out") == Built(made=6, kept=12)  # three composites, three copies


def test_a_bad_source_spoils_only_its_own_foreground(tmp_path, sources):
    (sources[1] / "2008_000001.png").write_bytes(b"no image")
    assert "2008_000001.png" in message(lambda: build(sources, tmp_path / "out"))
    assert {name.partition("/")[2].partition("_")[0] for name in read_manifest(tmp_path / "out" / MANIFEST).files} == {
        "ant"
    }
    save(sources[1] / "2008_000001.png", solid((4, 6), 9))
    assert build(sources, tmp_path / "out").kept == 9  # those of ant


# --- the manifest


def test_the_manifest_records_hash_size_and_sources(tmp_path, sources):
    build(sources, tmp_path / "out")
    record = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert record["made_with"]["pillow"]
    entry = record["files"]["merged/ant_2.png"]
    data = (tmp_path / "out" / "merged" / "ant_2.png").read_bytes()
    assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (entry["width"], entry["height"], entry["channels"]) == (6, 4, 3)
    pixels = Image.open(tmp_path / "out" / "merged" / "ant_2.png").tobytes()
    assert entry["pixels"] == hashlib.sha256(pixels).hexdigest()
    background = hashlib.sha256((sources[1] / "2008_000005.png").read_bytes()).hexdigest()
    assert entry["sources"].keys() == {"fg/ant.png", "alpha/ant.png", "voc/2008_000005.png"}
    assert entry["sources"]["voc/2008_000005.png"] == background
    assert str(tmp_path) not in (tmp_path / "out" / MANIFEST).read_text()


def test_verification_tells_recoded_from_other_pixels(tmp_path, sources, capsys):
    out = tmp_path / "out"
    build(sources, out)
    assert main(["--verify", str(out), "--workers", "1"]) == 0
    merged = np.asarray(Image.open(out / "merged" / "ant_0.png")).copy()
    save(out / "merged" / "ant_0.png", merged, compress_level=0)
    result = verify(out, read_manifest(out / MANIFEST), progress=False)
    assert (result.problems, result.identical, result.recoded) == ([], 17, 1)

    merged[0, 0, 0] ^= 1
    save(out / "merged" / "ant_0.png", merged)
    (out / "alpha_copy" / "zebra_1.png").unlink()
    save(out / "trimaps" / "zebra_0.png", np.zeros((2, 2), np.uint8))
    save(out / "merged" / "stray.png", merged)
    capsys.readouterr()
    assert main(["--verify", str(out), "--workers", "1"]) == 2
    lines = capsys.readouterr().out.splitlines()
    for line, expected in zip(lines, ("missing", "other pixels", "2 x 2", "not in", "4 problems"), strict=True):
        assert expected in line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "made_with": {}, "files": {}}',
        '{"format": 1, "made_with": {}, "files": {"../etc/passwd": {}}}',
        '{"format": 1, "made_with": {}, "files": {"merged/..": {}}}',
        '{"format": 1, "made_with": {}, "files": {"merged/a.png": {"sha256": 1}}}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    assert "m.json" in message(lambda: read_manifest(tmp_path / "m.json"))


# --- a user's mistakes


def test_lists_that_do_not_fit_are_refused(sources):
    test_set, voc = sources
    assert "expected 20 backgrounds for each of the 2" in message(lambda: plan_composites(test_set, [voc]))
    (test_set / "test_fg_names.txt").write_text("ant.png\nANT.png\n")
    assert "same name" in message(lambda: plan_composites(test_set, [voc], EACH))
    (test_set / "test_fg_names.txt").write_text("ant.png\n../secret.png\n")
    assert "line 2" in message(lambda: plan_composites(test_set, [voc], EACH))
    (test_set / "test_fg_names.txt").write_bytes(b"\xff\xfe\x00")
    assert "test_fg_names.txt" in message(lambda: plan_composites(test_set, [voc], EACH))
    (test_set / "test_fg_names.txt").unlink()
    assert "test_fg_names.txt" in message(lambda: plan_composites(test_set, [voc], EACH))


def test_all_missing_files_are_told_before_anything_is_written(sources):
    test_set, voc = sources
    (voc / "2008_000003.png").unlink()
    (test_set / "Adobe-licensed images" / "alpha" / "zebra.png").unlink()
    text = message(lambda: plan_composites(test_set, [voc], EACH))
    assert "2008_000003.png" in text
    assert text.count("zebra") == 1
    assert "no/such" in message(lambda: plan_composites(test_set, ["no/such"], EACH))


def test_backgrounds_may_lie_in_several_folders(tmp_path, sources):
    test_set, voc = sources
    (tmp_path / "more").mkdir()
    (voc / "2008_000003.png").rename(tmp_path / "more" / "2008_000003.png")
    composites = plan_composites(test_set, [voc, tmp_path / "more"], EACH)
    assert composites[3].bg == tmp_path / "more" / "2008_000003.png"


def test_sizes_that_differ_are_named(tmp_path, sources):
    save(sources[0] / "Adobe-licensed images" / "trimaps" / "ant_1.png", np.zeros((4, 5), np.uint8))
    text = message(lambda: build(sources, tmp_path / "out"))
    assert "ant_1.png: 5 x 4 pixels" in text
    assert "6 x 4" in text


def test_an_output_folder_of_another_set_is_refused(tmp_path, sources):
    save(tmp_path / "out" / "merged" / "other.png", solid((2, 2), 0))
    assert "another set" in message(lambda: build(sources, tmp_path / "out"))


def test_the_command_builds_and_says_so(tmp_path, sources, capsys):
    arguments = ["--test-set", str(sources[0]), "--backgrounds", str(sources[1]), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--per-foreground", str(EACH), "--workers", "1"]) == 0
    assert "6 test images; 18 files made, 0 kept" in capsys.readouterr().out
    assert "--see" not in message(lambda: main(["--output", "x"]))
    assert "--workers" in message(lambda: main([*arguments, "--workers", "0"]))
