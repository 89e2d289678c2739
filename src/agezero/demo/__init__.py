"""``agezero demo``: a purge proven on a real cache, told step by step."""
