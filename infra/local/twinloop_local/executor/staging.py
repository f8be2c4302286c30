"""The folder that is /opt/ml to a job: its configuration and its channels."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client, transfer_client
from twinloop_local.executor.failures import JobFailed

# A name that resolves anywhere. SageMaker's own `algo-1` would make the toolkit wait for a name server that knows it.
HOST_NAME = "localhost"


def make_folders(base: Path) -> None:
    """Create the empty tree that SageMaker mounts at /opt/ml."""
    for name in ("input/config", "input/data", "model", "output/data", "code"):
        (base / name).mkdir(parents=True)


def write_config(base: Path, request: Mapping[str, Any]) -> None:
    """Write the three files of /opt/ml/input/config as SageMaker does."""
    instance_type = request["ResourceConfig"]["InstanceType"]
    group = {"instance_group_name": "homogeneousCluster", "instance_type": instance_type, "hosts": [HOST_NAME]}
    files = {
        "hyperparameters": request.get("HyperParameters", {}),
        "inputdataconfig": {c["ChannelName"]: _channel_config(c) for c in request.get("InputDataConfig", ())},
        "resourceconfig": {
            "current_host": HOST_NAME,
            "current_instance_type": instance_type,
            "current_group_name": "homogeneousCluster",
            "hosts": [HOST_NAME],
            "instance_groups": [group],
            "network_interface_name": "lo",
        },
    }
    for name, content in files.items():
        (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))


def _channel_config(channel: Mapping[str, Any]) -> dict[str, str]:
    config = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    return config | ({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})


def download_channels(base: Path, request: Mapping[str, Any]) -> None:
    """Copy every object under each channel's prefix to /opt/ml/input/data/<channel>.

    Raises:
        JobFailed: In the words of SageMaker where nothing is there.
    """
    for channel in request.get("InputDataConfig", ()):
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        folder = base / "input" / "data" / channel["ChannelName"]
        folder.mkdir()
        try:
            count = _download(uri, folder)
        except (ClientError, BotoCoreError, OSError) as error:
            raise JobFailed(f"ClientError: Data download failed for {uri}: {error}") from error
        if count == 0:
            raise JobFailed(
                f'ClientError: Data download failed:No S3 objects found under S3 URL "{uri}" given in input data '
                "source. Please ensure that the bucket exists and objects exist under that S3 prefix."
            )


def _download(uri: str, folder: Path) -> int:
    url = urlsplit(uri)
    bucket, prefix = url.netloc, url.path.lstrip("/")
    s3 = client("s3")
    count = 0
    for key in _keys(s3, bucket, prefix):
        name = relative_name(key, prefix)
        if posixpath.normpath(name) != name or name.startswith(("/", "../")):
            raise JobFailed(
                f"ClientError: Data download failed: s3://{bucket}/{key} does not name a file in its folder"
            )
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        transfer_client().download_file(bucket, key, str(target))
        count += 1
    return count


def _keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # the S3 console's folder markers
                yield entry["Key"]


def relative_name(key: str, prefix: str) -> str:
    """Where an object found under a prefix lands in the channel's folder.

    `a/b` and `a/b/` both strip the folder `a/b`; a prefix that ends within a name strips up to its last slash.
    """
    folder = prefix.rstrip("/") + "/"
    if prefix and key.startswith(folder):
        return key[len(folder) :]
    return key[prefix.rfind("/") + 1 :]
