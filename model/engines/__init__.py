"""What runs the network: PyTorch, which all others are held to, OpenVINO, or ONNX Runtime. One interface."""
