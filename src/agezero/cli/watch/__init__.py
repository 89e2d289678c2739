"""``agezero watch``: files that change on disk are purged.

Theory: the kernel's events say *when* to look, a snapshot of the tree says *what* has changed. Events alone lose changes: the kernel's queue may
overflow, a new directory has files before it is watched, the directory itself may be replaced. So each event makes its part of the tree be compared
with the snapshot, and all of it is compared once a minute. What is found stays in an outbox until the service has accepted it.
"""
