"""The check of a training set: every kind of problem is found, in its file, and nothing else is."""

import json

import numpy as np
import pytest
from PIL import Image

from data.preparation.dataset_check import TrainingSet, check_dataset, list_images
from data.preparation.findings import KINDS
from data.preparation.image_facts import inspect_files
from runtime.errors import InputError
from tools.check_dataset import main

SIZE = (40, 60)


def photograph(seed, size=SIZE):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)


def matte(seed, size=SIZE):
    """Transparent on the left, opaque on the right, soft between; another place for every seed."""
    columns = np.arange(size[1]) - 10 - seed
    return Image.fromarray(np.tile(np.clip(20 * columns, 0, 255).astype(np.uint8), (size[0], 1)))


@pytest.fixture
def root(tmp_path):
    """A sound set: three pairs and three backgrounds, and a file that is none."""
    for folder in ("fg", "alpha", "bg"):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate(("ant", "bee", "cat")):
        photograph(seed).save(tmp_path / "fg" / f"{name}.jpg")
        matte(seed).save(tmp_path / "alpha" / f"{name}.png")
        photograph(10 + seed).save(tmp_path / "bg" / f"field_{name}.jpg")
    (tmp_path / "bg" / "Thumbs.db").write_bytes(b"no image")
    return tmp_path


def check(root, **options):
    options = {"crop_size": 40, "progress": False} | options
    return check_dataset(TrainingSet(root / "fg", root / "alpha", root / "bg"), **options)


def found(root, **options):
    """(kind, file name) of each finding."""
    return [(f.kind, f.file.rpartition("/")[2]) for f in check(root, **options).findings]


