"""What `twinloop refresh` says where there is nothing to refresh."""

import pytest
import typer
from deployed_in_memory import MemoryDeployment

from twinloop.commands import refresh


@pytest.fixture(autouse=True)
def place(monkeypatch):
    made = MemoryDeployment()
    monkeypatch.setattr(refresh, "deployment", lambda: made)
    return made


@pytest.mark.parametrize("system", ["search", "suggestions"])
def test_nothing_is_refreshed_before_anything_was_learnt(system, capsys):
    refresh.refresh(system, least_share=0.5)
    assert f"twinloop learn {system}" in capsys.readouterr().out


def test_a_system_whose_releases_hold_no_items_is_told_so(capsys):
    with pytest.raises(typer.Exit):
        refresh.refresh("video", least_share=0.5)
    assert "releases of video hold no items" in capsys.readouterr().err
