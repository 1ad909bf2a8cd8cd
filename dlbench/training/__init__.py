"""Training as pure functions of the static part, the state, the data, the keys and the hyper-parameters."""
