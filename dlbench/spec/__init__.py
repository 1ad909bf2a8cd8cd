"""What to train: trials, studies, designs, files and the names of parts. No jax."""
