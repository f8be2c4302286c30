"""Packs what a job left behind and uploads it where OutputDataConfig says."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import transfer_client
from twinloop_local.executor.failures import JobFailed


def upload(folder: Path, name: str, output_path: str, job: str) -> str:
    """Upload a folder as `<output_path>/<job>/output/<name>.tar.gz`; returns its address."""
    archive = pack(folder, folder.parent / f"{name}.tar.gz")
    url = urlsplit(output_path)
    key = "/".join(part for part in (url.path.strip("/"), job, "output", archive.name) if part)
    try:
        transfer_client().upload_file(str(archive), url.netloc, key)
    except (ClientError, BotoCoreError, OSError) as error:
        raise JobFailed(f"ClientError: Artifact upload failed: s3://{url.netloc}/{key}: {error}") from error
    finally:
        archive.unlink()
    return f"s3://{url.netloc}/{key}"


def pack(folder: Path, archive: Path) -> Path:
    """Write a tar.gz whose bytes depend on names and contents only, so that equal models have equal archives."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_plain)
    return archive


def is_empty(folder: Path) -> bool:
    """Whether there is nothing to upload; a job may even have removed the folder."""
    return not folder.is_dir() or not any(folder.iterdir())


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
