"""Which settings suit a backbone, by votes that no fold evaluates.

`tune` gives the whole. `task` reads what is to be done: `overrides` the params with `-S`, `space`
what is tried, `inner` the split of the votes. `study` runs the trials with Optuna, each watched as
`watch` says. `history` has what is recorded of them, and `experiment` hands the winner to DVC. No
stage of dvc.yaml imports this room.
"""
