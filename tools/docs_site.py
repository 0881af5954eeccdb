"""The site's additions to mkdocs (mkdocs.yml): links to files outside docs/, and examples of docstrings.

The site has the pages alone, and the address of the repository is not known, so a link to a file outside docs/ becomes
the name of the file. In the repository itself, these links work. A link to a file that does not exist is a
warning, which `mkdocs build --strict` treats as an error.
"""

import logging
import os.path
import re
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)\s#]+)(#[^)\s]*)?\)")
logger = logging.getLogger("mkdocs.plugins.docs_site")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Called by mkdocs with the text of each page."""
    return name_files(markdown, f"docs/{page.file.src_uri}")


def name_files(markdown: str, source: str, root: Path = ROOT) -> str:
    """A page in which each link to a file that is not below docs/ is text.

    Args:
        markdown: the page.
        source: its path below `root`, as docs/PAGE.md.
        root: root folder of the repository.

    Example:
        >>> name_files("See [the licence](../LICENSE) and [data](data.md).", "docs/index.md")
        'See the licence (`LICENSE`) and [data](data.md).'
    """

    def named(link: re.Match) -> str:
        text, target, _ = link.groups()
        path = os.path.normpath(f"{os.path.dirname(source)}/{target}")
        if path.startswith("docs/"):
            return link.group()
        if path.startswith("..") or not (root / path).exists():
            logger.warning("%s links to %s, which does not exist", source, target)
        return text if path in text else f"{text} (`{path}`)"

    return LINK.sub(named, markdown)


class Examples(griffe.Extension):
    """Shows the section `Example:` of a docstring as code; griffe knows it as `Examples:`."""

    def on_instance(self, *, obj: griffe.Object, **_) -> None:
        """Called by griffe with each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
