"""What every training job needs once: settings, snapshot reading, splits, ONNX graphs, parity, artefacts."""
