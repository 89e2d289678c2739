"""The command ``agezero``. Data goes to stdout, everything else to stderr."""
