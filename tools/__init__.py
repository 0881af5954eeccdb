"""Programs beside the main scripts: the demo, data tools, studies and benchmarks. Tests import some of them."""
