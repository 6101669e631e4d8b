"""The models: ONNX files with manifests, checked at load, run outside the decision."""
