"""The embedded edge: a real nginx with the purge table in njs, run and supervised as a child."""
