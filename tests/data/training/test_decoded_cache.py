"""The cache of decoded pictures: never stale, never torn, never too large, whoever is killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny import ROOT

from data.training import decoded_cache
from data.training.decoded_cache import DecodedCache, parse_limit
from runtime.errors import InputError

HEADER = 128  # bytes, of a .npy file of version 1


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    monkeypatch.setattr(decoded_cache, "SETTLED_AFTER", 0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def decode(path):
    """Pixels that follow from the file's bytes alone."""
    data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    return np.resize(data, (50, 40, 3))


def files(tmp_path, count):
    paths = [tmp_path / f"{index}.bin" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes([index, index + 1, 7]))
    return paths


def entries(folder):
    return sorted(folder.glob("*-*.npy"))


def process(code, folder, *arguments):
    """Start Python with the cache's names imported and `folder` and `arguments` given."""
    head = (
        "import os, sys, signal, time\n"
        "from pathlib import Path\n"
        "from data.training import decoded_cache\n"
        "from test_decoded_cache import decode\n"
        "decoded_cache.SETTLED_AFTER = 0\n"
        "folder, arguments = Path(sys.argv[1]), sys.argv[2:]\n"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", head + code, str(folder), *map(str, arguments)]
    found = os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))
    environment = os.environ | {"PYTHONPATH": found}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def finished(started):
    out, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    return out


# --- what is read


def resized(path, height, width=8):
    return np.resize(decode(path), (height, width))


def decoder_of(height):
    return lambda path: resized(path, height)


def test_a_partial_decoder_is_known_by_its_function_and_arguments(tmp_path, folder):
    path, cache = files(tmp_path, 1)[0], DecodedCache("1MB", folder)
    for decoder in (
        partial(resized, height=3),
        partial(resized, height=4),
        partial(partial(resized, width=5), height=3),
    ):
        for _ in range(2):
            np.testing.assert_array_equal(cache.read(path, decoder), decoder(path))
    assert len(entries(folder)) == 3
    assert not cache.read(path, partial(resized, height=3)).flags.writeable  # an entry, not decoded again


@pytest.mark.parametrize("decoder", [decoder_of(3), partial(decoder_of(3))])
def test_what_a_decoder_without_a_name_of_its_own_gives_is_not_kept(tmp_path, folder, decoder):
    path, cache = files(tmp_path, 1)[0], DecodedCache("1MB", folder)
    np.testing.assert_array_equal(cache.read(path, decoder), decoder(path))
    assert entries(folder) == []


DECODED = []


def counting(path):
    DECODED.append(path.name)
    return decode(path)


def test_a_file_is_decoded_once_and_comes_back_the_same(tmp_path, folder):
    path = files(tmp_path, 1)[0]
    DECODED.clear()
    cache = DecodedCache("1MB", folder)
    for _ in range(3):
        picture = cache.read(path, counting)
        np.testing.assert_array_equal(picture, decode(path))
        assert picture.dtype == np.uint8
    assert DECODED == ["0.bin"]
    assert not picture.flags.writeable


def test_gray_pictures_keep_their_shape(tmp_path, folder):
    path = files(tmp_path, 1)[0]
    cache = DecodedCache("1MB", folder)
    for _ in range(2):
        assert cache.read(path, decode_gray).shape == (50, 40)


def decode_gray(path):
    return np.ascontiguousarray(decode(path)[..., 0])


def test_another_process_reads_what_one_decoded(tmp_path, folder):
    path = files(tmp_path, 1)[0]
    DecodedCache("1MB", folder).read(path, decode)
    code = (
        "def refuse(path): raise AssertionError('decoded again')\n"
        "refuse.__module__, refuse.__qualname__ = arguments[1:]\n"
        "sys.modules['test_decoded_cache'].decode = refuse\n"
        "print(decoded_cache.DecodedCache('1MB', folder).read(arguments[0], refuse).sum())"
    )
    assert int(finished(process(code, folder, path, decode.__module__, decode.__qualname__))) == decode(path).sum()


