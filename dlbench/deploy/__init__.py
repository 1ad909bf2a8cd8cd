"""Trained networks outside of dlbench: files that other runtimes run, how fast they are, and model cards.

| module | what it holds |
|---|---|
| `export` | exporting a trial, from a process without jax |
| `exporting` | the process that writes the file, runs it and measures it |
| `onnx_graph` | functions of jax as ONNX graphs |
| `runtimes` | each kind of file, run by its own runtime |
| `latency` | quantiles of latency, and throughput |
| `card` | model cards |
"""
