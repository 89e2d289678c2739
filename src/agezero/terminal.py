"""What others wrote, such as notes, paths of requests and answers of webhooks, on a terminal: shown, and not obeyed."""

from __future__ import annotations

import re

CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"
"""All but tab and line feed; with ESC and CSI, which begin what moves a cursor, paints, or names a window."""
_CONTROL = re.compile(CONTROL)


def harmless(text: str, control: re.Pattern[str] = _CONTROL) -> str:
    """Each character of ``control`` as an escape such as ``\\x1b``."""
    return control.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
