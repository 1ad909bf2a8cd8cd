"""How a study is executed: compiled programs, workers, and the parent that feeds them."""
