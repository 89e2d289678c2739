"""AgeZero: cache purging that proves itself. See docs/ARCHITECTURE.md."""

__version__ = "0.1.0"
