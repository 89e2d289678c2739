"""Everything that speaks NATS: the purge log, the board of the fleet's records, and the way between agents and control nodes."""
