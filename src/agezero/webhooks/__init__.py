"""Webhooks: other programs are told of events by HTTP, signed as Standard Webhooks say, again until they have heard.

``store`` keeps what has to be told in SQLite, ``watch`` writes it there, ``sender`` brings it out, through the door in ``targets`` that lets nobody
into a private network; ``service`` puts them together.
"""
