"""Options that every test may use."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--emulator", default="ministack", help="what stands for AWS in end-to-end tests")