def turned(image, path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def test_a_sound_set_has_no_findings(root):
    report = check(root)
    assert report.findings == []
    assert report.checked == {"image": 3, "alpha": 3, "background": 3}


# --- one file at a time; each spoils a sound set and must be the only finding


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def levels(path, values):
    Image.fromarray(np.tile(np.uint8(values), SIZE)[: SIZE[0], : SIZE[1]]).save(path)


SPOILED = {
    "truncated photograph": (lambda r: truncate(r / "fg" / "bee.jpg"), "unreadable", "bee.jpg"),
    "truncated alpha": (lambda r: truncate(r / "alpha" / "bee.png"), "unreadable", "bee.png"),
    "no image": (lambda r: (r / "bg" / "field_ant.jpg").write_text("text"), "unreadable", "field_ant.jpg"),
    "empty file": (lambda r: (r / "fg" / "cat.jpg").write_bytes(b""), "unreadable", "cat.jpg"),
    "broken link": (lambda r: (r / "bg" / "gone.jpg").symlink_to("nowhere"), "unreadable", "gone.jpg"),
    "animation": (
        lambda r: photograph(1).save(r / "bg" / "a.gif", save_all=True, append_images=[photograph(2)]),
        "unreadable",
        "a.gif",
    ),
    "no alpha": (lambda r: (r / "alpha" / "ant.png").unlink(), "no-partner", "ant.jpg"),
    "no foreground": (lambda r: matte(9).save(r / "alpha" / "dog.png"), "no-partner", "dog.png"),
    "same name": (lambda r: photograph(8).save(r / "fg" / "ANT.png"), "same-name", "ant.jpg"),
    "two alphas": (lambda r: matte(0, SIZE).save(r / "alpha" / "ant_alpha.png"), "ambiguous", "alpha"),
    "other size": (lambda r: matte(1, (40, 61)).save(r / "alpha" / "bee.png"), "size-differs", "bee.png"),
    "one is turned": (lambda r: turned(matte(1, SIZE), r / "alpha" / "bee.png", 3), "turned-apart", "bee.png"),
    "empty alpha": (lambda r: levels(r / "alpha" / "cat.png", [0]), "alpha-empty", "cat.png"),
    "full alpha": (lambda r: levels(r / "alpha" / "cat.png", [255]), "alpha-full", "cat.png"),
    "coloured alpha": (
        lambda r: Image.merge("RGB", [matte(0), matte(0), matte(1)]).save(r / "alpha" / "ant.png"),
        "alpha-colour",
        "ant.png",
    ),
    "transparent alpha": (
        lambda r: Image.merge("LA", [matte(0), matte(1)]).save(r / "alpha" / "ant.png"),
        "alpha-transparent",
        "ant.png",
    ),
    "alpha of 0 and 1": (lambda r: levels(r / "alpha" / "cat.png", [0, 1, 1]), "alpha-coding", "cat.png"),
    "alpha of 8 bits in 16": (
        lambda r: Image.fromarray(np.asarray(matte(0)).astype(np.uint16)).save(r / "alpha" / "ant.png"),
        "alpha-coding",
        "ant.png",
    ),
    "a photograph as alpha": (lambda r: photograph(0).save(r / "alpha" / "ant.png"), "alpha-colour", "ant.png"),
    "matte in the alpha channel": (
        lambda r: Image.merge("RGBA", [*photograph(0).split(), matte(0)]).save(r / "alpha" / "ant.png"),
        "alpha-channel",
        "ant.png",
    ),
    "faint alpha": (lambda r: levels(r / "alpha" / "cat.png", [0, 50, 100]), "alpha-faint", "cat.png"),
    "not read": (lambda r: (r / "bg" / "a.psd").write_bytes(b"8BPS"), "passed-over", "bg"),
    "mask as foreground": (lambda r: levels(r / "fg" / "bee.jpg", [0] * 32 + [255] * 32), "two-colours", "bee.jpg"),
    "one colour": (lambda r: Image.new("RGB", SIZE[::-1], 99).save(r / "fg" / "bee.jpg"), "two-colours", "bee.jpg"),
    "foreground as background": (
        lambda r: (r / "bg" / "x.jpg").write_bytes((r / "fg" / "cat.jpg").read_bytes()),
        "bg-is-fg",
        "x.jpg",
    ),
    "twice": (
        lambda r: Image.open(r / "bg" / "field_ant.jpg").save(r / "bg" / "zebra.png"),  # other bytes, same pixels
        "duplicate",
        "zebra.png",
    ),
    "named as a foreground": (lambda r: photograph(7).save(r / "bg" / "cat.jpg"), "bg-named-as-fg", "cat.jpg"),
    "binary alpha": (lambda r: levels(r / "alpha" / "cat.png", [0, 255]), "alpha-binary", "cat.png"),
    "16-bit alpha": (
        lambda r: Image.fromarray(np.asarray(matte(0)).astype(np.uint16) * 257).save(r / "alpha" / "ant.png"),
        "deep",
        "ant.png",
    ),
    "CMYK": (lambda r: photograph(1).convert("CMYK").save(r / "fg" / "bee.jpg"), "cmyk", "bee.jpg"),
    "turned background": (lambda r: turned(photograph(5), r / "bg" / "field_bee.jpg", 6), "turned", "field_bee.jpg"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_each_kind_is_found_in_its_file_and_nothing_else(root, name):
    spoil, kind, file = SPOILED[name]
    spoil(root)
    assert found(root) == [(kind, file)]


def test_jpeg_alphas_and_small_pictures_are_noted_with_numbers(root):
    (root / "alpha" / "ant.png").unlink()
    matte(0).save(root / "alpha" / "ant.jpg", quality=60)
    stored = np.asarray(Image.open(root / "alpha" / "ant.jpg"))
    ringing = np.isin(stored, [1, 2, 253, 254]).mean()
    assert ringing > 0.01
    photograph(1, (39, 80)).save(root / "fg" / "bee.jpg")
    matte(1, (39, 80)).save(root / "alpha" / "bee.png")
    findings = check(root).findings
    assert {finding.kind for finding in findings} == {"alpha-jpeg", "below-crop"}
    assert f"{ringing:.1%}" in next(f.text for f in findings if f.kind == "alpha-jpeg")
    assert "80 x 39" in next(f.text for f in findings if f.kind == "below-crop")
    assert check(root).of("problem") == []


def test_a_pair_turned_alike_fits_and_is_noted(root):
    turned(photograph(1), root / "fg" / "bee.jpg", 6)
    turned(matte(1), root / "alpha" / "bee.png", 6)
    assert found(root) == [("turned", "bee.png")]


def test_colours_are_counted_where_the_foreground_is_visible(root):
    """A colourful picture whose visible part is one colour; and a black surround of a colourful part."""
    alpha = np.asarray(matte(1))
    flat = np.asarray(photograph(1)).copy()
    flat[alpha > 0] = (10, 20, 30)
    Image.fromarray(flat).save(root / "fg" / "bee.png")
    (root / "fg" / "bee.jpg").unlink()
    surround = np.asarray(photograph(2)).copy()
    surround[np.asarray(matte(2)) == 0] = 0
    Image.fromarray(surround).save(root / "fg" / "cat.png")
    (root / "fg" / "cat.jpg").unlink()
    assert found(root) == [("two-colours", "bee.png")]
    facts = inspect_files({"image": root / "fg" / "bee.png", "alpha": root / "alpha" / "bee.png"})
    assert facts["image"].two_colours == 1


def test_all_problems_at_once_are_all_named(root):
    spoiling = ("truncated photograph", "no alpha", "empty alpha", "no image", "one is turned")
    for name in spoiling:
        SPOILED[name][0](root)
    expected = {SPOILED[name][1:] for name in spoiling} - {("turned-apart", "bee.png")}  # its partner is cut off
    assert set(found(root)) == expected


# --- lists


def test_lists_are_held_against_the_folders(root, capsys):
    (root / "fg.txt").write_text("ant.jpg\r\ndog.jpg\r\n")
    (root / "bg.txt").write_text("FIELD_ant.png\nmoon.jpg\n")
    (root / "test.txt").write_text("bee.png\nfield_cat.jpg\nother.png\n")
    arguments = ["--root", str(root), "--crop-size", "40", "--workers", "1", "--names", str(root / "fg.txt")]
    arguments += ["--bg-names", str(root / "bg.txt"), "--test-names", str(root / "test.txt")]
    assert main(arguments) == 2
    out = capsys.readouterr().out
    assert out.count("problem: ") == 4
    assert f"{root / 'fg.txt'}: dog.jpg is not among the images" in out
    assert f"{root / 'bg.txt'}: moon.jpg is not among the backgrounds" in out
    assert f"{root / 'fg' / 'bee.jpg'}: {root / 'test.txt'} names it for testing; remove the file" in out
    assert f"{root / 'bg' / 'field_cat.jpg'}: {root / 'test.txt'}" in out


# --- the command


def test_exit_status_and_json(root, tmp_path, capsys):
    arguments = ["--root", str(root), "--workers", "1", "--json", str(tmp_path / "report.json")]
    assert main([*arguments, "--crop-size", "40"]) == 0
    assert capsys.readouterr().out == "3 images, 3 alphas, 3 backgrounds checked: 0 problems, 0 notes\n"
    assert main(arguments) == 0  # all three are below the crop of 512: notes
    assert main([*arguments, "--strict"]) == 2
    levels(root / "alpha" / "cat.png", [0])
    capsys.readouterr()
    assert main(arguments) == 2
    assert capsys.readouterr().out.splitlines()[-1] == (
        "3 images, 3 alphas, 3 backgrounds checked: 1 problems, 3 notes (alpha-empty 1, below-crop 3)"
    )
    record = json.loads((tmp_path / "report.json").read_text())
    assert (record["problems"], record["notes"], record["counts"]) == (1, 3, {"alpha-empty": 1, "below-crop": 3})
    assert record["findings"][0].keys() == {"severity", "kind", "file", "text", "cure"}
    empty = next(entry for entry in record["findings"] if entry["kind"] == "alpha-empty")
    assert (empty["severity"], empty["file"]) == ("problem", str(root / "alpha" / "cat.png"))


def test_a_matte_on_another_scale_has_one_remedy(root, capsys):
    levels(root / "alpha" / "cat.png", [0, 1, 1])
    assert main(["--root", str(root), "--workers", "1", "--crop-size", "40"]) == 2
    problem = capsys.readouterr().out.splitlines()[0]
    assert problem == (
        f"problem: {root / 'alpha' / 'cat.png'}: expected an alpha of 0..255, found only 0 and 1; multiply it by 255"
    )


def test_processes_find_the_same(root):
    for name in ("truncated photograph", "no alpha", "binary alpha", "twice"):
        SPOILED[name][0](root)
    assert check(root).findings == check(root, num_workers=2).findings


def test_what_memory_does_not_suffice_for_is_told(root, monkeypatch):
    def inspect(files):
        if "background" in files:
            raise MemoryError
        return inspect_files(files)

    monkeypatch.setattr("data.preparation.dataset_check.inspect_files", inspect)
    assert found(root) == [("not-checked", f"field_{name}.jpg") for name in ("ant", "bee", "cat")]


def test_photographs_beside_their_alphas_are_checked_by_layout(root, capsys):
    (root / "fg").rename(root / "original")
    (root / "alpha").rename(root / "mask")
    arguments = ["--crop-size", "40", "--workers", "1"]
    assert main(["--layout", "aim-500", "--root", str(root), *arguments]) == 0
    assert "3 images, 3 alphas checked" in capsys.readouterr().out
    folders = ["--image-dir", str(root / "original"), "--alpha-dir", str(root / "mask"), "--bg-dir", str(root / "bg")]
    assert main([*folders, *arguments]) == 0
    assert "3 backgrounds" in capsys.readouterr().out


def test_mistakes_are_told(root, tmp_path):
    for arguments, expected in (
        ([], "--root"),
        (["--image-dir", str(root / "fg")], "--alpha-dir"),
        (["--root", str(tmp_path / "none")], "none/fg"),
        (["--root", str(root), "--workers", "0"], "--workers"),
        (["--root", str(root), "--test-names", str(root / "no.txt")], "no.txt"),
        (["--root", str(root), "--layout", "p3m-10k"], "blurred_image"),
    ):
        with pytest.raises(InputError) as caught:
            main(arguments)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        list_images(root / "empty")


def test_every_kind_has_a_test():
    tested = {kind for _, kind, _ in SPOILED.values()}
    assert KINDS.keys() - tested == {"listed-only", "in-test-list", "alpha-jpeg", "below-crop", "not-checked"}  # above
