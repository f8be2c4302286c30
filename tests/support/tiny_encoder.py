"""A BERT small enough to run in no time."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch

from twinloop.training.text_encoder import Weights

VOCABULARY = "\n".join(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklm", *(f"##{c}" for c in "nopqrstuvwxyz")]
).encode()


def tiny_weights() -> Weights:
    """Random weights of a BERT of two layers, named as the packages name them."""
    random = torch.Generator().manual_seed(3)
    width, inner, words, places = 16, 32, 30, 40
    shapes = {
        "embeddings.word_embeddings.weight": (words, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.position_embeddings.weight": (places, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for number in range(2):
        prefix = f"encoder.layer.{number}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{prefix}{name}.weight": (width, width), f"{prefix}{name}.bias": (width,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{prefix}{name}.weight": (width,), f"{prefix}{name}.bias": (width,)}
        shapes |= {f"{prefix}intermediate.dense.weight": (inner, width), f"{prefix}intermediate.dense.bias": (inner,)}
        shapes |= {f"{prefix}output.dense.weight": (width, inner), f"{prefix}output.dense.bias": (width,)}
    config = {
        "hidden_size": width, "intermediate_size": inner, "layer_norm_eps": 1e-12, "num_hidden_layers": 2,
        "max_position_embeddings": places, "vocab_size": words, "num_attention_heads": 4,
    }  # fmt: skip
    return Weights({name: torch.randn(shape, generator=random) for name, shape in shapes.items()}, config, b"")


def package(place: Path, name: str = "tiny_encoder_weights") -> str:
    """Write a package with such weights into a folder; returns its name."""
    weights = tiny_weights()
    folder = place / name / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "config.json").write_text(json.dumps(weights.config))
    (folder / "vocab.txt").write_bytes(VOCABULARY)
    header, body = {}, b""
    for key, tensor in weights.tensors.items():
        values = (0.2 * tensor).numpy().tobytes()
        header[key] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(values)],
        }
        body += values
    said = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(said)) + said + body)
    return name
