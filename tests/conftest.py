"""What every test starts from."""

import logging

import pytest


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Detach the handlers a training run attached: they write to streams and folders of their own test."""
    yield
    for name in ("detectron2", "fvcore", "dinomatte"):
        for handler in logging.getLogger(name).handlers[:]:
            logging.getLogger(name).removeHandler(handler)
            handler.close()
