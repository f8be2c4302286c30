"""What the rails need from the outside world, in the domain's words, with an in-memory implementation of each."""

from twinloop.ports.objects import MemoryObjectStore, ObjectStore, StoredObject

__all__ = ["MemoryObjectStore", "ObjectStore", "StoredObject"]
