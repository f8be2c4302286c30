"""Why a job ends otherwise than well."""

from __future__ import annotations

from pathlib import Path

from twinloop_local.errors import LocalCloudError

_LONGEST = 1024  # of FailureReason in the API


class JobFailed(LocalCloudError):
    """Ends the job as Failed; the message becomes its FailureReason."""


class JobStopped(LocalCloudError):
    """Ends the job as Stopped; the message is the SecondaryStatus."""


def reason(base: Path, exit_code: int) -> str:
    """FailureReason of a script that ended with an exit code: what /opt/ml/output/failure says.

    AWS keeps the first 1024 characters. So much is kept here too, but from both ends: a traceback says most at its end.
    """
    try:
        text = (base / "output" / "failure").read_text(errors="replace").strip()
    except OSError:
        text = ""
    said = text or "the script ended without writing /opt/ml/output/failure; see its log"
    return shorten(f"AlgorithmError: {said}, exit code: {exit_code}")


def shorten(text: str, longest: int = _LONGEST) -> str:
    """At most so many characters, the middle left out."""
    gap = "\n[...]\n"
    if len(text) <= longest:
        return text
    head = longest // 4
    return text[:head] + gap + text[len(text) - (longest - head - len(gap)) :]
