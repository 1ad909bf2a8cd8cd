"""The execution of a study: compiled programs, workers, and the parent process that assigns trials to them."""
