"""What tests share: made-up votes, tiny runs, clones of this checkout."""
