"""Reading every kind of image file, and writing whole files or none."""

import os
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from data.images import files
from data.images.files import (
    FORMATS,
    check_outputs,
    found_none,
    image_paths,
    images_by_stem,
    passed_over,
    read_gray,
    read_header,
    read_photograph,
    read_rgb,
    read_rgb_profile,
    read_size,
    write_png,
)
from data.images.masks import read_mask
from data.images.mattes import read_gray_exact, read_matte, read_trimap
from runtime.errors import InputError
from runtime.files import replacing


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)


def test_rgb_modes_agree(tmp_path, colours):
    image = Image.fromarray(colours)
    image.save(tmp_path / "rgb.png")
    rgba = image.copy()
    rgba.putalpha(77)
    rgba.save(tmp_path / "rgba.png")
    image.save(tmp_path / "rgb.bmp")
    for name in ("rgb.png", "rgba.png", "rgb.bmp"):
        np.testing.assert_array_equal(read_rgb(tmp_path / name), colours)


def test_gray_modes_agree(tmp_path, colours):
    gray = colours[..., 0]
    image = Image.fromarray(gray)
    image.save(tmp_path / "l.png")
    Image.merge("RGB", [image] * 3).save(tmp_path / "rgb.png")
    Image.merge("LA", [image, Image.new("L", image.size, 9)]).save(tmp_path / "la.png")
    palette = Image.fromarray(255 - gray).convert("P")
    palette.putpalette([value for level in range(256) for value in (255 - level,) * 3])
    palette.save(tmp_path / "p.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(gray.astype(np.float32) / 255).save(tmp_path / "float.tif")
    for name in ("l.png", "rgb.png", "la.png", "p.png", "deep.png", "float.tif"):
        np.testing.assert_array_equal(read_gray(tmp_path / name), gray, err_msg=name)
        levels, remark = read_photograph(tmp_path / name)
        np.testing.assert_array_equal(levels, np.dstack([gray] * 3), err_msg=name)
        assert bool(remark) == (name in ("la.png", "float.tif"))


def test_first_channel_of_a_coloured_matte_counts(tmp_path, colours):
    Image.fromarray(colours).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), colours[..., 0])


def test_sixteen_bits_are_rounded(tmp_path):
    values = np.array([[0, 128, 129, 257, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), [[0, 0, 1, 1, 255]])


# the bytes of a row of such a BMP are 1216, 1616 and 2416, and the last is 16 pixels wide
@pytest.mark.parametrize("width", [405, 538, 805, 16])
@pytest.mark.parametrize("suffix", [".bmp", ".png", ".ppm", ".tif"])
def test_eight_bits_in_several_channels_are_not_taken_for_sixteen(tmp_path, width, suffix):
    gray = np.random.default_rng(0).integers(0, 256, (3, width), np.uint8)
    Image.merge("RGB", [Image.fromarray(gray)] * 3).save(tmp_path / f"matte{suffix}")
    np.testing.assert_array_equal(read_gray_exact(tmp_path / f"matte{suffix}"), gray)


def test_a_bmp_of_sixteen_bits_a_pixel_has_no_deep_channels(tmp_path):
    """5, 6 and 5 bits; written by hand, since Pillow only reads them."""
    header = struct.pack(
        "<2sIIIIiiHHIIiiIIIII", b"BM", 70, 0, 66, 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F
    )
    (tmp_path / "a.bmp").write_bytes(header + struct.pack("<HH", 0xFFFF, 0))
    assert read_gray_exact(tmp_path / "a.bmp").tolist() == [[255, 0]]


@pytest.mark.parametrize("name", ["deep.png", "deep_alpha.png", "deep.tif", "deep.ppm", "deep.jp2"])
def test_sixteen_bits_in_several_channels_are_refused_where_values_must_be_exact(tmp_path, name):
    deep = np.full((32, 40, 4 if "alpha" in name else 3), 40_000, np.uint16)
    cv2.imwrite(str(tmp_path / name), deep)
    with pytest.raises(InputError, match="found 10 to 16 bits, of which the lower ones are not read"):
        read_gray_exact(tmp_path / name)


def test_exif_orientation_is_applied(tmp_path, colours):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.rot90(colours, -1))
    assert read_size(tmp_path / "a.png") == (9, 7)


