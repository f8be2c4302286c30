"""What LocalStack asks of the process executor, asked by LocalStack's own classes in LocalStack's own environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import lambda_handlers
import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".envs" / "localstack" / "bin" / "python"
RUNTIME = ROOT / ".envs" / "lambda-runtime"
PLUGINS = ROOT / "infra" / "local" / "localstack_plugins"
# Answers a list of results, one a line. A folder stands for code and layer as `hot reloading` has it in LocalStack.
ASK = """
import json, sys
from localstack.aws.api.lambda_ import Architecture, PackageType
from localstack.services.lambda_.invocation import lambda_models as models
from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.runtime_executor import get_runtime_executor

def version(code, layer, handler, runtime):
    config = models.VersionFunctionConfiguration(
        description="", role="", timeout=1 if handler == "handlers.hang" else 60, runtime=runtime, memory_size=256,
        handler=handler,
        package_type=PackageType.Zip, environment={"COLOUR": "blue"}, architectures=[Architecture.x86_64],
        internal_revision="1", ephemeral_storage=None, snap_start=None, tracing_config_mode=None, last_modified="",
        state=None, code=models.HotReloadingCode(code, "0"),
        layers=[models.LayerVersion("", "", 1, models.HotReloadingCode(layer, "0"), None, None, None, "")],
    )
    return models.FunctionVersion(models.VersionIdentifier("shop", "$LATEST", "us-east-1", "000000000000"), config)

def tell(**what):
    print(json.dumps(what), flush=True)

code, layer = sys.argv[1:]
executor = get_runtime_executor()
tell(executor=executor.__name__, valid=executor.validate_environment())
try:
    executor.prepare_version(version(code, layer, "handlers.count", "nodejs22.x"))
except Exception as error:
    tell(refused=str(error))

told = {"AWS_REGION": "us-east-1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": 256, "LOCALSTACK_RUNTIME_ID": "1",
        "EDGE_PORT": "1", "AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}

def run(handler, events, **more):
    executor.prepare_version(version(code, layer, handler, "python3.13"))
    made = executor("environment-" + handler, version(code, layer, handler, "python3.13"))
    try:
        made.start({**told, **more})
        for number, event in enumerate(events):
            result = made.invoke({"invoke-id": str(number), "invoked-function-arn": "arn:aws:lambda:shop",
                                  "payload": json.dumps(event), "trace-id": "Root=1-0-0;Parent=0;Sampled=1"})
            tell(id=result.request_id, failed=result.is_error, payload=json.loads(result.payload), log=result.logs)
    except StatusErrorException as error:
        tell(status_error=json.loads(error.payload))
    finally:
        made.stop()

run("handlers.count", [{}, {}])
run("handlers.look", [{}])
run("handlers.load", [["words"]])
run("handlers.fail", [{}])
run("handlers.hang", [{"seconds": "1"}])
run("absent.handler", [{}], AWS_LAMBDA_INITIALIZATION_TYPE="on-demand")
run("absent.handler", [{}], AWS_LAMBDA_INITIALIZATION_TYPE="provisioned-concurrency")
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    for needed, name in ((PYTHON, "localstack"), (RUNTIME, "lambda-runtime")):
        if not needed.exists():
            pytest.skip(f"{name} is not installed: python3 infra/environments.py {name}")
    folder = tmp_path_factory.mktemp("plugin")
    code, layer, scratch = folder / "code", folder / "layer", folder / "scratch"
    (layer / "python").mkdir(parents=True)
    (layer / "python" / "words.py").write_text("")
    for made in (code, scratch):
        made.mkdir()
    shutil.copy(lambda_handlers.__file__, code / "handlers.py")
    variables = {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PATH": os.defpath,
        "PYTHONPATH": str(PLUGINS),  # these sources, rather than those that were installed last
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "TWINLOOP_LAMBDA_RUNTIME": str(RUNTIME),
        "HOST_SECRET": "of the host",
    }
    command = [str(PYTHON), "-c", ASK, str(code), str(layer)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert list(scratch.glob("lambda-workers-*")) == []
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_localstack_finds_the_executor_and_the_executor_its_runtime(told: list[dict[str, Any]]) -> None:
    assert told[0] == {"executor": "ProcessExecutor", "valid": True}


def test_another_runtime_is_refused_when_the_function_is_made(told: list[dict[str, Any]]) -> None:
    assert told[1] == {"refused": "the process executor runs zip packages for python3.13, not nodejs22.x"}


def test_calls_of_one_environment_share_a_worker(told: list[dict[str, Any]]) -> None:
    first, second = told[2:4]
    assert [result["payload"]["calls"] for result in (first, second)] == [1, 2]
    assert not first["failed"]
    assert "START RequestId: 0 Version: $LATEST\n" in first["log"]
    assert "Memory Size: 256 MB" in second["log"]


def test_a_function_is_told_what_aws_tells_and_not_what_localstack_needs(told: list[dict[str, Any]]) -> None:
    variables = told[4]["payload"]["variables"]
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert (variables["COLOUR"], variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) == ("blue", "256")
    assert variables["_X_AMZN_TRACE_ID"] == "Root=1-0-0;Parent=0;Sampled=1"
    assert not {"LOCALSTACK_RUNTIME_ID", "EDGE_PORT", "HOST_SECRET", "LAMBDA_RUNTIME_EXECUTOR"} & set(variables)
    assert not any(".envs/localstack" in entry for entry in told[4]["payload"]["path"])


def test_layers_errors_and_timeouts_arrive(told: list[dict[str, Any]]) -> None:
    layers, error, timeout = told[5:8]
    assert layers["payload"]["words"].endswith("/python/words.py")
    assert (error["failed"], error["payload"]["errorType"]) == (True, "OutOfStock")
    assert (timeout["failed"], timeout["payload"]["errorType"]) == (True, "Sandbox.Timedout")


def test_a_failed_initialisation_is_the_calls_or_where_it_was_provisioned_the_starts(
    told: list[dict[str, Any]],
) -> None:
    called, provisioned = told[8:]
    assert called["payload"]["errorType"] == "Runtime.ImportModuleError"
    assert "Unable to import module 'absent'" in called["log"]
    assert provisioned["status_error"]["errorType"] == "Runtime.ImportModuleError"
