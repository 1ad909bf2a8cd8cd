"""What is kept of a study: its results, checkpoints, TensorBoard files and manifest."""
