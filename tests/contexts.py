"""pytest under coverage.py, which keeps which test came by a line: by pytest's names, Hypothesis's tests too.

python -m coverage run tests/contexts.py ARGS
"""

import sys
from collections.abc import Generator

import coverage
import pytest


class Contexts:
    """Each test is a context, without its parameters."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """What the test's own fixtures run belongs to it."""
        measuring = coverage.Coverage.current()
        if measuring is not None:
            measuring.switch_context(f"tests/{item.path.name}::{getattr(item, 'originalname', item.name)}")
        return (yield)


if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:], plugins=[Contexts()]))
