"""Settings of all tests."""

import gc

import pytest
from hypothesis import settings

# The first example of a test pays for imports, and a shared machine stalls: a time limit an example says nothing here.
settings.register_profile("fourstage", deadline=None)
settings.load_profile("fourstage")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep modules and thousands of tests, which live to the end, out of the collector's sight."""
    del session
    gc.collect()
    gc.freeze()
