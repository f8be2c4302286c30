"""Functions as `sam build` made them, run by the process executor against any AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from twinloop_localstack.lambdas.function import Function, Invocation
from twinloop_localstack.lambdas.place import Place


@dataclass
class Functions:
    """The functions of a built template.

    Attributes:
        built: The build folder.
        place: Where they run.
        variables: A value for each variable that the template gives to any of them.
        told: What AWS tells every function: region, credentials, endpoint.
    """

    built: Path
    place: Place
    variables: Mapping[str, str]
    told: Mapping[str, str]

    def __post_init__(self) -> None:
        template: dict[str, Any] = yaml.safe_load((self.built / "template.yaml").read_text())
        self._common = template["Globals"]["Function"]
        self._resources = template["Resources"]

    def names(self) -> list[str]:
        """Their logical names."""
        return [name for name, made in self._resources.items() if made["Type"] == "AWS::Serverless::Function"]

    def function(self, name: str) -> Function:
        """One of them, with what the template gives it and nothing else."""
        own = self._resources[name]["Properties"]
        given = {**self._common, **own}
        layers = [layer["Ref"] for layer in self._common.get("Layers", []) + own.get("Layers", [])]
        wanted = [*self._common["Environment"]["Variables"], *own.get("Environment", {}).get("Variables", [])]
        return Function(
            name=name,
            handler=given["Handler"],
            code=self.built / own["CodeUri"],
            layers=tuple(self.built / self._resources[layer]["Properties"]["ContentUri"] for layer in layers),
            memory_mb=given["MemorySize"],
            timeout_s=given["Timeout"],
            variables={
                **self.told,
                "AWS_LAMBDA_FUNCTION_NAME": name,
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(given["MemorySize"]),
                "AWS_LAMBDA_LOG_FORMAT": given["LoggingConfig"]["LogFormat"],
                **{name: self.variables[name] for name in wanted if name in self.variables},
            },
        )

    def call(self, name: str, event: object) -> Any:
        """Call a function once, in an environment of its own; an error fails the test with the log."""
        with self._environment(name) as environment:
            result = environment.invoke(Invocation("sample", json.dumps(event).encode(), f"arn:aws:lambda:::{name}"))
        assert not result.failed, f"{name}: {result.payload.decode()}\n{result.log}"
        return json.loads(result.payload)

    @contextmanager
    def _environment(self, name: str) -> Iterator[Any]:
        environment = self.place.environment(name, self.function(name))
        environment.start()
        try:
            yield environment
        finally:
            environment.close()