def test_trimaps_are_snapped(tmp_path):
    levels = np.array([[0, 84, 85, 102, 127, 128, 169, 170, 254, 255]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "t.png")
    np.testing.assert_array_equal(read_trimap(tmp_path / "t.png"), [[0, 0, *[128] * 5, 255, 255, 255]])


def test_unusable_files_are_named(tmp_path, colours, monkeypatch):
    Image.fromarray(colours).resize((300, 300)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("<html>not an image</html>")
    (tmp_path / "empty.png").touch()
    frames = [Image.fromarray(colours), Image.fromarray(255 - colours)]
    frames[0].save(tmp_path / "animated.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "preview.mpo", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_rgb(tmp_path / "preview.mpo"), Image.open(tmp_path / "preview.mpo"))
    for name in ("truncated.png", "text.png", "empty.png", "animated.webp", "missing.png"):
        with pytest.raises(InputError, match=name):
            read_rgb(tmp_path / name)
    for name, reason in (("text.png", "unknown or damaged format"), ("empty.png", "the file is empty")):
        with pytest.raises(InputError, match=rf"{name}: not a readable image \({reason}\)$"):
            read_rgb(tmp_path / name)
    with pytest.raises(InputError, match="a folder"):
        read_rgb(tmp_path)
    monkeypatch.setattr(files, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match="over the limit"):
        read_rgb(tmp_path / "whole.png")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def empty_tiff(photometric: int, width: int, height: int) -> bytes:
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (278, 4, 4),
        (279, 4, 0),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)


EMPTY = {
    "a.png": b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 4, 8, 0, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b""))
    + chunk(b"IEND", b""),
    "a.pgm": b"P5 0 4 255\n",
    "a.bmp": struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54, 0, 54, 40, 0, 4, 1, 24, 0, 0, 0, 0, 0, 0),
    "no_column.tif": empty_tiff(0, 0, 4),
    "no_row.tif": empty_tiff(0, 4, 0),
    "black_is_zero.tif": empty_tiff(1, 0, 4),
}


@pytest.mark.parametrize("name", EMPTY)
def test_pictures_without_pixels_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(EMPTY[name])
    for read in (read_rgb, read_gray, read_gray_exact, read_matte, read_trimap, read_mask):
        with pytest.raises(InputError, match=rf"{re.escape(name)}: not a readable image"):
            read(tmp_path / name)


def test_folders_are_indexed_by_stem(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.Tif", "Thumbs.db", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert {stem: path.name for stem, path in images_by_stem(tmp_path).items()} == {
        "a": "a.jpeg",
        "b": "b.PNG",
        "c": "c.Tif",
    }
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"a\.jpeg and a\.png"):
        images_by_stem(tmp_path)
    with pytest.raises(InputError, match="expected a folder"):
        images_by_stem(tmp_path / "nowhere")


def test_a_folder_with_a_broken_link_or_a_pipe_among_its_images_is_refused(tmp_path):
    (tmp_path / "a.png").symlink_to("nowhere.png")
    with pytest.raises(InputError, match=r"a\.png: expected an image file, found a broken link$"):
        images_by_stem(tmp_path)
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: expected an image file, found a pipe, a device or a socket"):
        images_by_stem(tmp_path)
    for read in (read_rgb, read_size):
        with pytest.raises(InputError, match="null: expected an image file, found a pipe, a device or a socket"):
            read(os.devnull)


