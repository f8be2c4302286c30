"""Where the local cloud lives and which ports it takes. Every value has one variable that changes it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twinloop_local.errors import LocalCloudError

HOST = "127.0.0.1"
ACCOUNT = "000000000000"
PORT_VARIABLE = "TWINLOOP_PORT"
SAGEMAKER_PORT_VARIABLE = "TWINLOOP_SAGEMAKER_PORT"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class LocalSettings:
    """One local stack.

    Attributes:
        root: The project's folder; state goes to `.twinloop/<stack>/` in it.
        stack: Name of the stack here and in CloudFormation (TWINLOOP_STACK).
        port: The emulator's port (TWINLOOP_PORT).
        sagemaker_port: The SageMaker executor's port (TWINLOOP_SAGEMAKER_PORT).
        region: AWS region that everything claims to be in (TWINLOOP_REGION).
        ministack_env: Python 3.13 environment with MiniStack (TWINLOOP_MINISTACK_ENV).
        localstack_env: Python 3.13 environment with LocalStack and our plugins (TWINLOOP_LOCALSTACK_ENV).
        lambda_runtime: Python 3.13 environment that LocalStack's functions run with (TWINLOOP_LAMBDA_RUNTIME).
        sam_env: Environment with aws-sam-cli (TWINLOOP_SAM_ENV).
        job_python: Interpreter that training jobs run with (TWINLOOP_JOB_PYTHON).
        stop_grace_s: Seconds between SIGTERM and SIGKILL of a job that is stopped (TWINLOOP_STOP_GRACE; 120 as on AWS).
        training_slots: Training jobs that run at once; more wait their turn (TWINLOOP_TRAINING_SLOTS).
    """

    root: Path
    stack: str = "twinloop"
    port: int = 4566
    sagemaker_port: int = 4570
    region: str = "us-east-1"
    ministack_env: Path = Path(".envs/ministack")
    localstack_env: Path = Path(".envs/localstack")
    lambda_runtime: Path = Path(".envs/lambda-runtime")
    sam_env: Path = Path(".envs/sam")
    job_python: Path = Path(sys.executable)
    training_slots: int = 2
    stop_grace_s: int = 120

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.stack):
            raise LocalCloudError(
                f"TWINLOOP_STACK={self.stack!r}: a stack's name is 1 to 31 lower-case letters, digits and dashes"
            )
        if self.port == self.sagemaker_port:
            raise LocalCloudError(f"{PORT_VARIABLE} and {SAGEMAKER_PORT_VARIABLE} are both {self.port}; change one")

    @classmethod
    def from_environment(cls, root: Path, environment: Mapping[str, str] | None = None) -> LocalSettings:
        """Read the variables named above; what is not set keeps its default.

        Raises:
            LocalCloudError: A value does not fit; the message names the variable.
        """
        env = os.environ if environment is None else environment
        return cls(
            root=root,
            stack=env.get("TWINLOOP_STACK", cls.stack),
            port=_number(env, PORT_VARIABLE, cls.port, 1, 65535),
            sagemaker_port=_number(env, SAGEMAKER_PORT_VARIABLE, cls.sagemaker_port, 1, 65535),
            region=env.get("TWINLOOP_REGION", cls.region),
            ministack_env=root / env.get("TWINLOOP_MINISTACK_ENV", str(cls.ministack_env)),
            localstack_env=root / env.get("TWINLOOP_LOCALSTACK_ENV", str(cls.localstack_env)),
            lambda_runtime=root / env.get("TWINLOOP_LAMBDA_RUNTIME", str(cls.lambda_runtime)),
            sam_env=root / env.get("TWINLOOP_SAM_ENV", str(cls.sam_env)),
            job_python=Path(env.get("TWINLOOP_JOB_PYTHON", str(cls.job_python))),
            training_slots=_number(env, "TWINLOOP_TRAINING_SLOTS", cls.training_slots, 1, 64),
            stop_grace_s=_number(env, "TWINLOOP_STOP_GRACE", cls.stop_grace_s, 0, 3600),
        )

    @property
    def state_dir(self) -> Path:
        """Everything this stack keeps on disk while it is up; gone after `down`."""
        return self.root / ".twinloop" / self.stack

    @property
    def endpoint(self) -> str:
        """AWS_ENDPOINT_URL of this stack."""
        return f"http://{HOST}:{self.port}"

    @property
    def sagemaker_endpoint(self) -> str:
        """AWS_ENDPOINT_URL_SAGEMAKER of this stack."""
        return f"http://{HOST}:{self.sagemaker_port}"

    def aws_environment(self) -> dict[str, str]:
        """Variables that point any AWS tool at this stack, with credentials that open nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_SAGEMAKER": self.sagemaker_endpoint,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": self.sagemaker_endpoint,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }


def _number(env: Mapping[str, str], variable: str, default: int, low: int, high: int) -> int:
    text = env.get(variable)
    if text is None:
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise LocalCloudError(f"{variable}={text!r}: it must be a whole number from {low} to {high}")
    return int(text)
