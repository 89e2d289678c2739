"""A typed client of the native API, sync and async.

    from agezero.client import Client

    with Client("http://127.0.0.1:8080", key) as client:
        client.purge(urls=["https://cdn.example.com/photos/cat.jpg"], wait=True)    # returns when it is proven
        purge = client.purge(tags=["cats"], mode="soft")
        purge.wait(timeout_s=30)

Each purge is sent under an idempotency key of its own, so sending it again after a lost connection is the same purge. All errors are
:class:`ClientError`.
"""

from agezero.client.asynchronous import AsyncClient, AsyncPurge
from agezero.client.errors import ClientError, Denied, NotFound, NotTheService, Refused, Unavailable, Unreachable, WaitTimeout
from agezero.client.flows import Event
from agezero.client.synchronous import Client, Purge
from agezero.wire import Accepted, AuditRow, Edge, EdgeProgress, FieldError, Named, PurgeDetail
from agezero.wire import Purge as PurgeSummary

__all__ = [
    "Accepted",
    "AsyncClient",
    "AsyncPurge",
    "AuditRow",
    "Client",
    "ClientError",
    "Denied",
    "Edge",
    "EdgeProgress",
    "Event",
    "FieldError",
    "Named",
    "NotFound",
    "NotTheService",
    "Purge",
    "PurgeDetail",
    "PurgeSummary",
    "Refused",
    "Unavailable",
    "Unreachable",
    "WaitTimeout",
]
