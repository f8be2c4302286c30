"""Lambda `train`: start a job for a waiting task, stop one that nobody waits for any more, pass a job's end on.

In: {"action": "start" or "stop", "system", "rung", "execution", ...} from the state machine, or SageMaker's event.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from twinloop.aws.images import training_images
from twinloop.aws.objects import S3ObjectStore
from twinloop.aws.training_jobs import S3SourceBundles, SageMakerJobs, StepFunctionsTasks
from twinloop.contracts.spec import Rung
from twinloop.training.launch import Launcher, TrainingSettings, resume

logger = Logger(service="train")


@cache
def launcher() -> Launcher:
    env = os.environ
    images = training_images(xgboost=env["TWINLOOP_XGBOOST_IMAGE"], pytorch=env["TWINLOOP_PYTORCH_IMAGE"])
    settings = TrainingSettings(env["TWINLOOP_STACK"], env["TWINLOOP_BUCKET"], env["TWINLOOP_TRAINING_ROLE"], images)
    bundles = S3SourceBundles(S3ObjectStore(settings.bucket))
    return Launcher(settings, SageMakerJobs(), StepFunctionsTasks(env["TWINLOOP_TABLE"]), bundles)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    if "detail" in event:
        resumed = resume(event["detail"], launcher().waiting)
        logger.info("job ended", job=event["detail"]["TrainingJobName"], resumed=resumed)
        return {"resumed": resumed}
    rung, run = Rung.model_validate(event["rung"]), (event["system"], event["execution"])
    stop = event["action"] == "stop"
    if stop:
        job = launcher().stop(*run, rung)
    else:
        key, token, champion = event["snapshot_key"], event["token"], event.get("champion_key", "")
        job = launcher().start(*run, rung, key, token, champion_key=champion)
    logger.info("job stopped" if stop else "job started", job=job)
    return {"job": job}
