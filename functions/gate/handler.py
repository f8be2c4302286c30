"""Lambda `gate`: judge what was trained and register it, or make a judged release the champion.

In: evaluation.messages.JudgeRequest ({"system", "snapshot_key", "results"}) or PromoteRequest ({"action": "promote",
"system", "version", "why"}). Out: their answers.
"""

from typing import Any

from aws_lambda_powertools import Logger

from twinloop import systems
from twinloop.aws.environment import own_bucket
from twinloop.evaluation.messages import PromoteRequest, parse
from twinloop.evaluation.run import judge_results, promote
from twinloop.serving.loading import load_models

logger = Logger(service="gate")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    request = parse(event)
    if isinstance(request, PromoteRequest):
        moved = promote(request, own_bucket())
        logger.info("promoted", system=request.system, **moved.model_dump())
        return moved.model_dump()
    answer = judge_results(request, own_bucket(), systems.load(request.system), load_models)
    logger.info("judged", system=request.system, **answer.model_dump())
    return answer.model_dump()
