"""How right probabilities of clicks are: `python -m benchmarks.ads` adds to benchmarks/quality.json.

Every rung of the ladder is what the real snapshot and the real job make of a lake; its ONNX file is asked about
showings that came after everything it learnt from, with features as of the moment before each.

Each part has a module that says what is measured: `kuairand_days`, `gate`, `simulated`, `since_last`, `open_bandit`.
`choose_live` prints what live calibration would be set to; `floor` says how near to the truth anybody can come.
"""

from benchmarks.ads.parts import measure

__all__ = ["measure"]
