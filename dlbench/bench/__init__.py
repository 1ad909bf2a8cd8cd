"""What dlbench costs, measured so that the figures can be believed.

Every process that computes is one of its own, started as dlbench's workers are, and warm before a clock runs.
What is compared takes turns (A B A B ...), so that a machine that slows down slows both; each figure is a median
with its quartiles, each ratio a geometric mean with Student's interval over the rounds. The references live here
and nowhere in the training path.

| module | what it holds |
|---|---|
| `rounds` | medians, quartiles, ratios: pure functions of timings |
| `serving`, `measure` | a process that measures, from the inside and from the parent's side |
| `ours`, `flax_reference` | what is measured: dlbench's own programs, and the same with plain Flax layers |
| `torch_reference`, `torch_subject`, `torch_trials` | in PyTorch: networks and loops, measured, whole runs |
| `steps` | images a second, latency, compilation, memory, of each network and batch size |
| `commands` | whole commands from process start to the final table |
| `scaling`, `widths` | cost against trials, workers, batch size, images and parameters |
| `tables`, `charts` | the reports, as tables and as pictures |

The parent imports neither jax nor torch.
"""
