"""How the property tests run: as many examples as fit a quick suite, none of them against the clock."""

from __future__ import annotations

import os

from hypothesis import Phase, settings

settings.register_profile("unit", deadline=None, print_blob=True)
settings.register_profile("mutants", deadline=None, database=None, derandomize=True, max_examples=50, phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutants" if "MUTANT_UNDER_TEST" in os.environ else "unit")
