"""``python -m agezero`` is the ``agezero`` command."""

from agezero.cli.main import main

main()
