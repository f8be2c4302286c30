"""LocalStack's side: what it asks of an executor (`LAMBDA_RUNTIME_EXECUTOR=process`), told in our own words."""

from __future__ import annotations

import logging
from typing import Any

from localstack.aws.api.lambda_ import PackageType
from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import LambdaRuntimeException, RuntimeExecutor

from twinloop_localstack.lambdas.environment import Environment
from twinloop_localstack.lambdas.errors import ExecutorError
from twinloop_localstack.lambdas.function import Function, Invocation
from twinloop_localstack.lambdas.place import place
from twinloop_localstack.lambdas.runtime_api import HOST

_logger = logging.getLogger(__name__)

# What AWS tells a function about itself. LocalStack adds what its own init program needs; that stays out.
_TOLD = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_FORMAT",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_LEVEL",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
    }
)
_PROVISIONED = "provisioned-concurrency"


class ProcessExecutor(RuntimeExecutor):  # type: ignore[misc] # LocalStack has no types
    """One execution environment of LocalStack's, as a process of this machine."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id=id, function_version=function_version)
        self._environment: Environment | None = None

    def start(self, env_vars: dict[str, Any]) -> None:
        """Start the process.

        A failed initialisation is told at the first call, as on AWS: only there does LocalStack take the log.
        """
        function = _function(self.function_version, env_vars)
        self._environment = place().environment(self.id, function)
        self._environment.start()
        if env_vars.get("AWS_LAMBDA_INITIALIZATION_TYPE") == _PROVISIONED:
            failure = self._environment.ready()
            if failure is not None:
                raise StatusErrorException("Environment startup failed", payload=failure.payload)

    def stop(self) -> None:
        if self._environment is not None:
            self._environment.close()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        environment = self._environment
        if environment is None:
            raise LambdaRuntimeException(f"executor {self.id} was not started")
        invocation = Invocation(
            request_id=payload["invoke-id"],
            payload=payload["payload"].encode(),
            function_arn=payload["invoked-function-arn"],
            trace_id=payload["trace-id"],
        )
        result = environment.invoke(invocation)
        return InvocationResult(invocation.request_id, result.payload, result.failed, result.log)

    def get_address(self) -> str:
        return HOST

    def get_endpoint_from_executor(self) -> str:
        return HOST

    def get_runtime_endpoint(self) -> str:
        return ""  # what LocalStack's own init program calls; there is none here

    def get_logs(self) -> str:
        return ""  # each call's log went with its result

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Unpack code and layers.

        Raises:
            ExecutorError: The function cannot run here; LocalStack makes it the reason of the state `Failed`.
        """
        config, runtime = function_version.config, place().sandbox.runtime.name
        if config.package_type != PackageType.Zip or config.runtime != runtime:
            what = config.runtime if config.package_type == PackageType.Zip else "container images"
            raise ExecutorError(f"the process executor runs zip packages for {runtime}, not {what}")
        for code in (config.code, *(layer.code for layer in config.layers)):
            code.prepare_for_execution()
        place().prepare(_function(function_version, {}))

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Nothing: other versions may share the folders, and they go with LocalStack."""

    @classmethod
    def validate_environment(cls) -> bool:
        try:
            place()
        except ExecutorError as error:
            _logger.warning("functions cannot run: %s", error)
            return False
        return True


class ProcessExecutorPlugin(RuntimeExecutorPlugin):  # type: ignore[misc] # LocalStack has no types
    """Names the executor to LocalStack."""

    name = "process"

    def load(self, *_args: object, **_kwargs: object) -> type[ProcessExecutor]:
        return ProcessExecutor


def _function(version: FunctionVersion, variables: dict[str, Any]) -> Function:
    """A function as LocalStack describes it, as we do."""
    config = version.config
    told = {name: str(value) for name, value in variables.items() if name in _TOLD}
    return Function(
        name=version.id.function_name,
        version=version.id.qualifier,
        handler=config.handler,
        code=config.code.get_unzipped_code_location(),
        layers=tuple(layer.code.get_unzipped_code_location() for layer in config.layers),
        memory_mb=config.memory_size,
        timeout_s=config.timeout,
        variables={**told, **(config.environment or {})},
    )
