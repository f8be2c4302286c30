"""Serving for `benchmarks/scale.py`: a fresh process with the real handler, and a cloud that is two folders.

`python -m benchmarks.scale_serve DIR [--python PYTHON --path FOLDERS]` prints one line of JSON. The handler's process
holds nothing but the handler; S3 and DynamoDB are played by this one, with next to no work of their own.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.played_cloud import playing
from benchmarks.scale_steps import OBJECTS, STORE, SYSTEM, FolderStore

ROOT = Path(__file__).resolve().parents[1]
REQUESTS = 200
# Every tenth request wants reasons, every twentieth comes from somebody unknown: what is loaded lazily is loaded too.
CHILD = """
import json, resource, sys, time
started = time.perf_counter()
sys.path.insert(0, sys.argv[1])
import handler
times, busy, peaks, cold, arms = [], [], [], 0, set()
for number, user in enumerate(json.loads(sys.stdin.read())):
    include = ["titles", "reasons"] if number % 10 == 9 else ["titles"]
    user = "nobody" if number % 20 == 0 and number else user
    body = json.dumps({"user_id": user, "limit": 20, "include": include})
    event = {"httpMethod": "POST", "path": sys.argv[2], "headers": {"Content-Type": "application/json"}, "body": body}
    begun, used = time.perf_counter(), time.process_time()
    answer = handler.handler(event, None)
    times.append((time.perf_counter() - begun) * 1000)
    busy.append((time.process_time() - used) * 1000)
    said = json.loads(answer["body"])
    assert answer["statusCode"] == 200 and len(said["items"]) == 20, said
    assert not said["degraded"], said
    cold, arms = cold + said["cold"], arms | {said["arm"]}
    if not number:
        first = time.perf_counter() - started
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
later = sorted(times[1:])
held = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")]
print("measured " + json.dumps({
    "python": sys.version.split()[0],
    "requests": len(times),
    "without_history": cold,
    "arms": sorted(arms),
    "first_answer_s": round(first, 2),
    "p50_ms": round(later[len(later) // 2], 2),
    "p99_ms": round(later[int(len(later) * 0.99)], 2),
    "cpu_p50_ms": round(sorted(busy[1:])[len(later) // 2], 2),
    "cpu_p99_ms": round(sorted(busy[1:])[int(len(later) * 0.99)], 2),
    "peak_mb_after_first": round(peaks[0] / 1024),
    "peak_mb": round(peaks[-1] / 1024),
    "held_mb": round(int(held[0]) / 1024) if held else None,
}), flush=True)
"""


def cloud(work: Path) -> type[BaseHTTPRequestHandler]:
    """S3 on the folder of objects, DynamoDB on the stored rows, Firehose on nothing."""
    objects = FolderStore(work / OBJECTS)
    local = threading.local()

    def rows() -> sqlite3.Connection:
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(work / STORE)
        connection: sqlite3.Connection = local.connection
        return connection

    def item(key: Mapping[str, Any]) -> dict[str, Any] | None:
        found = rows().execute(
            "SELECT data, attributes FROM rows WHERE pk = ? AND sk = ?", (key["pk"]["S"], key["sk"]["S"])
        ).fetchone()  # fmt: skip
        if found is None:
            return None
        told = {} if found[1] is None else {"attributes": {"S": found[1]}}
        data = {"data": {"B": base64.b64encode(found[0]).decode()}}
        return {**key, **told, **data, "revision": {"N": "1"}, "expires_at": {"N": "99999999999"}}

    def answered(target: str, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        if target == "DynamoDB_20120810.GetItem":
            found = item(asked["Key"])
            return {} if found is None else {"Item": found}
        if target == "DynamoDB_20120810.BatchGetItem":
            return {
                "Responses": {
                    table: [found for key in of["Keys"] if (found := item(key)) is not None]
                    for table, of in asked["RequestItems"].items()
                },
                "UnprocessedKeys": {},
            }
        return {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1"}]}

    return playing(objects, answered)


def users(work: Path) -> list[str]:
    """Users with a history, evenly from all of them."""
    with sqlite3.connect(work / STORE) as connection:
        known = [row[0] for row in connection.execute("SELECT pk FROM rows WHERE sk = 'history' ORDER BY pk")]
    step = max(len(known) // REQUESTS, 1)
    return [pk.split("#", 2)[2] for pk in known[::step]][:REQUESTS]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument(
        "--path", default="", help="Folders of its dependencies, where the interpreter has not got them."
    )
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), cloud(options.work))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), *options.path.split(os.pathsep)]),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TWINLOOP_SYSTEM": SYSTEM,
        "TWINLOOP_BUCKET": "data",
        "TWINLOOP_TABLE": "main",
        "TWINLOOP_PREDICTION_STREAM": "predictions",
    }
    command = [options.python, "-c", CHILD, str(ROOT / "functions" / "serve"), f"/v1/{SYSTEM}/recommendations"]
    done = subprocess.run(  # noqa: S603 - ourselves
        command, env=environment, input=json.dumps(users(options.work)), stdout=subprocess.PIPE, text=True, check=False
    )
    server.shutdown()
    server.server_close()
    measured = [line for line in done.stdout.splitlines() if line.startswith("measured ")]
    if done.returncode or not measured:
        raise SystemExit(f"the serving process failed: {done.stdout[-2000:]}")
    print(measured[0].removeprefix("measured "), flush=True)


if __name__ == "__main__":
    main()
