"""Small files that only their owner may read."""

import os
from collections.abc import Callable
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step; it is never readable by others, nor half written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def kept_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The secret in this file; made and written the first time."""
    if not path.exists():
        write_private(path, make())
    return path.read_bytes()
