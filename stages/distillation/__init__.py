"""What a teacher says: a finished run's own model of a fold, or files of predictions."""
