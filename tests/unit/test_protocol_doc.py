"""docs/PROTOCOL.md draws the follower as the code has it."""

from __future__ import annotations

from agezero.core.epochs import collateral
from support.diagram import PAGE, drawn


def test_the_picture_and_the_table_are_those_of_the_code() -> None:
    page = PAGE.read_text()
    assert page == drawn(page), "out of date\nhint: cd tests && python -m support.diagram"


def test_the_numbers_of_the_collateral_table_are_those_of_the_formula() -> None:
    rows = [row.strip("| ").split(" | ") for row in PAGE.read_text().splitlines() if row.startswith("| 2^")]
    assert len(rows) == 5
    for slots, looked_up, *chances in rows:
        table = 2 ** int(slots.split()[0].removeprefix("2^"))
        for purges, chance in zip((100, 1000, 10_000, 100_000), chances, strict=True):
            percent = 100 * collateral(purges, table, int(looked_up))
            assert float(chance.removesuffix(" %")) == float(f"{percent:.2g}") or float(chance.removesuffix(" %")) == round(percent, 2), (
                slots,
                purges,
            )


def test_the_page_has_a_place_for_the_ablations() -> None:
    assert PAGE.read_text().count("<!-- ablations:begin -->") == PAGE.read_text().count("<!-- ablations:end -->") == 1
