"""Generated tests have no time limit here: two busy processors are not a failure."""

from hypothesis import settings

settings.register_profile("calm", deadline=None)
settings.load_profile("calm")
