"""The caches that AgeZero drives: one folder each, with the driver and the configuration it ships."""
