"""ONNX files, converted to torch modules."""
