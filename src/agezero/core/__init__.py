"""The pure core: no IO, no clock, no randomness. It imports nothing but itself and the standard library's data types."""
