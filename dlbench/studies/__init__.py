"""Studies as a whole: designing, running, growing and replaying them."""
