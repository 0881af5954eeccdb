"""Errors and names in messages of one line."""

from runtime.text import one_line


def test_an_error_of_many_lines_becomes_one_and_an_empty_one_its_type():
    assert one_line(ValueError("expected\n  a file,\tfound none\n")) == "expected a file, found none"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
