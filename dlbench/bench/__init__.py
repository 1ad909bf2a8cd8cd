"""Benchmarks of dlbench, alone and against PyTorch and plain Flax.

Everything that is measured runs in a separate process, which is started like dlbench's workers and is warmed up before
measurements begin. Alternatives take turns (A B A B ...), so that a machine that slows down slows all of them. Results
are medians with quartiles; ratios are geometric means with Student's interval over the rounds. The reference
implementations are used only here and in tests.

| module | what it holds |
|---|---|
| `rounds` | medians, quartiles, ratios: pure functions of timings |
| `serving`, `measure` | a process that measures: the process itself, and its parent's side |
| `ours`, `flax_reference` | dlbench's own programs, and the same programs with plain Flax layers |
| `torch_reference`, `torch_subject`, `torch_trials` | PyTorch: networks and loops, step by step, whole runs |
| `lanes`, `lanes_subject`, `torch_lanes` | many trials at once on one device: the parent, dlbench, PyTorch |
| `steps` | images per second, latency, compilation and memory by network and batch size |
| `commands` | whole commands, from process start to the final table |
| `scaling`, `widths` | cost by number of trials, workers, images and parameters, and by batch size |
| `tables`, `charts` | the reports, as tables and as figures |

The parent imports neither jax nor torch.
"""
