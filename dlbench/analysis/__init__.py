"""What may be concluded from results: comparisons, selections, claims, interim looks. Results in, findings out.

| module | what it holds |
|---|---|
| `configurations` | trials grouped by everything but their seeds; means and intervals |
| `comparison` | models ranked, and the differences that the data support |
| `same_images` | networks compared on the same test images |
| `datasets` | models compared over several data sets |
| `selection` | the configuration that a grid selects, and how stable that is |
| `outlook` | how many seeds would separate what is not separated yet |
| `failures` | trials that diverged or collapsed, and how they count |
| `protocols` | validation against test accuracy; variation by source of randomness |
| `crossings` | where the learning curves of configurations cross, by number of training images |
| `collapse` | the learning rate at which runs collapse |
| `few_seeds` | what studies with few seeds would have concluded |
| `published` | published runs among those of one's own seeds |
| `claims` | pre-registered claims and their verdicts |
| `convergence` | how many trials converged, and when |
| `looks` | interim looks at a growing comparison |
| `answers` | which test images each trial classified correctly |
"""
