"""The one exception that a user is meant to read."""


class VasaError(ValueError):
    """A mistake in what the user gave; its message says what was given, what is accepted, and what to do."""
