"""What a vote can say."""

LABELS = ("a", "b", "tie")  # a label is a place in this order: 0, 1, 2
MIRRORED = (1, 0, 2)  # what a label, or a column, becomes when A and B are exchanged
