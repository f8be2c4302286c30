"""Serves the executor on 127.0.0.1: `python -m twinloop_local.executor --port 4570 --jobs DIR --python PYTHON`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from werkzeug.serving import WSGIRequestHandler, make_server

from twinloop_local.executor.app import ExecutorApp
from twinloop_local.executor.job import JobSettings
from twinloop_local.executor.jobs import Jobs
from twinloop_local.settings import HOST


class _Handler(WSGIRequestHandler):
    """Logs nothing per request: status polling would drown what matters."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        return


def main() -> None:
    """Serve until SIGTERM. Running jobs then end with this process: their guards see to it."""
    parser = argparse.ArgumentParser(prog="twinloop_local.executor", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--jobs", type=Path, required=True, help="folder for the jobs' files")
    parser.add_argument("--slots", type=int, default=2, help="training jobs that run at once")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter of training jobs")
    parser.add_argument("--grace", type=float, default=120.0, help="seconds between SIGTERM and SIGKILL, as on AWS")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    signal.signal(signal.SIGTERM, _leave)
    options.jobs.mkdir(parents=True, exist_ok=True)
    jobs = Jobs(JobSettings(options.jobs.resolve(), options.python, options.grace), options.slots)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    application = ExecutorApp(jobs, region)
    make_server(HOST, options.port, application, threaded=True, request_handler=_Handler).serve_forever()


def _leave(_number: int, _frame: FrameType | None) -> None:
    # Not sys.exit: it would wait for the jobs' threads. Closing the guards' pipes, as this does, ends the jobs.
    os._exit(0)


if __name__ == "__main__":
    main()
