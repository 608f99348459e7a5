"""Which of several finished runs is better: statistics of pairs, rules of the verdict, words."""
