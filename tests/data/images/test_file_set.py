"""The contract of data sets that read files: a set that defines nothing, alone and within the sets that ask it."""

import pytest

from data.images.file_set import FileSet
from data.training.fixed_views import FixedViews
from data.training.mixture import Mixture


class Numbers(FileSet):
    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize(
    "asked",
    [Numbers(), FixedViews(Numbers(), 2), Mixture([(Numbers(), 1)], 2)],
    ids=lambda asked: type(asked).__name__,
)
def test_a_set_that_defines_nothing_has_nothing_to_report_and_skips_nothing(asked):
    assert asked.on_bad == "error"
    assert asked.knows_layers is True
    asked.list_files()
    for decode in ({}, {"decode": True}, {"decode": False}):
        assert asked.problems(**decode) == []
        assert asked.look_at_mattes(**decode) == ([], [])
    assert asked.paths() == []


def test_only_sets_with_a_choice_name_its_setting():
    assert Numbers().on_bad_setting == FixedViews(Numbers(), 2).on_bad_setting == ""
    assert Mixture([(Numbers(), 1)], 2).on_bad_setting == "on_bad=skip for each part"
