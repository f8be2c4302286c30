"""What the rails need from the outside world, in the domain's words, with an in-memory implementation of the store."""

from twinloop.ports.log import Log
from twinloop.ports.objects import MemoryObjectStore, ObjectStore, StoredObject

__all__ = ["Log", "MemoryObjectStore", "ObjectStore", "StoredObject"]
