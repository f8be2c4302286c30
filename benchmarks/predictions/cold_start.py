"""From a fresh process to the first prediction: the real handler in turns with a bare script."""

from __future__ import annotations

import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.played_cloud import playing
from benchmarks.predictions.releases import promoted, release_files
from benchmarks.predictions.world import EVENT, HISTORY

from twinloop.contracts.history import pack
from twinloop.ports import MemoryObjectStore, ObjectStore

ROOT = Path(__file__).resolve().parents[2]
BARE = """
import sys
import boto3
import onnxruntime
boto3.client("dynamodb")
for path in sys.argv[1:]:
    onnxruntime.InferenceSession(path)
print("ready", flush=True)
"""
OURS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import handler
answer = handler.handler(json.loads(sys.argv[2]), None)
body = json.loads(answer["body"])
assert answer["statusCode"] == 200 and len(body["items"]) == 20 and not body["degraded"] and not body["cold"], body
print("ready", flush=True)
"""


def cold_start(starts: int) -> dict[str, Any]:
    """Milliseconds from the start of a process to its first prediction, and the ratio of the medians."""
    files, store = release_files(), MemoryObjectStore()
    promoted(store, files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _cloud(store))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TWINLOOP_SYSTEM": "video",
        "TWINLOOP_BUCKET": "data",
        "TWINLOOP_TABLE": "main",
        "TWINLOOP_PREDICTION_STREAM": "predictions",
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, parts in files.items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(parts["model.onnx"])
            paths.append(str(path))
        ours = [sys.executable, "-c", OURS, str(ROOT / "functions" / "serve"), json.dumps(EVENT)]
        bare = [sys.executable, "-c", BARE, *paths]
        times: dict[str, list[float]] = {"bare": [], "ours": []}
        for turn in range(starts + 2):
            for name, command in (("bare", bare), ("ours", ours)):
                took = _until_ready(command, environment)
                if turn >= 2:  # the first ones write and read bytecode
                    times[name].append(took)
    server.shutdown()
    server.server_close()
    medians = {f"{name}_ms": round(statistics.median(values), 1) for name, values in times.items()}
    return {
        **medians,
        "ratio": round(medians["ours_ms"] / medians["bare_ms"], 3),
        "budget_ratio": 1.3,
        "starts": starts,
    }


def _until_ready(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line != "ready\n":
            pass  # the handler's own lines
        took = (time.perf_counter() - started) * 1000
        process.stdout.read()
    if process.returncode or not line:
        raise SystemExit(f"a measured process failed: {command[:3]}")
    return took


def _cloud(store: ObjectStore) -> type[BaseHTTPRequestHandler]:
    """The three services, as far as a first prediction asks them."""
    item = {
        "data": {"B": base64.b64encode(pack(HISTORY)).decode()},
        "revision": {"N": "1"},
        "expires_at": {"N": "99999999999"},
    }
    answers: dict[str, dict[str, Any]] = {
        "DynamoDB_20120810.GetItem": {"Item": item},
        "Firehose_20150804.PutRecordBatch": {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1"}]},
    }
    return playing(store, lambda target, _: answers[target])
