"""The deterministic simulator of AgeZero: the real core over a simulated network, log, caches and origin, in virtual time."""
