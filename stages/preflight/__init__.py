"""Whether a checkpoint can serve, told by its small files before its weights are downloaded."""
