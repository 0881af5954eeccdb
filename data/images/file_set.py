"""Contract of data sets that read files, with which unusable files are found before training starts."""

from pathlib import Path


class FileSet:
    """A data set whose items are read from files.

    Attributes:
        on_bad: "error" if an unusable file ends the run, "skip" if another file replaces it.
        on_bad_setting: setting with which a config skips unusable files, for messages; empty if there is none.
        knows_layers: whether `fg` and `bg` of samples are the true layers and not the image itself.
    """

    on_bad: str = "error"
    on_bad_setting: str = ""
    knows_layers: bool = True

    def problems(self, decode: bool = True) -> list[str]:
        """One line for each unusable file. With `decode=False` only headers are read."""
        return []

    def look_at_mattes(self, decode: bool = True) -> tuple[list[str], list[str]]:
        """Check the values of mattes.

        Args:
            decode: whether all mattes are read and not only a sample.

        Returns:
            One line for each refused matte, and remarks on ignored files and on files read in an unusual way.
        """
        return [], []

    def paths(self) -> list[Path]:
        """Files from which samples are read. Changes of files that are not listed here are not noticed."""
        return []

    def list_files(self) -> None:
        """List the files, in one process before the others start."""
