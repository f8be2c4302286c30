"""Which environments are made, and when one is made anew."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def environments() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environments", ROOT / "infra" / "environments.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("named", [[], ["localstack"], ["localstack", "sam"]])
def test_localstack_is_made_only_where_it_is_named(
    environments: ModuleType, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(environments, "_make", lambda name, *_: made.append(name))
    environments.main(named)
    assert made == ["dev", "ministack", "sam", "lambda-runtime", *(["localstack"] if named else [])]


def test_an_unknown_name_makes_nothing(environments: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_make", lambda *_: pytest.fail("made something"))
    with pytest.raises(SystemExit, match=r"no environment 'locastack'; known: .*localstack"):
        environments.main(["locastack"])


def test_changed_plugins_are_installed_anew_and_the_lock_is_not(
    environments: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins, folder, lock = tmp_path / "plugins", tmp_path / "env", tmp_path / "localstack.txt"
    (plugins / "build").mkdir(parents=True)
    (plugins / "module.py").write_text("1")
    lock.write_text("localstack-core==4.14.0")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    monkeypatch.setattr(environments, "LOCALSTACK_PLUGINS", plugins)
    monkeypatch.setattr(environments, "_create", lambda made, _: made.mkdir())
    installed: list[str] = []

    def install(_python: Path, *arguments: str | Path) -> None:
        last = Path(arguments[-1])
        installed.append(last.name)
        if last.is_dir():
            assert [path.name for path in last.iterdir()] == ["module.py"]

    monkeypatch.setattr(environments, "_install", install)
    arguments = ("localstack", folder, "3.13", ("localstack.txt",))
    assert environments._make(*arguments)
    assert installed == ["localstack.txt", "plugins"]
    assert not environments._make(*arguments)
    (plugins / "module.py").write_text("2")
    assert environments._make(*arguments)
    assert installed == ["localstack.txt", "plugins", "plugins"]
