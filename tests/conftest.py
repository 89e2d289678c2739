"""Rules that hold for every test."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

IN_CI = os.environ.get("CI") == "true"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side run whole modules, and of a module that runs once per cache, one cache each: so what a module starts is started once.

    First, or xdist would have looked for the groups before they are there, and spread each test for itself.
    """
    for item in items:
        cache = getattr(item, "callspec", None) and item.callspec.params.get("case")  # type: ignore[attr-defined]
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name}@{cache}" if isinstance(cache, str) else item.path.name))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI everything is installed, so a skip there hides something."""
    return skip_to_failure((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is imported."""
    return skip_to_failure((yield))


def skip_to_failure(report: Report, in_ci: bool = IN_CI) -> Report:
    """A skip becomes a failure that gives the skip's reason; an expected failure stays one."""
    if in_ci and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason}\nhint: CI=true allows no skips; add what is missing to .ci/run"
    return report
