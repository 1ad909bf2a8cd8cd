"""What may be concluded from results: comparisons, claims, interim looks. Results in, findings out."""
