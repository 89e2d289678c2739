"""No key gets into the log, whatever it hides in; and what is logged can be read by people and by programs."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from agezero import logs

KEY = "private_AbCdEf0123456789_-AbCdEf0123"
GIVEN = "a key that somebody chose"
SECRETS = (KEY, GIVEN, "whsec_c2VjcmV0c2VjcmV0c2VjcmV0", "Basic cHJpdmF0ZV94Og==", "basic   cHJpdmF0ZV94Og==")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", GIVEN)
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    yield
    structlog.configure(**before)
    logging.root.handlers, logging.root.level = handlers, level


def written(monkeypatch: pytest.MonkeyPatch, form: logs.Form, stream: io.StringIO | None = None) -> io.StringIO:
    stream = io.StringIO() if stream is None else stream
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(form=form)
    return stream


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_written(monkeypatch: pytest.MonkeyPatch, form: logs.Form, secret: str) -> None:
    stream = written(monkeypatch, form)
    log = structlog.get_logger()
    log.info(f"in the text {secret}")
    log.info("x", text=secret, listed=["a", secret], pair=(secret, 1), inside={"header": secret, secret: 1}, raw=f"a {secret}".encode())
    logging.getLogger("a.library").warning("it said %s", secret)
    try:
        raise ValueError(f"a fault about {secret}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("a.library").exception("failed")
    assert secret not in stream.getvalue()
    assert stream.getvalue().count("[private key]") >= 6


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_a_stranger_sent_moves_no_cursor(monkeypatch: pytest.MonkeyPatch, form: logs.Form) -> None:
    stream = written(monkeypatch, form)
    structlog.get_logger().info("request\x1b[2J", path="/\x1b]0;x\x07\x9b1A", inside={"a": ["\x1b"]})
    logging.getLogger("a.library").warning("it said \x1b[2J")
    try:
        raise ValueError("a fault about \x1b[2J")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert not set("\x1b\x07\x9b") & set(stream.getvalue())
    if form == "json":
        assert json.loads(stream.getvalue().splitlines()[0])["path"] == "/\x1b]0;x\x07\x9b1A"
    else:
        assert "path=/\\x1b]0;x\\x07\\x9b1A" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_has_no_variables(monkeypatch: pytest.MonkeyPatch, form: logs.Form) -> None:
    stream = written(monkeypatch, form, Terminal())
    _fail(b"something that nobody would know for a key")
    said = stream.getvalue()
    assert "a fault" in said
    assert "_fail" in said
    assert "nobody would know" not in said


def test_what_structlog_would_do_by_itself_shows_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: its own renderer for people prints the variables of each frame, and so whatever key is in one."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    structlog.configure(processors=[structlog.dev.ConsoleRenderer()], logger_factory=structlog.PrintLoggerFactory(stream))
    _fail(b"something that nobody would know for a key")
    assert "nobody would know" in stream.getvalue()


def _fail(header: bytes) -> None:
    try:
        raise ValueError("a fault")
    except ValueError:
        structlog.get_logger().exception("failed", length=len(header))


@pytest.mark.parametrize(
    ("form", "terminal", "is_json"), [("auto", True, False), ("auto", False, True), ("json", True, True), ("text", False, False)]
)
def test_the_form(monkeypatch: pytest.MonkeyPatch, form: logs.Form, terminal: bool, is_json: bool) -> None:
    stream = written(monkeypatch, form, Terminal() if terminal else io.StringIO())
    structlog.get_logger().info("edge following", edge="front-1", watermark=7)
    logging.getLogger("a.library").warning("hm")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("{") == lines[1].startswith("{") == is_json
    assert ("\x1b[" in lines[0]) == (terminal and not is_json)
    if is_json:
        told = json.loads(lines[0])
        assert (told["event"], told["level"], told["edge"], told["watermark"]) == ("edge following", "info", "front-1", 7)
        assert told["timestamp"].endswith("Z")
