"""The network: messages are lost, doubled, delayed, overtaken, and links cut in one direction."""

from __future__ import annotations

from typing import Any

from sim.world import ANY_LIFE, Actor, Call, World


class Network:
    """``send`` for datagrams between the parts of AgeZero, ``pass_on`` for what a reliable connection carries (it only takes time)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cut: list[tuple[str, str]] = []
        self.lost, self.doubled, self.slow = 0.0, 0.0, 0.0

    def send(self, source: Actor, target: Actor, label: str, call: Call, *args: Any, life: int = ANY_LIFE) -> None:
        """``call`` at ``target`` some time later, perhaps; with ``life`` only if that life of it still lasts (a connection)."""
        world, chance = self.world, self.world.network
        delay_s = 0.001 + 0.02 * chance.unit()
        if world.faulty:
            if (source.name, target.name) in self.cut:
                world.mark("message cut off")
                return
            dice = chance.unit()
            if dice < self.lost:
                world.mark("message lost")
                return
            dice -= self.lost
            if dice < self.doubled:
                world.mark("message doubled")
                world.schedule(delay_s + 2.0 * chance.unit(), target, life, label, call, *args)
            elif dice < self.doubled + self.slow:
                world.mark("message delayed")
                delay_s += 3.0 * chance.unit()
        world.schedule(delay_s, target, life, label, call, *args)

    def pass_on(self, target: Actor, delay_s: float, label: str, call: Call, *args: Any, life: int = ANY_LIFE) -> None:
        self.world.schedule(delay_s, target, life, label, call, *args)
