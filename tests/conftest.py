"""Settings of all tests."""

from hypothesis import settings

# The first example of a test pays for imports, and a shared machine stalls: a time limit an example says nothing here.
settings.register_profile("fourstage", deadline=None)
settings.load_profile("fourstage")
