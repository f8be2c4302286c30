"""What each emulator cannot do, told by capability: tests say what they need, and this says who lacks it.

docs/emulators.md has the same in a table, with the tests that are skipped for it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from twinloop_local import LocalCloudError, LocalSettings
from twinloop_local.localstack import why_plain

_ROOT = Path(__file__).resolve().parents[2]

# capability -> emulator -> what is seen there instead
MISSING = {
    "gateway responses": {
        "localstack": 'the gateway refuses in its default words, {"message": "Forbidden"}; ours are kept but not used',
    },
    "throttling": {
        "localstack": "usage plans are kept but not enforced: every request is served",
    },
    "function places": {
        "ministack": "no /var/task and no /opt: code and layers are in temporary folders, which can be written to",
    },
    "memory limit": {
        "ministack": "a function may use any amount of memory: it answers where AWS kills it",
    },
    "error types": {
        "ministack": "errorType is Runtime.HandlerError, whatever the handler raised",
    },
    "function dead letters": {
        "ministack": "templates' DeadLetterConfig is dropped; set by the API, the queue gets a record around the event",
    },
}


def missing(capability: str, emulator: str) -> str | None:
    """Why a test that needs the capability cannot run there; None where it can."""
    reason = MISSING[capability].get(emulator) or _missing_here(capability, emulator)
    return reason and f"{emulator} lacks {capability}: {reason}"


@cache
def _missing_here(capability: str, emulator: str) -> str | None:
    """What depends on the machine, by the same trial that `twinloop up` makes."""
    if (capability, emulator) != ("function places", "localstack"):
        return None
    try:
        plain = why_plain(LocalSettings.from_environment(_ROOT))
    except LocalCloudError:
        return None  # unknown, and no reason to skip: the test itself will tell
    return plain and f"functions are in plain folders here, because {plain}"
