"""Features: one definition, computed as of a moment from the lake and kept up to date online.

This package imports nothing heavy by itself; `offline`, `snapshot` and their helpers need the `dataset` extra.
"""