def test_a_changed_file_is_decoded_again_even_with_its_old_size_and_time(tmp_path, folder):
    path, cache = files(tmp_path, 1)[0], DecodedCache("1MB", folder)
    cache.read(path, decode)
    before = path.stat()
    path.write_bytes(bytes([99, 98, 97]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    for _ in range(2):
        np.testing.assert_array_equal(cache.read(path, decode), np.resize(np.uint8([99, 98, 97]), (50, 40, 3)))
    assert len(entries(folder)) == 1  # that of the older state is gone


def changing(path):
    picture = decode(path)
    path.write_bytes(b"new")
    return picture


def test_a_file_that_changes_while_it_is_decoded_is_not_kept(tmp_path, folder):
    DecodedCache("1MB", folder).read(files(tmp_path, 1)[0], changing)
    assert entries(folder) == []


def test_a_file_that_changed_just_now_is_not_kept(monkeypatch, tmp_path, folder):
    monkeypatch.setattr(decoded_cache, "SETTLED_AFTER", 60)
    DecodedCache("1MB", folder).read(files(tmp_path, 1)[0], decode)
    assert entries(folder) == []


def test_two_ways_of_decoding_one_file_do_not_meet(tmp_path, folder):
    path, cache = files(tmp_path, 1)[0], DecodedCache("1MB", folder)
    for _ in range(2):
        assert cache.read(path, decode).ndim == 3
        assert cache.read(path, decode_gray).ndim == 2


def test_an_unreadable_file_is_the_decoders_matter(tmp_path, folder):
    def refuse(path):
        raise InputError("bad")

    cache = DecodedCache("1MB", folder)
    for path in (tmp_path / "missing", files(tmp_path, 1)[0]):
        with pytest.raises(InputError, match="bad"):
            cache.read(path, refuse)


@pytest.mark.parametrize("kept", [0, 10, HEADER, HEADER + 5999])
def test_a_damaged_entry_is_not_served(tmp_path, folder, kept):
    path, cache = files(tmp_path, 1)[0], DecodedCache("1MB", folder)
    cache.read(path, decode)
    entry = entries(folder)[0]
    assert entry.stat().st_size == HEADER + 6000
    os.truncate(entry, kept)
    np.testing.assert_array_equal(cache.read(path, decode), decode(path))


# --- how much


def test_entries_never_exceed_the_limit(tmp_path, folder):
    limit = 3 * (HEADER + 6000) + 100  # three of 50 x 40 x 3
    cache = DecodedCache(limit, folder)
    for path in files(tmp_path, 8):
        np.testing.assert_array_equal(cache.read(path, decode), decode(path))
    assert len(entries(folder)) == 3
    assert sum(path.stat().st_size for path in folder.iterdir()) <= limit


@pytest.mark.parametrize(("free", "kept"), [(16_128, 1), (16_127, 0)])
def test_a_tenth_of_the_file_system_stays_free(monkeypatch, tmp_path, folder, free, kept):
    """An entry of 6128 bytes leaves 10 % of 100,000, or less."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100_000, 100_000 - free, free))
    path, cache = files(tmp_path, 1)[0], DecodedCache("1MB", folder)
    np.testing.assert_array_equal(cache.read(path, decode), decode(path))
    assert len(entries(folder)) == kept


def test_a_full_file_system_ends_the_keeping_not_the_reading(monkeypatch, tmp_path, folder, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    cache = DecodedCache("1MB", folder)
    paths = files(tmp_path, 2)
    monkeypatch.setattr(os, "fsync", full)
    for path in paths:
        np.testing.assert_array_equal(cache.read(path, decode), decode(path))
    assert entries(folder) == []
    assert list(folder.iterdir()) == []
    assert caplog.text.count("No space left") == 1


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 0), ("off", 0), (0, 0), (123, 123), ("4GB", 4 * 10**9), ("1.5 MiB", 3 * 2**19), ("10kb", 10_000)],
)
def test_limits_by_hand(limit, expected):
    assert parse_limit(limit) == expected


def test_auto_is_a_quarter_of_the_memory():
    pages = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 if sys.platform == "linux" else None
    if pages is None:
        pytest.skip("needs /proc")
    assert 0 < parse_limit("auto") <= pages / 4 * 1.001


@pytest.mark.parametrize("limit", ["lots", "-1GB", "4TB", True, "nan", ""])
def test_other_limits_are_refused(limit):
    with pytest.raises(InputError, match="cache: expected"):
        DecodedCache(limit)


# --- processes that come, go and are killed


def test_a_writer_killed_before_the_last_step_leaves_nothing_that_is_read(monkeypatch, tmp_path, folder):
    path = files(tmp_path, 1)[0]
    code = (
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "decoded_cache.DecodedCache('1MB', folder).read(arguments[0], decode)"
    )
    killed = process(code, folder, path)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    for abandoned_after, others in ((60, 1), (-1, 0)):
        monkeypatch.setattr(decoded_cache, "ABANDONED_AFTER", abandoned_after)
        np.testing.assert_array_equal(DecodedCache("1MB", folder).read(path, decode), decode(path))
        assert len(entries(folder)) == 1
        assert left.exists() is bool(others)


def test_no_torn_entry_is_ever_read_while_writers_are_killed(tmp_path, folder):
    paths = files(tmp_path, 40)
    reader = DecodedCache("50MB", folder)
    reader.read(paths[0], decode_large)
    code = (
        "from test_decoded_cache import decode_large\n"
        "cache = decoded_cache.DecodedCache('50MB', folder)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for path in arguments:\n"
        "        cache.read(Path(path), decode_large)\n"
        "    for entry in folder.iterdir():\n"
        "        if entry.suffix == '.npy': entry.unlink(missing_ok=True)\n"
    )
    for delay in (0.0, 0.011, 0.023, 0.05):
        writer = process(code, folder, *paths)
        assert writer.stdout.readline() == "ready\n"
        ends = time.monotonic() + delay
        while time.monotonic() < ends:
            check_entries(folder, paths)
        writer.kill()
        writer.communicate(timeout=60)
        check_entries(folder, paths)
    for path in paths:
        np.testing.assert_array_equal(reader.read(path, decode_large), decode_large(path))


def decode_large(path):
    return np.resize(decode(path), (300, 400, 3))


def check_entries(folder, paths):
    """Whatever is there under an entry's name is one of the pictures, whole."""
    whole = {decode_large(path).tobytes() for path in paths}
    for entry in entries(folder):
        with contextlib.suppress(FileNotFoundError):
            assert entry.read_bytes()[HEADER:] in whole


def test_files_that_are_not_the_caches_stay_and_do_not_count(tmp_path, folder):
    folder.mkdir(mode=0o700)
    names = ["notes.txt", "download.part", f"{'a' * 32}.npy", f"{'a' * 32}-{'g' * 32}.npy"]
    for name in names:
        (folder / name).write_bytes(bytes(9000))
    cache = DecodedCache(HEADER + 6000, folder)
    cache.read(files(tmp_path, 1)[0], decode)
    assert len(entries(folder)) == 2  # one of them is called like it
    assert {path.name for path in folder.iterdir()} > set(names)


def test_the_folder_is_the_users_or_the_one_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("DINOMATTE_CACHE", raising=False)
    assert DecodedCache("1MB").folder.name == f"dinomatte-{os.getuid()}"
    monkeypatch.setenv("DINOMATTE_CACHE", str(tmp_path / "a" / "b"))
    DecodedCache("1MB").read(files(tmp_path, 1)[0], decode)
    assert len(entries(tmp_path / "a" / "b")) == 1
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path, folder, caplog):
    folder.mkdir()
    folder.chmod(0o777)
    path = files(tmp_path, 1)[0]
    np.testing.assert_array_equal(DecodedCache("1MB", folder).read(path, decode), decode(path))
    assert list(folder.iterdir()) == []
    assert "only you can write to" in caplog.text


def test_constructing_touches_no_disk(tmp_path):
    DecodedCache("1MB", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
