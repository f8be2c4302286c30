"""A stack that somebody else has started: its processes are theirs to stop."""

import os
from dataclasses import replace

import pytest

from twinloop_local import LocalCloudError, LocalSettings, down, up


@pytest.mark.parametrize("call", [down, up])
def test_another_users_stack_is_left_alone_with_their_name(tmp_path, monkeypatch, call):
    settings = replace(LocalSettings.from_environment(tmp_path, {}), root=tmp_path, stack="theirs")
    kept = settings.state_dir / "state.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4321)
    with pytest.raises(LocalCloudError, match=r"theirs was started by .*TWINLOOP_STACK"):
        call(settings)
    assert kept.exists()
