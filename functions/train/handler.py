"""Start a training job for a waiting task, or pass a job's end on to the task that waits for it."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from twinloop.aws.objects import S3ObjectStore
from twinloop.aws.training_jobs import S3SourceBundles, SageMakerJobs, StepFunctionsTasks
from twinloop.contracts.spec import Rung
from twinloop.training.launch import TrainingSettings, resume, start

logger = Logger(service="train")


@cache
def settings() -> TrainingSettings:
    env = os.environ
    images = {"xgboost": env["TWINLOOP_XGBOOST_IMAGE"], "pytorch": env["TWINLOOP_PYTORCH_IMAGE"]}
    return TrainingSettings(env["TWINLOOP_STACK"], env["TWINLOOP_BUCKET"], env["TWINLOOP_TRAINING_ROLE"], images)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    waiting = StepFunctionsTasks(os.environ["TWINLOOP_TABLE"])
    if "detail" in event:
        resumed = resume(event["detail"], waiting)
        logger.info("job ended", job=event["detail"]["TrainingJobName"], resumed=resumed)
        return {"resumed": resumed}
    job = start(
        settings=settings(),
        jobs=SageMakerJobs(),
        waiting=waiting,
        bundles=S3SourceBundles(S3ObjectStore(settings().bucket)),
        system=event["system"],
        snapshot_key=event["snapshot_key"],
        rung=Rung.model_validate(event["rung"]),
        token=event["token"],
    )
    logger.info("job started", job=job)
    return {"job": job}
