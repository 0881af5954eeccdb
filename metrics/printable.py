"""Names of files as text that a terminal or a document can show."""


def printable(name: str) -> str:
    """Spell out what cannot be shown: bytes that are not text, line breaks, marks that turn the writing direction."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
