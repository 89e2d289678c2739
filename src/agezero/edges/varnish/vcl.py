"""Writes agezero.vcl out, the one file that a user includes: its parts in a row. What VCL has no loops and no constants for is filled in here."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib import resources

URLS_MAX = 32
"""In one command."""
PLACES = 8
"""Of recent purges of prefixes, hosts and everything, and as many of tags."""
PARTS = ("start", "agent", "requests", "fetches")
"""Varnish's subs of one name are joined in their order; no part has one that another has."""
SAFEGUARDS = frozenset({"counter", "young", "fence", "spelling", "validators", "token", "boot", "foreign", "named"})

_COUNTER = "4000000000, 100000000000y"
"""Tokens that never come back: the highest number, as the module truncates to 32 bits, and a period in which none is ever refilled."""
_RECENT = "1000, 2000s"
"""A token comes back after 2 s: one is missing as long as the last was taken more recently."""
_SAFEGUARD = re.compile(r"^#\+(\w+)\n(.*?)^#-\1\n", re.DOTALL | re.MULTILINE)
_BUMP = """\
    if (req.http.AgeZero-{number}) {{
#+counter
        if (vsthrottle.is_denied(req.http.AgeZero-Kind + req.http.AgeZero-{number}, @COUNTER@)) {{
            return (synth(503, "a counter is at its end"));
        }}
#-counter
        if (vsthrottle.remaining("w" + req.http.AgeZero-{number}, @RECENT@) < 1000) {{
            set req.http.AgeZero-Again = "1";
        }}
    }}
"""
WIDE_PLACES = tuple(f"wide{number}" for number in range(1, PLACES + 1))
TAG_PLACES = tuple(f"tag{number}" for number in range(1, PLACES + 1))

_WIDE_PLACE = """\
        if (str.startswith(req.http.AgeZero-Bones, var.global_get("agezero_wide{number}") + "")
            && std.integer(req.http.AgeZero-Order, 4294967295) > std.integer(var.global_get("agezero_limit_wide{number}"), -1)) {{
            set req.http.AgeZero-Gone = "wide";
        }}
"""
_TAG_PLACE = """\
        if (str.contains(req.http.AgeZero-Bones, " " + var.global_get("agezero_tag{number}") + " ")
            && std.integer(req.http.AgeZero-Order, 4294967295) > std.integer(var.global_get("agezero_limit_tag{number}"), -1)) {{
            set req.http.AgeZero-Gone = "tag";
        }}
"""
_CANARY = """
    if (var.get("agezero_url") ~ "^[^/]*/\\.well-known/agezero/") {
        set bereq.backend = agezero_canary;
    }"""
_CANARY_BACKEND = """
# Where `agezero doctor` answers in your origin's place. Nobody listens there at other times.
backend agezero_canary {{
    .host = "{host}";
    .port = "{port}";
}}
"""


def vcl(canary: str = "", without: Collection[str] = ()) -> str:
    """The text of agezero.vcl. ``canary``: HOST:PORT; ``without``: safeguards to take away, for the tests that show that they are needed."""
    assert SAFEGUARDS.issuperset(without)
    text = "".join(resources.files(__package__).joinpath(f"{part}.vcl").read_text() for part in PARTS)
    host, _, port = canary.rpartition(":")
    values = {
        "BUMPS": "".join(_BUMP.format(number=number) for number in range(1, URLS_MAX + 1)).rstrip(),
        "EMPTY_PLACES": "\n".join(f'        var.global_set("agezero_{place}", "!");' for place in (*WIDE_PLACES, *TAG_PLACES)),
        "WIDE_PLACES": "".join(_WIDE_PLACE.format(number=number) for number in range(1, PLACES + 1)).rstrip(),
        "TAG_PLACES": "".join(_TAG_PLACE.format(number=number) for number in range(1, PLACES + 1)).rstrip(),
        "CANARY": _CANARY if canary else "",
        "CANARY_BACKEND": _CANARY_BACKEND.format(host=host.strip("[]"), port=port) if canary else "",
    }
    text = re.sub(r"@(BUMPS|EMPTY_PLACES|WIDE_PLACES|TAG_PLACES|CANARY|CANARY_BACKEND)@", lambda match: values[match[1]], text)
    text = _SAFEGUARD.sub(lambda match: "" if match[1] in without else match[2], text)
    return text.replace("@COUNTER@", _COUNTER).replace("@RECENT@", _RECENT)
