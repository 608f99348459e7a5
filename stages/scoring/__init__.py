"""How good probabilities are: scores, intervals, calibration, baselines, and what was learned."""
