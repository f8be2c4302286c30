"""How well labels of texts are told: `python -m benchmarks.moderation` adds to benchmarks/quality.json.

Every rung is what the real ingest, snapshot and job make of raw rows; its ONNX file is asked through the predictor that
serves, about texts that nothing was learnt from or chosen on.

`davidson`: tweets of Davidson et al. (ICWSM 2017). Each annotator's word is a row of `labels`: `hate`, and `offensive`
of whoever says hate or offence. `mlma`: English tweets of Ousidhoum et al. (EMNLP 2019) with several labels each: what
is felt in them. `parts` says which texts are tested, and what the figures are; `gate`, what `davidson_gate` is: the
gate's word on Davidson's texts.
"""

from benchmarks.moderation.parts import DATA_SETS, add
from benchmarks.moderation.texts import DATA

__all__ = ["DATA", "DATA_SETS", "add"]
