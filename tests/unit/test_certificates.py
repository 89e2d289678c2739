"""Certificate files: what is said of those that can't be used, and when a new one is taken up."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from agezero import tls
from agezero.tls import CertificateFiles, CertificateUnusable, certificate_files, follow, named_files
from support.certificates import Authority


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    Authority(tmp_path / "ca").server("IP:127.0.0.1")
    return CertificateFiles(tmp_path / "ca" / "server.pem", tmp_path / "ca" / "server.key", ("api.tls_certificate", "api.tls_key"))


def fault(files: CertificateFiles) -> str:
    with pytest.raises(CertificateUnusable) as caught:
        files.check()
    assert caught.value.hint
    return caught.value.message


def test_files_that_belong_together_are_right(files: CertificateFiles) -> None:
    files.check()
    assert certificate_files(str(files.certificate), str(files.key), "api") == files
    assert certificate_files("", "", "api") is named_files("x", "", "api") is None


def test_a_missing_file_is_named_with_its_setting(files: CertificateFiles) -> None:
    files.key.unlink()
    assert fault(files) == f"the file {files.key} (api.tls_key) cannot be read: no such file or directory"


def test_a_key_of_another_certificate(files: CertificateFiles, tmp_path: Path) -> None:
    Authority(tmp_path / "other").server("IP:127.0.0.1")
    shutil.copy(tmp_path / "other" / "server.key", files.key)
    assert "does not belong to the certificate" in fault(files)


def test_what_is_no_pem(files: CertificateFiles) -> None:
    key = files.key.read_bytes()
    files.key.write_text("nothing")
    assert "server.key (api.tls_key) holds no private key" in fault(files)
    files.key.write_bytes(key)
    files.certificate.write_bytes(key)
    assert "server.pem (api.tls_certificate) holds no certificate" in fault(files)


def test_a_key_with_a_password(files: CertificateFiles) -> None:
    command = ("openssl", "pkey", "-in", files.key, "-aes256", "-passout", "pass:secret", "-out", files.key.with_suffix(".locked"))
    subprocess.run(command, check=True, capture_output=True)
    files.key.with_suffix(".locked").replace(files.key)
    assert "is protected by a password" in fault(files)


def test_a_change_is_taken_up_once_both_files_belong_together(files: CertificateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LOOK_S", 0.005)
    Authority(tmp_path / "other").server("IP:127.0.0.1")
    taken: list[bytes] = []
    looks = asyncio.Semaphore(0)
    stamp = CertificateFiles.stamp

    def counted(self: CertificateFiles) -> tuple[object, ...]:
        looks.release()
        return stamp(self)

    monkeypatch.setattr(CertificateFiles, "stamp", counted)

    async def taking() -> None:
        taken.append(files.certificate.read_bytes())

    async def looked(times: int) -> None:
        while not looks.locked():
            await looks.acquire()
        for _ in range(times):
            await looks.acquire()

    async def story() -> None:
        following = asyncio.create_task(follow(files, taking))
        await looked(4)
        shutil.copy(tmp_path / "other" / "server.key", files.key)
        await looked(5)
        assert not taken  # the key alone is of no use
        shutil.copy(tmp_path / "other" / "server.pem", files.certificate)
        async with asyncio.timeout(30):
            while not taken:
                await looked(1)
        await looked(5)
        following.cancel()

    asyncio.run(story())
    assert taken == [(tmp_path / "other" / "server.pem").read_bytes()]
