"""Functions that do all that a function may do to the executor that runs it. Unpacked as /var/task/handlers.py."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

print("loading")
calls = 0


def count(event, context):
    global calls  # noqa: PLW0603 - whether it is kept is the question
    calls += 1
    print("call", calls, context.aws_request_id)
    return {"calls": calls, "process": os.getpid(), "left_ms": context.get_remaining_time_in_millis()}


def look(event, context):
    return {
        "variables": dict(os.environ),
        "path": sys.path,
        "folder": os.getcwd(),
        "root": sorted(os.listdir("/")),
        "user": os.getuid(),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()),
    }


def load(event, context):
    found = {}
    for name in event:
        try:
            module = __import__(name)
            found[name] = getattr(module, "__file__", None) or str(list(module.__path__))
        except ImportError as error:
            found[name] = str(error)
    return found


def leak(event, context):
    kept = []
    while event.get("leak", True):
        kept.append(bytearray(5_000_000))
        time.sleep(0.001)
    return "lean"


def leak_in_child(event, context):
    subprocess.run([sys.executable, "-c", "x = bytearray(300_000_000); import time; time.sleep(60)"], check=True)


def hang(event, context):
    if event.get("hang", True):
        print("hanging")
        subprocess.Popen(["sleep", event["seconds"]], start_new_session=True)
        time.sleep(60)
    return calls


def end(event, context):
    if "signal" in event:
        os.kill(os.getpid(), signal.Signals[event["signal"]])
        time.sleep(5)
    if "code" in event:
        os._exit(event["code"])
    return "alive"


class OutOfStock(Exception):
    """An error of the function's own."""


def fail(event, context):
    raise OutOfStock("no more of these")


def write(event, context):
    Path(event["path"]).write_text("x")


def keep(event, context):
    folder = Path(event["folder"] or os.environ["TMPDIR"])
    if "write" in event:
        (folder / event["write"]).write_text("kept")
    return sorted(entry.name for entry in folder.iterdir())


def answer(event, context):
    return "x" * (event["bytes"] - 2)  # and two quotation marks


def odd(event, context):
    return {1, 2}


def say(event, context):
    print("by print, ä")
    print("to standard error", file=sys.stderr)
    subprocess.run(["echo", "by a child"], check=True)
    ctypes.CDLL(None).puts(b"by C code")
    ctypes.CDLL(None).fflush(None)
    sys.stdout.write("no end of line")


def sleep(event, context):
    time.sleep(event["seconds"])
    return time.time()
