"""Scripts that read counters: `ratelimit` counts, `control` tells what was counted."""

from pathlib import Path
from typing import Final

_READING: Final = Path(__file__).with_name("counters.lua")


def counter_script(own: Path) -> str:
    """The script in the file `own`, behind what it reads counters with."""
    return _READING.read_text("utf-8") + own.read_text("utf-8")
