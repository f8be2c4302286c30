"""The base of every contract: frozen, and strict about names."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A value that crosses a border: immutable, unknown fields forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)
