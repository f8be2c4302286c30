"""Why a job ends otherwise than well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twinloop_local.errors import LocalCloudError

_LONGEST = 1024  # of FailureReason in the API
_NO_MESSAGE = 'ErrorMessage ""'


class JobFailed(LocalCloudError):
    """Ends the job as Failed; the message becomes its FailureReason."""


class JobStopped(LocalCloudError):
    """Ends the job as Stopped; the message is the SecondaryStatus."""


def reason(base: Path, exit_code: int, log: Sequence[str] = ()) -> str:
    """FailureReason of a script that ended with an exit code: what /opt/ml/output/failure says.

    Where the script wrote none the toolkit does, but leaves the error message empty: AWS's framework containers fill
    it, and so is it here, with the exception in the log. AWS keeps the first 1024 characters. So much is kept here too,
    but from both ends: a traceback says most at its end.
    """
    try:
        text = (base / "output" / "failure").read_text(errors="replace").strip()
    except OSError:
        last = next((line.strip() for line in reversed(log) if line.strip()), "(it said nothing)")
        text = f"the script ended without writing /opt/ml/output/failure; its last line: {last}"
    said = text.replace(_NO_MESSAGE, f'ErrorMessage "{_exception(log)}"')
    return shorten(f"AlgorithmError: {said}, exit code: {exit_code}")


def _exception(log: Sequence[str]) -> str:
    """The line that names the exception of the last traceback in the log; empty where there is no traceback."""
    starts = [number for number, line in enumerate(log) if line.startswith("Traceback (most recent call last)")]
    after = log[starts[-1] + 1 :] if starts else ()
    return next((line.strip() for line in after if line[:1].strip()), "")


def shorten(text: str, longest: int = _LONGEST) -> str:
    """At most so many characters, the middle left out."""
    gap = "\n[...]\n"
    if len(text) <= longest:
        return text
    head = longest // 4
    return text[:head] + gap + text[len(text) - (longest - head - len(gap)) :]
