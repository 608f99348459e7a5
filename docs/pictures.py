"""Draw the README's loss curves: python docs/pictures.py REVISION [REVISION …]

A revision is whatever DVC can read metrics/plots of: a commit, a branch, or an experiment's name;
"workspace" is the files as they are. Writes docs/loss_curves.svg.
"""

import sys

import dvc.api
import matplotlib.pyplot as plt
import pandas as pd


def read(name: str, revision: str) -> pd.DataFrame:
    """A table of metrics/plots at a revision."""
    rev = None if revision == "workspace" else revision
    with dvc.api.open(f"metrics/plots/{name}.csv", rev=rev) as file:
        return pd.read_csv(file)


def checkpoint(revision: str) -> str:
    """The checkpoint that was trained at a revision."""
    rev = None if revision == "workspace" else revision
    with dvc.api.open("models/weights.json", rev=rev) as file:
        return pd.read_json(file, typ="series").checkpoint


def main(revisions: list[str]) -> None:
    """Training loss by step, and the validation loss of each epoch beside the class prior."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 3.2), sharey=True, width_ratios=[3, 1], layout="constrained"
    )
    for place, revision in enumerate(revisions):
        name, colour = checkpoint(revision), f"C{place}"
        training, validation = read("training_loss", revision), read("validation_loss", revision)
        left.plot(training.step, training.training_loss, color=colour, label=name)
        right.plot(validation.epoch, validation.validation_loss, "o-", color=colour)
    prior = validation.class_prior.iloc[0]
    for axis, label in ((left, "step"), (right, "epoch")):
        axis.axhline(prior, color="grey", linestyle="--", label=f"class prior {prior:.3f}")
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    left.set(title="training loss, mean over folds", ylabel="log loss (nats)")
    right.set(title="validation loss", xticks=validation.epoch)
    left.legend(frameon=False)
    plt.rcParams["svg.hashsalt"] = "loss"  # the same picture is the same file
    figure.savefig("docs/loss_curves.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1:])
