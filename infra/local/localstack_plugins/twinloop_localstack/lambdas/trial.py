"""Says on standard output why functions cannot have AWS's places on this machine; nothing where they can.

Started as a program (`python -m twinloop_localstack.lambdas.trial`), in the environment that LocalStack gets: what it
says is what the executor will find there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from twinloop_localstack.lambdas.errors import ExecutorError
from twinloop_localstack.lambdas.place import find_runtime_of, why_not_private
from twinloop_localstack.lambdas.sandbox import Sandbox


def main() -> int:
    """Try it; 0 where there was a trial, whatever it gave."""
    try:
        sandbox = Sandbox(find_runtime_of(os.environ), private=True)
    except ExecutorError as error:
        print(error, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="lambda-trial-") as folder:
        refused = why_not_private(sandbox, Path(folder, "trial"))
    if refused:
        print(" ".join(refused.split()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
