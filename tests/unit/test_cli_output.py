"""What is shown where: colours, the bar and its lines, times."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest
import typer

from agezero.cli import output, progress
from agezero.cli.times import moment, span
from agezero.wire import EdgeProgress, PurgeDetail


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    """Stderr from now on."""
    stream = _Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return stream


def detail(*states: str) -> PurgeDetail:
    edges = [EdgeProgress(f"e{n}", 0, state, None, "", (), "refused" if n == 0 else "") for n, state in enumerate(states)]  # type: ignore[arg-type]
    return PurgeDetail("0" * 24, "pending", True, "hard", (), "", "", None, None, None, None, edges)


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    output.error("no", "yes")
    assert stream.getvalue() == "\x1b[1;31merror:\x1b[0m no\n\x1b[36mhint:\x1b[0m yes\n"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as without:
            without.setenv(name, value)
            assert output.painted("x", "bad") == "x"
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert output.painted("x", "bad") == "x"


def test_what_somebody_else_wrote_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[2Jb\x9b1Ac\x00\r\x1b]0;d\x07 \u00e9\t"
    output.data(hostile)
    output.note(hostile)
    output.table(("name", "id"), [[hostile, "x"]])
    said = capsys.readouterr()
    assert not set("\x00\x07\r\x1b\x9b") & set(said.out + said.err)
    assert said.err == "a\\x1b[2Jb\\x9b1Ac\\x00\\x0d\\x1b]0;d\\x07 \u00e9\t\n"


def test_json_stays_json_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    notes = ["\u00e9", "a\x7fb\x9b2J\u00e9", "a\x1b\x00\n\\x"]
    output.json_lines({"note": note} for note in notes)
    said = capsys.readouterr().out
    assert [json.loads(line)["note"] for line in said.splitlines()] == notes
    assert not set("\x7f\x9b\x1b\x00") & set(said)
    assert "\u00e9" in said.splitlines()[0]


def test_a_bar_names_who_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with progress.display() as shown:
        shown.show(*progress.told(detail("pending", "confirmed", "fenced")))
    said = stream.getvalue()
    assert "1 of 3 edges confirmed; fenced: e2; awaited: e0 (refused)" in said
    assert "━" in said


def test_without_a_terminal_there_is_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.display() as shown:
        for states in (("pending", "pending"), ("pending", "pending"), ("pending", "confirmed")):
            shown.show(*progress.told(detail(*states)))
    assert capsys.readouterr().err.splitlines() == [
        "0 of 2 edges confirmed; awaited: e0 (refused), e1 (still applying)",
        "1 of 2 edges confirmed; awaited: e0 (refused)",
    ]


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_gets_lines(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    monkeypatch.setenv("TERM", term or "dumb")
    if not term:
        monkeypatch.delenv("TERM")
    with progress.display() as shown:
        shown.show(1, 2, "words")
    assert stream.getvalue() == "words\n"


def test_times() -> None:
    assert [span(text) for text in ("60", "500ms", "60s", "1.5m", "1h", 60)] == [60, 0.5, 60, 90, 3600, 60]
    assert moment("2026-01-31T12:00:00+01:00") == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert moment("2026-01-31").tzinfo is UTC
    assert moment("1d") < moment("1h") < datetime.now(UTC)
    for text in ("soon", "-1s", "1w", "", "99999999999h"):
        with pytest.raises(typer.BadParameter):
            span(text)
        with pytest.raises(typer.BadParameter):
            moment(text)
