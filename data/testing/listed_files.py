"""Base class of test sets that list their files at first use."""

from typing import Any

from data.images.file_set import FileSet


class ListedFiles(FileSet):
    """A sequence of items with files. The constructor does not access the disk; a subclass defines `_list_files`."""

    listed: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.files())

    def files(self) -> list[Any]:
        """Paths of every item, in the order of names.

        Raises:
            InputError: a folder is missing or has no image, or partners are missing; the message names the first few.
        """
        if self.listed is None:
            self.listed = self._list_files()
        return self.listed

    def _list_files(self) -> list[Any]:
        raise NotImplementedError
