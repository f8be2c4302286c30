"""The online loop's answering half: loaded releases, routing between them, fallback, and the HTTP face.

Nothing is imported here on purpose: each module is imported by whoever needs it, so that a cold start pays for no more.
"""
