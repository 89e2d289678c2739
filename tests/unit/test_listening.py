from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agezero import listening
from agezero.errors import UserError
from agezero.http.listeners import bind


def test_who_listens_is_known_by_name_and_id() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert listening.holder(port) == "", "bound, and not listening"
        listener.listen()
        assert listening.holder(port).endswith(f" (pid {os.getpid()})")
    assert listening.holder(port) == ""


def _process(proc: Path, comm: str, table: str) -> None:
    (proc / "net").mkdir()
    line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0\n"
    (proc / "net" / table).write_text(f"  sl  local_address rem_address\n{line}")
    (proc / "812" / "fd").mkdir(parents=True)
    (proc / "812" / "fd" / "7").symlink_to("socket:[4711]")
    (proc / "812" / "comm").write_text(f"{comm}\n")
    (proc / "812" / "exe").symlink_to("/usr/bin/traffic_server")


@pytest.mark.parametrize("table", ["tcp", "tcp6"])
@pytest.mark.parametrize(("comm", "named"), [("nginx", "nginx (pid 812)"), ("[TS_MAIN]", "traffic_server (pid 812)")])
def test_a_program_that_hides_its_name_is_called_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comm: str, named: str, table: str
) -> None:
    """Traffic Server's default port is that of the API."""
    _process(tmp_path, comm, table)
    monkeypatch.setattr(listening, "PROC", tmp_path)
    assert (listening.holder(8080), listening.holder(8081)) == (named, "")


def test_where_it_can_not_be_known_the_hint_says_how_to_find_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PROC", tmp_path / "nowhere")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError) as caught:
            bind("127.0.0.1", port)
    assert caught.value.hint.startswith(
        f"another program uses port {port} (`ss -ltnp 'sport = :{port}'` names it, as root): end it, or choose another"
    )
