"""Your own nginx, by njs 0.8 or newer: the embedded edge's own modules, in a configuration that is not ours."""
