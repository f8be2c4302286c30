"""Options and marks that every test may use."""

from collections.abc import Callable, Iterator

import pytest
from capabilities import missing
from hypothesis import HealthCheck, settings

from twinloop import systems
from twinloop.contracts.system import System

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--emulator", default="ministack", help="what stands for AWS in end-to-end tests")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(capability): skipped on emulators that lack it (support/capabilities.py)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("needs"):
            reason = missing(*mark.args, config.getoption("--emulator"))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def register() -> Iterator[Callable[[System], None]]:
    """`systems.register`, taken back after the test."""
    names: list[str] = []

    def make_known(system: System) -> None:
        names.append(system.spec.name)
        systems.register(system)

    yield make_known
    for name in names:
        systems.forget(name)
