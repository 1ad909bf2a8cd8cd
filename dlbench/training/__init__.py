"""Training as pure functions of (static part, state, data, keys, hyper-parameters)."""
