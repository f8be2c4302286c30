"""Tells what a function sees of the machine around it, and asks SageMaker through its endpoint."""

import os
import sys

import boto3
import words


def handler(event, context):
    jobs = boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    return {
        "greeting": words.GREETING,
        "python": list(sys.version_info[:2]),
        "environment": dict(os.environ),
        "words_from": words.__file__,
        "jobs": len(jobs),
        "memory": context.memory_limit_in_mb,
    }
