"""Set-up that all tests share."""

import logging
import os
import signal

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
