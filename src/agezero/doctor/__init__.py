"""``agezero doctor``: is a cache really set up so that its purges are proven? Asked of the running cache, with real requests.

What a driver can see from outside comes first (its ``examine``). Then a *canary*: the shipped configuration sends the path
``/.well-known/agezero/`` to an origin that the doctor opens for itself. It counts what reaches it, and answers as slowly as a check wants: so it is
seen, not believed, that an object is cached, is gone once its purge was confirmed, does not come back from a fetch that was in flight, and is
bypassed without a lease.

The doctor drives no cache itself. Its purges go through the log, as everybody's do, to the edge's agent: that of the running service, which keeps
its lease (:mod:`agezero.doctor.beside`), or one that the doctor runs meanwhile (:mod:`agezero.doctor.alone`). So it purges nothing but its canary,
and an edge that has missed something does first what it would do at any start. The edge of a fleet it refuses to examine: the fleet's ledger would
know nothing of the doctor's lease, and call purges complete that this edge has not applied.
"""

from __future__ import annotations

from collections.abc import Callable

from agezero.config import Config
from agezero.config.edges import ExternalEdge
from agezero.database import DataDirBusy, prepare
from agezero.doctor.alone import alone, of_a_fleet
from agezero.doctor.beside import beside
from agezero.doctor.canary import Canary, listening
from agezero.doctor.patient import Hands, Patient
from agezero.edges.kinds import Finding, edge_folder, kind_of

Tell = Callable[[Finding], None]


async def examine(config: Config, options: ExternalEdge, tell: Tell, url: str = "") -> bool:
    """Look at everything, ``tell`` each finding as it is made. True: all is as it should be. Raises :class:`agezero.errors.UserError`.

    ``url``: of the purge API, where the service runs; without it, what the settings say.
    """
    if config.log.url:
        raise of_a_fleet(options.name)
    async with listening(options.canary) as canary:
        try:
            lock = prepare(config.data_dir)
        except DataDirBusy:
            async with beside(config, options, url) as hands:
                return await _examined(config, options, hands, canary, tell)
        with lock:
            async with alone(config, options) as hands:
                return await _examined(config, options, hands, canary, tell)


async def _examined(config: Config, options: ExternalEdge, hands: Hands, canary: Canary, tell: Tell) -> bool:
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        tell(finding)

    for finding in await kind_of(options.driver).examine(options, edge_folder(config.data_dir.resolve(), options.name)):
        found(finding)
    if not options.front:
        found(Finding("the front", False, f"edges.front of {options.name} is not set", "set it to the http:// address on which the cache serves"))
    if all(finding.ok for finding in findings):
        await Patient(options.front, hands, canary, found).examine()
    return all(finding.ok for finding in findings)
