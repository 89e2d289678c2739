"""Are the files of ``[nats]`` what they should be? The client that reads them says nothing that helps, or looks for ever for what isn't there."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

from agezero.errors import UserError

_SEED = re.compile(rb"SU[A-Z2-7]{56}")
_JWT = re.compile(rb"-----BEGIN NATS USER JWT-----\n([\w-]+\.[\w-]+\.[\w-]+)\n")
_SEED_IN_CREDS = re.compile(rb"-----BEGIN USER NKEY SEED-----\n(\S+)\n")
_CHECKSUM_BYTES = 2


def check_nkey_file(path: str) -> None:
    """Raises :class:`UserError`."""
    if (wrong := _wrong_seed(_read("nkey_file", path).strip())) is not None:
        raise UserError(
            f"nats.nkey_file: {path} {wrong}; expected the seed of a user's nkey alone: 58 characters that begin with SU",
            "make one with: nk -gen user; the servers get its public part",
        )


def check_creds_file(path: str) -> None:
    """Raises :class:`UserError`."""
    data = _read("creds_file", path)
    seed = _SEED_IN_CREDS.search(data)
    wrong = "has no user's JWT" if not _JWT.search(data) else "has no seed" if seed is None else _wrong_seed(seed[1])
    if wrong is not None:
        raise UserError(
            f"nats.creds_file: {path} {wrong}; expected a user's JWT and seed between lines of dashes, as nsc writes them",
            "make it with: nsc generate creds --account NAME --name USER; for a bare seed there is nats.nkey_file",
        )


def _wrong_seed(text: bytes) -> str | None:
    """The last two bytes are a checksum of the others (CRC-16/XMODEM, little-endian)."""
    if not text:
        return "is empty"
    if not _SEED.fullmatch(text):
        return "holds no seed of a user"
    raw = base64.b32decode(text + b"=" * (-len(text) % 8))
    kept = int.from_bytes(raw[-_CHECKSUM_BYTES:], "little")
    return None if binascii.crc_hqx(raw[:-_CHECKSUM_BYTES], 0) == kept else "holds a seed with a typing error (its checksum is wrong)"


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"nats.{setting}: {path} can't be read: {error.strerror}", "correct the path, or who may read the file") from None
