"""twinloop: the offline loop that learns and the online loop that serves, as one library."""

__version__ = "0.1.0"
