"""The contract of data sets that read files: they can name those that are of no use before hours are spent."""

from pathlib import Path


class FileSet:
    """A data set whose items are read from files.

    Attributes:
        on_bad: "error" where a bad file ends the run, "skip" where other files take its place.
        on_bad_setting: how a config makes it skip bad files, for messages; empty where it cannot.
        knows_layers: whether `fg` and `bg` of samples that have them are true, not the image in their place.
    """

    on_bad: str = "error"
    on_bad_setting: str = ""
    knows_layers: bool = True

    def problems(self, decode: bool = True) -> list[str]:
        """One line for each file that cannot be used; with `decode=False` from the headers only."""
        return []

    def look_at_mattes(self, decode: bool = True) -> tuple[list[str], list[str]]:
        """Lines on mattes whose values are refused, and remarks on what is read unusually or passed over.

        Args:
            decode: look at all mattes, not at some.
        """
        return [], []

    def paths(self) -> list[Path]:
        """The files that samples are read from; a set that does not list them cannot notice that they changed."""
        return []

    def list_files(self) -> None:
        """Look which files there are, in one process before others start."""
