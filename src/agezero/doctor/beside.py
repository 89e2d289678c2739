"""The doctor beside a service that runs: it asks it by its API, as any client does, and leaves the edge's lease to it.

Who may read the data directory may make keys, so the doctor makes one for itself, which may purge its canary alone, and revokes it at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from agezero.client import AsyncClient, ClientError, Denied
from agezero.config import Config
from agezero.config.edges import CANARY_PATH, ExternalEdge
from agezero.database import open_database
from agezero.errors import UserError
from agezero.keys import KeyStore, Permission
from agezero.ports import DriverFailed
from agezero.wire import Edge

KEY_NAME = "agezero doctor"
KEY_S = 600
KNOWN_S = 10.0
"""A running service notices a new key within two seconds."""
KNOWN_PAUSE_S = 0.5
APPLY_S = 10.0
SERVING_S = 10.0
LOOK_S = 0.05
_SERVES = "leased"


@contextlib.asynccontextmanager
async def beside(config: Config, options: ExternalEdge, url: str = "") -> AsyncIterator[Beside]:
    """The service that has the data directory answers at ``url``. Raises :class:`UserError`."""
    scheme = "https" if config.api.tls_certificate else "http"
    with _key(config, options) as key:
        async with AsyncClient(url or f"{scheme}://{config.api.listen}", key, patience_s=KNOWN_S) as client:
            with _in_words():
                await _known(client)
            yield Beside(client, options.name)


@contextlib.contextmanager
def _key(config: Config, options: ExternalEdge) -> Iterator[str]:
    with contextlib.closing(open_database(config.data_dir)) as connection:
        keys = KeyStore(connection)
        new = keys.make(KEY_NAME, Permission.PURGE, [options.front.rstrip("/") + CANARY_PATH] if options.front else [], int(time.time()) + KEY_S)
        try:
            yield new.text
        finally:
            keys.revoke(new.key.id, time.time())


async def _known(client: AsyncClient) -> None:
    """Return once the service accepts our key."""
    deadline_s = time.monotonic() + KNOWN_S
    while True:
        try:
            await client.edges()
            return
        except Denied:
            if time.monotonic() > deadline_s:
                raise
        await asyncio.sleep(KNOWN_PAUSE_S)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        hint = error.hint or "is it the service of this data directory? --url gives its address"
        raise UserError(f"a service has the data directory, but it can not be asked: {error}", hint) from None


class Beside:
    """Implements :class:`agezero.doctor.patient.Hands`."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client, self._name = client, name

    async def serving(self) -> str:
        """See Hands."""
        deadline_s = time.monotonic() + SERVING_S
        while (edge := await self._edge()).state != _SERVES or edge.trouble:
            if time.monotonic() > deadline_s:
                raise DriverFailed(edge.trouble or f"it holds no lease: it is {edge.state}")
            await asyncio.sleep(LOOK_S)
        return ""

    async def purge(self, url: str) -> None:
        """See Hands. Other edges are not waited for."""
        deadline_s = time.monotonic() + APPLY_S
        with _failing():
            purge = await self._client.purge(urls=[url], note=KEY_NAME)
            while True:
                edge = next((edge for edge in (await purge.status()).edges if edge.name == self._name), None)
                if edge is not None and edge.state == "confirmed":
                    return
                if time.monotonic() > deadline_s:
                    raise DriverFailed((edge and edge.why) or f"the purge was not confirmed within {APPLY_S:g} s")
                await asyncio.sleep(LOOK_S)

    async def fence(self) -> bool:
        """See Hands."""
        return False

    async def _edge(self) -> Edge:
        with _failing():
            found = [edge for edge in await self._client.edges() if edge.name == self._name]
        if not found:
            raise DriverFailed(f"the service that runs has no edge {self._name}\nhint: restart it, so that it reads the settings again")
        return found[0]


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise DriverFailed(f"the service answered: {error}" + (f"\nhint: {error.hint}" if error.hint else "")) from None
