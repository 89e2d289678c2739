"""How unit tests run: the property tests with as many examples as fit a quick suite, none of them against the clock; all with one logging."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import Phase, settings

settings.register_profile("unit", deadline=None, print_blob=True)
settings.register_profile("mutants", deadline=None, database=None, derandomize=True, max_examples=50, phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutants" if "MUTANT_UNDER_TEST" in os.environ else "unit")


@pytest.fixture(autouse=True)
def _logging_is_left_alone() -> Iterator[None]:
    """A command that sets logging up would do so for every test after it; a test that needs one starts a process."""
    before = structlog.get_config()["wrapper_class"]
    yield
    assert structlog.get_config()["wrapper_class"] is before
