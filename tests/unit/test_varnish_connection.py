"""What is written to Varnish is one request, whatever the values of its headers."""

from __future__ import annotations

import h11
import pytest

from agezero.edges.varnish.connection import _request

HEADERS = {"AgeZero-Seq": "7", "AgeZero-Keys": "az1 az2"}


def test_a_parser_reads_what_was_meant() -> None:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(_request("/urls", HEADERS))
    request = parser.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (b"AGEZERO", b"/urls")
    assert dict(request.headers) == {b"host": b"agezero", b"agezero-seq": b"7", b"agezero-keys": b"az1 az2"}
    assert isinstance(parser.next_event(), h11.EndOfMessage)


@pytest.mark.parametrize("value", ["1\r\nAgeZero-Token: 9", "1\n", "1\r"])
def test_a_value_that_ends_its_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="end of a line"):
        _request("/urls", {"AgeZero-Seq": value})
