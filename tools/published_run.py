"""The run that the author of the post published, and the range of ours around it.

`python tools/published_run.py` trains the post's model over 50 seeds and prints the table that
PUBLISHED_RUN.md keeps. The figures are those that the original notebook printed, rounded to
four digits: batch 64, beta 0.01, hidden sizes [100, 100], latent size 10, Adam 1e-3.
"""

from vae_helpers.data import load_images
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.training import train

import pandas as pd

PUBLISHED = pd.DataFrame(
    [
        (1, 0.7367, 4.382, 0.6929),
        (2, 0.7256, 3.451, 0.6911),
        (4, 0.7016, 1.732, 0.6843),
        (8, 0.6593, 0.8728, 0.6506),
        (16, 0.5140, 0.8791, 0.5052),
        (32, 0.2977, 1.603, 0.2817),
        (64, 0.2678, 0.8825, 0.2590),
        (128, 0.2636, 0.7996, 0.2556),
        (256, 0.2442, 0.8209, 0.2360),
        (512, 0.1854, 1.230, 0.1731),
        (1024, 0.1671, 1.562, 0.1515),
    ],
    columns=["step", "total", "kl", "reconstruction"],
)


def ranks(num_seeds: int) -> pd.DataFrame:
    """Trains over the seeds from 0 and returns the published figures in long form, each with
    our lowest and highest at that step, and the share of our runs that are below it."""
    images, _ = load_images("mnist", "train+test")
    runs = [
        train(
            Encoder(hidden_sizes=[100, 100], latent_size=10),
            Decoder(hidden_sizes=[100, 100], output_shape=images.shape[1:]),
            standard_normal(10),
            images,
            seed=seed,
        ).set_index("step")
        for seed in range(num_seeds)
    ]
    table = PUBLISHED.melt(id_vars="step", var_name="loss", value_name="published")
    values = [[run.loc[row.step, row.loss] for run in runs] for row in table.itertuples()]
    ours = pd.DataFrame(values)
    return table.assign(
        lowest=ours.min(axis=1),
        highest=ours.max(axis=1),
        below=ours.lt(table["published"], axis=0).mean(axis=1),
    )


if __name__ == "__main__":
    num_seeds = 50
    table = ranks(num_seeds)
    within = table["published"].between(table["lowest"], table["highest"])
    print(f"# The published run among {num_seeds} of ours\n")
    print(
        "What the author's run printed, the lowest and highest value that `train` gives at that "
        f"step over the seeds 0 to {num_seeds - 1}, on all 70,000 images, and the share of these "
        "runs that are below the published figure. Made by `make published`.\n\n"
        f"{within.sum()} of the {len(table)} figures lie within. Of so many figures a run like "
        f"ours is expected to have about {len(table) * 2 / (num_seeds + 1):.0f} outside the range "
        f"of {num_seeds} others.\n"
    )
    print("| step | loss | published | lowest | highest | below (%) |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for row in table.itertuples():
        print(
            f"| {row.step} | {row.loss} | {row.published:.4g} | {row.lowest:.4g} "
            f"| {row.highest:.4g} | {100 * row.below:.0f} |"
        )
