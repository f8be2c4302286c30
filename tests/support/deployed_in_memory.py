"""A deployment without a cloud: its bucket, its users' histories and its API in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import tiny_system

from twinloop.commands import api, evaluate
from twinloop.commands.target import Deployment
from twinloop.features.stores import MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.serving.app import App
from twinloop.serving.http import Request
from twinloop.serving.service import make_app

OUTPUTS = {"ApiUrl": "https://api.example/local", "Table": "table"}


class MemoryDeployment(Deployment):
    """Deployment whose parts are in memory; `ask` in its place of an HTTP request, to the serving code itself."""

    def __init__(self) -> None:
        super().__init__("twinloop-test", OUTPUTS)
        self.__dict__["objects"] = MemoryObjectStore()
        self.__dict__["histories"] = MemoryOnlineStore()
        self.__dict__["asked"] = []
        self.__dict__["api_key"] = "the-key"

    @property
    def store(self) -> Any:
        return self.__dict__["objects"]

    @property
    def histories(self) -> MemoryOnlineStore:
        found: MemoryOnlineStore = self.__dict__["histories"]
        return found

    def serve(self, *, histories: bool = True, challenger_share: float = 0.1) -> App:
        """The serving code as it is with what is promoted now; it looks at the registry once."""
        store = self.histories if histories else None
        return make_app(
            tiny_system.SYSTEM, self.store, store, None, challenger_share=challenger_share, look_every_s=3600
        )

    def enter(self, monkeypatch: pytest.MonkeyPatch, app: App) -> None:
        """Let commands ask this app in place of one over HTTP."""

        def ask(place: Deployment, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
            assert place is self
            request = Request("POST", path, {"content-type": "application/json"}, json.dumps(dict(body)).encode())
            found: dict[str, Any] = json.loads(app(request).body)
            return found

        monkeypatch.setattr(api, "ask", ask)
        monkeypatch.setattr(evaluate, "DynamoOnlineStore", lambda table: self.histories)