def test_png_round_trip(tmp_path, colours):
    write_png(tmp_path / "new" / "a.png", colours[..., 0])
    np.testing.assert_array_equal(read_gray(tmp_path / "new" / "a.png"), colours[..., 0])
    assert Image.open(tmp_path / "new" / "a.png").mode == "L"
    assert os.listdir(tmp_path / "new") == ["a.png"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_and_fail(error: BaseException) -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        write_and_fail(KeyboardInterrupt())
    with pytest.raises(InputError, match="No space left"):
        write_and_fail(OSError(28, "No space left on device"))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_recursive_names_are_paths_without_extension_and_loops_end(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("a.png", "b/a.JPG", "b/c/x.y.png", "b/notes.txt", ".hidden/d.png"):
        (tmp_path / name).touch()
    (tmp_path / "b" / "c" / "up").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "b" / "c")
    assert sorted(images_by_stem(tmp_path, recursive=True)) == ["a", "b/a", "b/c/x.y", "linked/x.y"]
    assert sorted(images_by_stem(tmp_path)) == ["a"]
    assert image_paths(tmp_path) == [tmp_path / "a.png"]


def test_folders_that_are_left_out_are_not_searched_unless_they_are_the_folder_itself(tmp_path):
    for name in ("a.png", "out/b.png", "sub/out/c.png", "sub/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "link").symlink_to(tmp_path / "out")
    left_out = [tmp_path, tmp_path / "sub" / ".." / "out"]
    assert sorted(images_by_stem(tmp_path, recursive=True, leave_out=left_out)) == ["a", "sub/d", "sub/out/c"]


def test_the_error_for_a_folder_without_images_names_what_is_there(tmp_path):
    assert str(found_none(tmp_path)) == f"{tmp_path}: expected images, found none"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.raw").touch()
    for recursive, left in (({}, "1 sub-folder (more)"), ({"recursive": True}, "1 .raw (more/a.raw)")):
        assert str(found_none(tmp_path, **recursive)) == (
            f"{tmp_path}: expected images, found none; ignored {left}, which are not read (docs/data.md)"
        )


def test_folders_that_link_to_each_other_are_read_once(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
        (tmp_path / name / "link").symlink_to(tmp_path / other)
    assert sorted(images_by_stem(tmp_path, recursive=True)) == ["a/link/x", "a/x", "b/link/x", "b/x"]


def test_writing_follows_a_link_and_does_not_replace_what_is_no_file(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with replacing(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as temporary:
        temporary.write_text("through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


WRITTEN = {"PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "QOI", "SGI", "PCX", "TGA", "MPO"}
LOSSLESS = WRITTEN - {"JPEG", "MPO", "AVIF", "GIF", "WEBP"}


@pytest.mark.parametrize("kind", [name for name in FORMATS if name in WRITTEN])
def test_a_format_is_read_from_a_folder_under_each_suffix_as_it_is_alone(tmp_path, colours, kind):
    smooth = np.kron(colours // 2, np.ones((8, 8, 1), np.uint8))
    for suffix in set(FORMATS[kind]) - {".pgm", ".pbm", ".pfm"}:  # of other modes
        path = tmp_path / f"a{suffix.upper()}"
        Image.fromarray(smooth).save(path, format=kind, **({"lossless": True} if kind == "WEBP" else {}))
        assert images_by_stem(tmp_path) == {"a": path}
        assert passed_over(tmp_path) == ""
        difference = np.abs(read_rgb(path).astype(int) - smooth)
        assert difference.max() == 0 if kind in LOSSLESS else difference.mean() < 20
        path.unlink()


def test_formats_have_the_suffixes_that_pillow_gives_them():
    by_pillow = {kind: set() for kind in WRITTEN}
    for suffix, kind in Image.registered_extensions().items():
        by_pillow.setdefault(kind, set()).add(suffix)
    by_pillow["BMP"].add(".dib")  # a format of its own there
    by_pillow["AVIF"].discard(".avifs")  # films
    by_pillow["SGI"] -= {".bw", ".rgb", ".rgba"}  # raw pixels in many folders
    assert {kind: set(FORMATS[kind]) for kind in WRITTEN} == {kind: by_pillow[kind] for kind in WRITTEN}


def test_portable_graymaps_bitmaps_and_floatmaps_are_read(tmp_path, colours):
    gray = colours[..., 0]
    Image.fromarray(gray).save(tmp_path / "a.pgm")
    Image.fromarray(gray > 127).save(tmp_path / "b.pbm")
    Image.fromarray((gray / 255).astype(np.float32)).save(tmp_path / "c.pfm", format="PPM")
    found = {stem: read_gray(path) for stem, path in images_by_stem(tmp_path).items()}
    np.testing.assert_array_equal(found["a"], gray)
    np.testing.assert_array_equal(found["b"], np.where(gray > 127, 255, 0))
    np.testing.assert_array_equal(found["c"], gray)


def test_formats_that_are_not_listed_are_refused_whatever_they_are_called(tmp_path, colours):
    """Encapsulated PostScript would be handed to a program."""
    for kind in ("EPS", "ICO", "PDF"):
        Image.fromarray(colours).save(tmp_path / "a.png", format=kind)
        for read in (read_rgb, read_size):
            with pytest.raises(InputError, match=r"a\.png: not a readable image"):
                read(tmp_path / "a.png")


def test_what_a_folder_holds_besides_images_is_counted_and_named(tmp_path, colours):
    assert passed_over(tmp_path) == ""
    for name in ("a.png", "b.heic2", "c.HEIC2", "notes", "Thumbs.db", ".hidden.txt", "desktop.ini"):
        (tmp_path / name).touch()
    (tmp_path / "raw").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "raw" / "x.txt").touch()
    assert passed_over(tmp_path) == (
        "ignored 2 .heic2 (b.heic2, c.HEIC2) and 1 without suffix (notes) and 1 sub-folder (raw), which are not "
        "read (docs/data.md)"
    )
    (tmp_path / "more").mkdir()
    assert "2 sub-folders (more, raw)" in passed_over(tmp_path)
    assert "1 .txt (raw/x.txt)" in passed_over(tmp_path, recursive=True)
    assert "sub-folder" not in passed_over(tmp_path, recursive=True)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_headers_give_the_stored_and_the_upright_size(tmp_path, colours, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colours).save(tmp_path / f"a{suffix}", exif=exif)
    header = read_header(tmp_path / f"a{suffix}")
    assert header.stored_size == (7, 9)
    assert header.size == ((9, 7) if orientation >= 5 else (7, 9)) == read_rgb(tmp_path / f"a{suffix}").shape[:2]
    assert header.orientation == orientation


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_counts_as_upright(tmp_path, colours, value):
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(colours).save(tmp_path / "a.png", exif=exif)
    assert read_header(tmp_path / "a.png").orientation == 1
    assert read_size(tmp_path / "a.png") == read_rgb(tmp_path / "a.png").shape[:2] == (7, 9)


def portable_pixmap(largest: int) -> bytes:
    return b"P6 1 1 %d\n" % largest + np.full(3, largest, ">u1" if largest < 256 else ">u2").tobytes()


@pytest.mark.parametrize(
    ("name", "picture", "expected"),
    [
        ("a.png", "RGB", ("PNG", "RGB", False)),
        ("a.png", "L", ("PNG", "L", False)),
        ("a.png", "I;16", ("PNG", "I;16", True)),
        ("a.jp2", "I;16", ("JPEG2000", "I;16", True)),
        ("a.jp2", "RGB", ("JPEG2000", "RGB", False)),
        ("a.j2k", "RGB", ("JPEG2000", "RGB", False)),
        ("a.jp2", np.full((32, 32, 3), 40_000, np.uint16), ("JPEG2000", "RGB", True)),
        ("a.sgi", "RGB", ("SGI", "RGB", False)),
        ("a.tif", "L", ("TIFF", "L", False)),
        ("a.tif", "I;16", ("TIFF", "I;16", True)),
        ("a.tif", "F", ("TIFF", "F", True)),
        ("a.pfm", "F", ("PPM", "F", True)),
        ("a.png", np.full((2, 3, 3), 40_000, np.uint16), ("PNG", "RGB", True)),
        ("a.tif", np.full((2, 3, 3), 40_000, np.uint16), ("TIFF", "RGB", True)),
        ("a.ppm", portable_pixmap(255), ("PPM", "RGB", False)),
        ("a.ppm", portable_pixmap(256), ("PPM", "RGB", True)),
        ("a.ppm", b"P3 1 1 255 0 128 255\n", ("PPM", "RGB", False)),
        ("a.ppm", b"P3 1 1 256 0 128 256\n", ("PPM", "RGB", True)),
    ],
)
def test_headers_say_how_many_bits_a_channel_has(tmp_path, name, picture, expected):
    if isinstance(picture, bytes):
        (tmp_path / name).write_bytes(picture)
    elif isinstance(picture, str):
        Image.new(picture, (32, 32)).save(tmp_path / name)
    else:
        cv2.imwrite(str(tmp_path / name), picture)
    assert read_header(tmp_path / name)[3:] == expected


@pytest.mark.parametrize(("stored", "deep"), [(7, False), (8, True), (15, True), (0x87, False)])
def test_a_bare_codestream_of_jpeg_2000_gives_its_bits(tmp_path, stored, deep):
    """One less than the bits is stored; the highest bit is for signed values."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.j2k")
    data = bytearray((tmp_path / "a.j2k").read_bytes())
    data[42] = stored
    (tmp_path / "a.j2k").write_bytes(bytes(data))
    assert read_header(tmp_path / "a.j2k")[3:] == ("JPEG2000", "RGB", deep)


def test_values_are_scaled_and_rounded_in_parts(monkeypatch):
    monkeypatch.setattr(files, "DEEP_CHUNK", 5)
    values = np.arange(0, 65536, 5041, dtype=np.uint16).reshape(1, -1)
    np.testing.assert_array_equal(files.to_uint8(values, 65535), np.rint(values / 257))
    np.testing.assert_array_equal(files.to_uint8(values / 65535, 1), np.rint(values / 257))


@pytest.mark.parametrize(("low", "high"), [(-0.01, 1), (0, 1.01), (np.nan, 1)])
def test_floats_outside_their_scale_are_refused(tmp_path, low, high):
    Image.fromarray(np.float32([[low, high]])).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"expected values in 0\.\.1, found"):
        read_gray(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((20_000, 20_000), None),
        ((20_001, 20_000), r"20001 x 20000 pixels is over the limit of 400,000,000; make it smaller"),
        ((40_001, 20_000), r"over the limit of 400,000,000 pixels; make it smaller \(Image size \(800020000 pixels\)"),
    ],
)
def test_pictures_of_up_to_400_million_pixels_are_opened(tmp_path, recwarn, size, message):
    """Pillow refuses a picture of twice its limit by itself. Its warning of one above the limit is not shown."""
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    if message is None:
        assert read_size(tmp_path / "a.png") == (20_000, 20_000)
    else:
        with pytest.raises(InputError, match=rf"a\.png: {message}"):
            read_size(tmp_path / "a.png")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["folder"], "expected a file to write to, found a folder; add a file name"),
        (["a.PNG"], "would be written over an input or an image"),
        (["in.json"], "would be written over an input or an image"),
        (["to_input.json"], "would be written over an input or an image"),
        (["new.json", "folder/../new.json"], "would be written over another output"),
        (["in.json/new.json"], "cannot write: "),
        (["new.json", "old.json", "new.png", "new folder/new.json", "pipe"], None),
    ],
)
def test_outputs_are_refused_before_anything_is_computed_and_nothing_changes(tmp_path, outputs, message):
    (tmp_path / "folder").mkdir()
    for name in ("a.PNG", "in.json", "old.json"):
        (tmp_path / name).write_text("old")
    (tmp_path / "to_input.json").symlink_to("in.json")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(os.listdir(tmp_path))
    outputs = [f"{tmp_path}/{name}" for name in outputs]
    if message is None:
        check_outputs(outputs, [f"{tmp_path}/in.json"])
        (tmp_path / "new folder").rmdir()  # which is made, and empty
    else:
        with pytest.raises(InputError, match=f"^{re.escape(outputs[-1])}: {message}"):
            check_outputs(outputs, [f"{tmp_path}/in.json"])
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "old.json").read_text() == "old"


def test_outputs_in_a_folder_without_permission_are_refused_but_pipes_take_them(open_tmp_path, ordinary_user):
    (open_tmp_path / "old.json").touch()
    os.mkfifo(open_tmp_path / "pipe")
    ordinary_user(open_tmp_path)
    open_tmp_path.chmod(0o555)
    check_outputs([open_tmp_path / "pipe"])
    for name in ("old.json", "new.json"):
        with pytest.raises(InputError, match=rf"{name}: cannot write: Permission denied"):
            check_outputs([open_tmp_path / name])


def test_files_and_folders_without_permission_are_named(open_tmp_path, ordinary_user):
    (open_tmp_path / "folder").mkdir()
    Image.new("L", (3, 2)).save(open_tmp_path / "a.png")
    ordinary_user(open_tmp_path)
    (open_tmp_path / "folder").chmod(0)
    (open_tmp_path / "a.png").chmod(0)
    for list_files in (images_by_stem, passed_over):
        with pytest.raises(InputError, match=r"folder: cannot be listed: Permission denied$"):
            list_files(open_tmp_path / "folder")
    for read in (read_rgb, read_gray, read_size, read_rgb_profile):
        with pytest.raises(InputError, match=r"a\.png: cannot be read: Permission denied$"):
            read(open_tmp_path / "a.png")


CUT_OUT = "has transparent pixels, as if it was cut out already; its colours are used as they are stored there"


@pytest.mark.parametrize("least", [0, 254, 255])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "colour key"])
def test_transparent_pixels_of_photographs_are_remarked(tmp_path, colours, kind, least):
    """One pixel has the least alpha; the others are opaque."""
    image, path = Image.fromarray(colours), tmp_path / "a.png"
    if kind == "palette":
        image = image.quantize(8)
        image.save(path, transparency=bytes([255] * image.getpixel((4, 3)) + [least]))
    elif kind == "colour key":
        image.save(path, **({"transparency": image.getpixel((4, 3))} if least < 255 else {}))
    else:
        image = image.convert(kind.removesuffix("A"))
        alpha = Image.new("L", image.size, 255)
        alpha.putpixel((4, 3), least)
        image.putalpha(alpha)
        image.save(path)
    levels, remark = read_photograph(path)
    np.testing.assert_array_equal(levels, Image.open(path).convert("RGBA").convert("RGB"))
    assert remark == (CUT_OUT if least < 255 else "")


@pytest.mark.parametrize(("levels", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_the_bits_of_a_jp2_are_found_behind_another_box(tmp_path, levels, bits):
    """A uuid box (ISO/IEC 15444-1, I.7.2) of 2000 bytes between the file type and the header."""
    values = np.random.default_rng(0).integers(0, np.iinfo(levels).max, (64, 64, 3), levels)
    cv2.imwrite(str(tmp_path / "a.jp2"), values)
    stored = (tmp_path / "a.jp2").read_bytes()
    header = stored.index(b"jp2h") - 4
    box = (2000).to_bytes(4, "big") + b"uuid" + bytes(1992)
    (tmp_path / "b.jp2").write_bytes(stored[:header] + box + stored[header:])
    assert read_header(tmp_path / "a.jp2").deep == read_header(tmp_path / "b.jp2").deep == (bits > 8)
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.jp2"), read_rgb(tmp_path / "a.jp2"))
