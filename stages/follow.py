"""Send what a training tells of itself to MLflow; the stage `train` starts this beside itself."""

if __name__ == "__main__":
    pass
