"""Real processes under load, killed, frozen and starved of disk space; what the clients see is checked all the while. See :mod:`chaos.run`."""
