"""What needs no language model: features that are counted, their regression, an offset."""
