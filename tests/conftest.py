"""Set-up that all tests share."""

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsers import browser  # noqa: F401 - a fixture of all tests
from two_hosts import hosts  # noqa: F401 - too

# Importing PyMatting makes numba start its threads and set OpenMP's number of threads, PyTorch's too, to one a core.
# Where `make test` runs a process a core, such threads would wait for each other most of the time.
if "OMP_NUM_THREADS" in os.environ:
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_as_in_a_terminal():
    """A shell lets what it starts in the background ignore SIGINT, and so would what the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def own_cache_of_decoded_pictures(tmp_path_factory):
    """Pictures that tests train on do not belong in the user's."""
    os.environ["DINOMATTE_CACHE"] = str(tmp_path_factory.mktemp("decoded") / "cache")


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Detach the handlers a training run attached: they write to streams and folders of their own test."""
    yield
    for name in ("detectron2", "fvcore", "dinomatte"):
        for handler in logging.getLogger(name).handlers[:]:
            logging.getLogger(name).removeHandler(handler)
            handler.close()


@pytest.fixture
def ordinary_user() -> Iterator[Callable]:
    """A function that gives up root's rights until the test ends, if we have them, and our files to that user."""

    def call(*paths: Path) -> None:
        if os.geteuid() == 0:
            for path in paths:
                for part in (path, *path.rglob("*")):
                    os.chown(part, 65534, 65534, follow_symlinks=False)
            os.seteuid(65534)

    yield call
    os.seteuid(os.getuid())


@pytest.fixture
def open_tmp_path() -> Iterator[Path]:
    """Like tmp_path, in a place where every user can go."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
