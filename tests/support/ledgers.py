"""Ledgers and their members in the states where the stories about them begin."""

from __future__ import annotations

from agezero.core.ledger import Effect, Grant, Ledger, Record, Save

LEASE_S = 10.0
MARGIN_S = 1.0
OVER_S = LEASE_S + MARGIN_S


def carry_out(ledger: Ledger, effects: list[Effect]) -> list[Effect]:
    for effect in effects:
        if isinstance(effect, Save):
            ledger.saved(effect.record)
    return effects


def joined(ledger: Ledger, name: str, tier: int = 0, fences: bool = True, now_s: float = 0.0) -> int:
    carry_out(ledger, ledger.join(name, tier, fences, now_s))
    return ledger.members[name].record.token


def leased(ledger: Ledger, name: str, watermark: int, tier: int = 0, fences: bool = True, now_s: float = 0.0) -> int:
    token = joined(ledger, name, tier, fences, now_s)
    assert granted(carry_out(ledger, ledger.renew(name, token, watermark, now_s)))
    return token


def granted(effects: list[Effect]) -> bool:
    return isinstance(effects[-1], Grant)


def ledger_at(head: int, records: list[Record] | None = None) -> Ledger:
    return Ledger(LEASE_S, MARGIN_S, records or [], head)
