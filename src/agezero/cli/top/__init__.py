"""``agezero top``: the fleet and the purges, as they are now.

It asks once a second instead of listening to events: watermarks change thousands of times a second, and nobody reads faster.
"""
