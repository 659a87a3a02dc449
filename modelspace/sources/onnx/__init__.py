"""ONNX files, converted to torch by our own operators."""
