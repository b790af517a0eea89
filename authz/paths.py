r"""Is this path the same path for everyone who reads it?

Envoy chooses the route by the path it has normalised; the upstream reads the path
again, with other rules. Where the two could differ, a request reaches what the route
did not stand for (CWE-22, CWE-436; Orange Tsai, "Breaking Parser Logic", 2018). Such a
path is refused rather than repaired:

1. no backslash, no `//`, no `#`, nothing but visible ASCII before decoding;
2. every `%` begins an escape, and one decoding leaves no `%` (double encoding), no `/`
   or `\` that was escaped, no control character, and is UTF-8;
3. no segment is made of dots, or of nothing but `;` parameters: neither before
   parameters (`..;x`), nor beside blanks, nor after Unicode compatibility folding (a
   full-width dot).
"""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

_VISIBLE = re.compile(r"/[!-~]*", re.ASCII)
#: Segments of letters, digits, "-" and "_": most paths, and nothing to find in them.
_PLAIN = re.compile(r"(/[A-Za-z0-9_-]+)+/?", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED_SEPARATOR = re.compile(r"%(2f|5c)", re.IGNORECASE)
_DOTS = re.compile(r"[.\s]*\.[.\s]*")


def refusal(target: str) -> str | None:
    """Why a request target's path is refused; None: it has one reading."""
    path = target.partition("?")[0]
    if _PLAIN.fullmatch(path):
        return None
    return _raw_refusal(path) or _decoded_refusal(path)


def _raw_refusal(path: str) -> str | None:
    if not path.startswith("/"):
        return "path_not_absolute"
    if not _VISIBLE.fullmatch(path) or "#" in path:
        return "path_characters"
    if "\\" in path or _ESCAPED_SEPARATOR.search(path):
        return "path_separator"
    if _BAD_ESCAPE.search(path):
        return "path_escape"
    return None


def _decoded_refusal(path: str) -> str | None:
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return "path_not_utf8"
    if "%" in decoded:
        return "path_double_encoding"
    if any(unicodedata.category(character) == "Cc" for character in decoded):
        return "path_control"
    folded = unicodedata.normalize("NFKC", decoded)
    if "//" in decoded or "\\" in folded or folded.count("/") != decoded.count("/"):
        return "path_separator"
    for segment in folded.split("/"):
        name, separator, _ = segment.partition(";")
        if _DOTS.fullmatch(name) or (separator and not name.strip()):
            return "path_dots"
    return None
