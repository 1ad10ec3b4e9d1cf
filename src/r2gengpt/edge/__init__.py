"""Reports without PyTorch: a model written as OpenVINO graphs (export half), and what runs it (runtime half)."""
