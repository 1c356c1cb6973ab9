"""Text for people: untrusted text escaped, and quantities with their units.

Names of models, tensors, columns and files come from outside. Control characters move the
cursor and colour the screen, marks of direction turn `exe.png` around, marks without width hide in
words, and a line break pretends to be the next line: each is shown as Python would write it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 2_500
"""Characters of one line of an error."""

COMPARED = 100
"""Characters of a wrong word that are compared with the right ones."""

JSON_ODD = re.compile("[^\\n -~]")
MINUTE = 60


def printable(text: str, keep: str = "") -> str:
    r"""The text in one line, what cannot be seen written out.

    Args:
        text: From anywhere.
        keep: Line breaks or tabs that may stay.

    Example:
        >>> print(printable("a\x1b[31m\nb\u202e"))
        a\x1b[31m\nb\u202e
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def printable_json(text: str) -> str:
    r"""JSON that means the same, what cannot be seen written out.

    Example:
        >>> print(printable_json('"é\u202e\U000e0001"'))
        "é\u202e\udb40\udc01"
    """
    return JSON_ODD.sub(_escaped, text)


def shortened(line: str) -> str:
    """A line without its middle, where it is very long."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 500]} ... {line[-500:]}"


def _escaped(found: re.Match[str]) -> str:
    if found[0].isprintable():
        return found[0]
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def nearest_of(word: str, known: Iterable[str], like: float = 0.6) -> str:
    """`did you mean ...? `, or nothing where no known word is near.

    Args:
        word: The wrong one; of a long one the beginning is compared.
        known: The right ones.
        like: The least likeness, from 0 to 1, of two words that are near.

    Example:
        >>> nearest_of("slrp", ["linear", "slerp"]), nearest_of("x", ["linear"])
        ('did you mean slerp? ', '')
    """
    near = get_close_matches(word[:COMPARED], list(known), 1, like)
    return f"did you mean {near[0]}? " if near else ""


def in_gigabytes(count: int) -> str:
    """Bytes for people.

    >>> in_gigabytes(2_200_000_000), in_gigabytes(1_500)
    ('2.20 GB', '0.002 MB')
    """
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.3f} MB"  # noqa: PLR2004


def in_words(seconds: float) -> str:
    """A duration for people.

    >>> in_words(8.4), in_words(95), in_words(7300)
    ('8 s', '2 min', '2 h 2 min')
    """
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / MINUTE), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
