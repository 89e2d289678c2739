"""What control nodes share in one document each: the first key, and the sessions that were ended."""

from __future__ import annotations

import asyncio
import secrets
from asyncio import AbstractEventLoop
from collections.abc import Iterator

import msgspec
import pytest

from agezero.console.ended import ENDED, ENDED_MAX, EndedEverywhere
from agezero.errors import UserError
from agezero.fleet_nats import SECRET, shared_secret
from agezero.jetstream.stream import LARGEST_ENTRY_BYTES
from agezero.keys import Denial, Key
from agezero.ports import BoardUnavailable
from agezero.shared_keys import PREFIX, SharedKeys
from support.documents import MemoryDocuments, loop_of_its_own

NOW_S = 1_800_000_000
ROOM_BYTES = 1024
"""For the subject and the headers."""


class DyingDocuments(MemoryDocuments):
    """Takes ``left`` more writes; None: all."""

    left: int | None = None

    async def put(self, name: str, data: bytes, after: int) -> int:
        if self.left == 0:
            raise BoardUnavailable("the node dies here")
        self.left = None if self.left is None else self.left - 1
        return await super().put(name, data, after)


@pytest.fixture(scope="module")
def loop() -> Iterator[AbstractEventLoop]:
    with loop_of_its_own() as running:
        yield running


@pytest.mark.parametrize("writes", [0, 1])
def test_wherever_the_first_node_dies_there_is_a_first_key_or_the_next_one_makes_it(loop: AbstractEventLoop, writes: int) -> None:
    documents = DyingDocuments()
    documents.left = writes
    try:
        text = SharedKeys(documents, loop).first()
    except BoardUnavailable:
        documents.left = None
        text = SharedKeys(documents, loop).first()
    assert text
    assert isinstance(SharedKeys(documents, loop).verify(text, NOW_S), Key)


def test_of_two_nodes_that_start_at_once_one_makes_the_first_key(loop: AbstractEventLoop) -> None:
    class SeesNothingYet(MemoryDocuments):
        def names(self, prefix: str) -> list[str]:  # noqa: ARG002
            return []

    documents = SeesNothingYet()
    left, right = (SharedKeys(documents, loop) for _ in range(2))
    assert left.first()
    assert right.first() is None
    assert len(MemoryDocuments.names(documents, PREFIX)) == 1


def test_no_first_key_is_made_where_all_are_revoked(loop: AbstractEventLoop) -> None:
    documents = MemoryDocuments()
    keys = SharedKeys(documents, loop)
    assert keys.first()
    assert keys.revoke(keys.list()[0].id, NOW_S)
    assert SharedKeys(documents, loop).first() is None
    assert keys.list() == []


def test_the_sessions_that_were_ended_fit_into_one_entry(loop: AbstractEventLoop) -> None:
    documents = MemoryDocuments()
    full = {secrets.token_urlsafe(16): 99_999_999_999 for _ in range(ENDED_MAX)}
    oldest = next(iter(full))
    ended = EndedEverywhere(documents, loop)
    asyncio.run_coroutine_threadsafe(documents.put(ENDED, msgspec.json.encode(full), 0), loop).result(10)
    ended.add("n" * 22, 99_999_999_999, NOW_S)
    document = documents.get(ENDED)
    assert document
    assert len(document.data) < LARGEST_ENTRY_BYTES - ROOM_BYTES
    assert "n" * 22 in ended
    assert oldest not in ended


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b'{"name":"a","hash":"zz","permission":"purge","created_at":1}', b'{"permission":"of a newer version"}']
)
def test_a_key_that_is_not_understood_is_none_and_the_others_are(loop: AbstractEventLoop, data: bytes) -> None:
    documents = MemoryDocuments()
    keys = SharedKeys(documents, loop)
    text = keys.first()
    assert text
    asyncio.run(documents.put(f"{PREFIX}0a0a0a0a", data, 0))
    for each in (keys, SharedKeys(documents, loop)):
        assert isinstance(each.verify(text, NOW_S), Key)
        assert [key.name for key in each.list()] == ["first"]
        assert not each.revoke("0a0a0a0a", NOW_S)
    assert keys.revoke(keys.list()[0].id, NOW_S)
    assert keys.verify(text, NOW_S) is Denial.UNKNOWN


def test_a_secret_that_was_deleted_is_made_anew_and_a_damaged_one_is_told_of() -> None:
    async def story() -> None:
        documents = MemoryDocuments()
        secret = await shared_secret(documents)
        assert await shared_secret(documents) == secret
        await documents.put(SECRET, b"", documents.known[SECRET].at)
        assert len(await shared_secret(documents)) == len(secret)
        await documents.put(SECRET, b"not base 64", documents.known[SECRET].at)
        with pytest.raises(UserError, match="damaged"):
            await shared_secret(documents)

    asyncio.run(story())
