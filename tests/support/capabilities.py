"""What each emulator cannot do, told by capability: tests say what they need, and this says who lacks it.

docs/emulators.md has the same in a table, with the tests that are skipped for it.
"""

from __future__ import annotations

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
    reason = MISSING[capability].get(emulator)
    return reason and f"{emulator} lacks {capability}: {reason}"
