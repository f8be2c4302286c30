"""What docs/data.md says of columns is what the contracts take."""

import re
from pathlib import Path

import pytest

from twinloop import systems

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
ROW = re.compile(r"\| (\w+) \| (\w+) \| `([^`]+)`")
TOLD = {(system, table): columns.split(", ") for system, table, columns in ROW.findall(PAGE.read_text())}
TABLES = {
    (name, table): model
    for name in ("video", "ads", "search", "suggestions", "moderation")
    for table, model in systems.load(name).tables.items()
}


def test_every_table_but_plain_users_is_on_the_page():
    assert TOLD.keys() <= TABLES.keys()
    assert {table for _, table in TABLES.keys() - TOLD.keys()} == {"users"}


@pytest.mark.parametrize("table", TOLD, ids="/".join)
def test_columns_are_those_of_the_contract(table):
    fields = TABLES[table].model_fields
    meant = {name + "?" * (not field.is_required()) for name, field in fields.items() if name != "extra"}
    assert len(TOLD[table]) == len(meant)
    assert set(TOLD[table]) == meant
