"""Builds networks in torch, and exports them to ONNX."""
