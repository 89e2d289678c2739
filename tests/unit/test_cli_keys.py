"""`agezero keys` on a real data directory."""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path

import pytest

from agezero.cli.main import run
from agezero.cli.output import CommandFailed, Exit
from agezero.cli.times import seconds
from agezero.database import open_database
from agezero.keys import Denial, Key, KeyStore, Permission

Capture = pytest.CaptureFixture[str]


def keys(data: Path, *arguments: str) -> int:
    return run(["keys", *arguments, "--data", str(data)])


def verify(data: Path, text: str, after_s: float = 0) -> Key | Denial:
    with closing(open_database(data)) as connection:
        return KeyStore(connection).verify(text, time.time() + after_s)


def test_a_key_lives_and_ends(tmp_path: Path, capsys: Capture) -> None:
    assert keys(tmp_path, "create", "web", "--endpoint", "https://cdn.example.com", "--expires-in", "1h") == Exit.OK
    said = capsys.readouterr()
    text = said.out.strip()
    assert re.fullmatch(r"private_[A-Za-z0-9_-]{32}", text)
    assert text not in said.err
    key = verify(tmp_path, text)
    assert isinstance(key, Key)
    assert (key.name, key.may_purge(), key.endpoints) == ("web", True, ("https://cdn.example.com",))
    assert verify(tmp_path, text, 3601) is Denial.EXPIRED

    assert keys(tmp_path, "list") == Exit.OK
    assert re.fullmatch(rf"{key.id}  purge  valid  \d{{4}}-\S+Z  web  https://cdn.example.com\n", capsys.readouterr().out)
    assert keys(tmp_path, "disable", key.id) == Exit.OK
    assert verify(tmp_path, text) is Denial.DISABLED
    assert keys(tmp_path, "enable", key.id) == Exit.OK
    assert keys(tmp_path, "revoke", key.id, "--in", "10m") == Exit.OK
    assert isinstance(verify(tmp_path, text), Key)
    assert verify(tmp_path, text, 601) is Denial.EXPIRED
    assert keys(tmp_path, "revoke", key.id) == Exit.OK
    assert verify(tmp_path, text) is Denial.UNKNOWN


def test_a_key_that_only_reads(tmp_path: Path, capsys: Capture) -> None:
    assert keys(tmp_path, "create", "reader", "--read-only") == Exit.OK
    key = verify(tmp_path, capsys.readouterr().out.strip())
    assert isinstance(key, Key)
    assert not key.may_purge()


@pytest.mark.parametrize("command", ["revoke", "disable", "enable"])
def test_a_key_that_is_not_there(tmp_path: Path, command: str, capsys: Capture) -> None:
    assert keys(tmp_path, command, "00000000") == Exit.FAILED
    assert "hint: `agezero keys list`" in capsys.readouterr().err


def test_a_data_directory_that_is_not_there_is_not_made(tmp_path: Path, capsys: Capture) -> None:
    assert keys(tmp_path / "missing", "create", "web") == Exit.FAILED
    assert "hint: run `agezero up` once" in capsys.readouterr().err
    assert not (tmp_path / "missing").exists()


def test_an_endpoint_that_is_no_url(tmp_path: Path, capsys: Capture) -> None:
    assert keys(tmp_path, "create", "web", "--endpoint", "cdn.example.com") == Exit.FAILED
    assert "the endpoint 'cdn.example.com' is not valid" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "count"), [("", "0"), ("x" * 201, "201")])
def test_a_name_is_given(tmp_path: Path, name: str, count: str, capsys: Capture) -> None:
    assert keys(tmp_path, "create", name) == Exit.FAILED
    assert f"the key's name has {count} characters; expected 1 to 200" in capsys.readouterr().err


def test_a_key_is_listed_in_a_line_whatever_its_name_and_end(tmp_path: Path, capsys: Capture) -> None:
    with closing(open_database(tmp_path)) as connection:
        KeyStore(connection).make("two\nlines", Permission.READ, None, 10**15)
    assert keys(tmp_path, "list") == Exit.OK
    assert re.fullmatch(r"\w{8}  read  valid  9999-12-31T23:59:59Z  two lines\n", capsys.readouterr().out)


def test_a_key_lasts_ten_years_at_most(tmp_path: Path, capsys: Capture) -> None:
    assert keys(tmp_path, "create", "web", "--expires-in", "3661d") == Exit.USAGE
    assert "'3661d' is too long" in capsys.readouterr().err
    assert keys(tmp_path, "create", "web", "--expires-in", "3660d") == Exit.OK


def test_a_database_that_takes_nothing_is_no_bug(tmp_path: Path, capsys: Capture) -> None:
    assert keys(tmp_path, "list") == Exit.OK
    with closing(open_database(tmp_path)) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON keys BEGIN SELECT RAISE(ABORT, 'attempt to write'); END")
    assert keys(tmp_path, "create", "web") == Exit.FAILED
    assert "agezero.sqlite3 cannot be used: attempt to write\nhint: " in capsys.readouterr().err


def test_times() -> None:
    assert [seconds(text) for text in ("0s", "30s", "15m", "24h", "7d")] == [0, 30, 900, 86400, 604800]
    for text in ("", "7", "d", "-1d", "1.5h", "1w", "1h "):
        with pytest.raises(CommandFailed):
            seconds(text)


def test_a_key_is_rolled(tmp_path: Path, capsys: Capture) -> None:
    assert keys(tmp_path, "create", "boss", "--permission", "admin") == Exit.OK
    old = capsys.readouterr().out.strip()
    key = verify(tmp_path, old)
    assert isinstance(key, Key)
    assert key.may_administer()
    assert keys(tmp_path, "roll", key.id, "--overlap", "1h") == Exit.OK
    new = capsys.readouterr().out.strip()
    assert verify(tmp_path, old, 3601) is Denial.EXPIRED
    rolled = verify(tmp_path, new, 3601)
    assert isinstance(rolled, Key)
    assert rolled.may_administer()
    assert keys(tmp_path, "roll", rolled.id, "--overlap", "now") == Exit.OK
    assert verify(tmp_path, new) is Denial.UNKNOWN
    assert keys(tmp_path, "roll", rolled.id) == Exit.FAILED
    assert "there is no key" in capsys.readouterr().err


def test_the_words_for_permissions(tmp_path: Path, capsys: Capture) -> None:
    assert keys(tmp_path, "create", "web", "--permission", "write") == Exit.OK  # ImageKit's word
    assert keys(tmp_path, "create", "web", "--permission", "root") == Exit.USAGE
    assert "expected read, purge or admin" in capsys.readouterr().err
