"""Which of several finished runs is better.

`compare` gives the whole: `entries` takes seeds together, `validity` says what makes a comparison
invalid and `caveats` what weakens it, `pairs` and `paired` compute, `verdict` has the rule, `words`
the sentences. `posted` is about losses without predictions.
"""
