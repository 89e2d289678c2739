"""docs/DRIVERS.md says of each driver what its code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from agezero.config.edges import DRIVERS
from agezero.edges.kinds import edge_folder, kind_of
from support.capabilities import PAGE, ROWS, renewed


def test_the_table_of_capabilities_is_current() -> None:
    text = PAGE.read_text()
    assert "<!-- capabilities:begin -->" in text
    assert renewed(text) == text, "renew it: cd tests && python -m support.capabilities"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_has_a_page_notes_on_known_rows_and_a_configuration_to_print(driver: str, tmp_path: Path) -> None:
    kind = kind_of(driver)
    assert not kind.notes.keys() - ROWS.keys()
    options = DRIVERS[driver](name="shield")
    printed = kind.configuration(options, edge_folder(tmp_path, "shield"))
    assert printed.count("\n") > 10
    assert "#" in printed or "//" in printed, "comments"
    pages = [path.read_text() for path in (PAGE.parent / "drivers").glob("*.md")]
    assert any(f'driver = "{driver}"' in page for page in pages)
