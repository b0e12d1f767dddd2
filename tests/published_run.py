"""The run that the author of the post published, and the range of ours around it.

`python tests/published_run.py` trains the post's model over 20 seeds and prints the table that
PUBLISHED_RUN.md keeps. The figures are those that the original notebook printed, rounded to
four digits: batch 64, beta 0.01, hidden sizes [100, 100], latent size 10, Adam 1e-3.
"""

import pandas as pd

from vae_helpers.data import load_images
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.training import train

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


def ranges(num_seeds: int) -> pd.DataFrame:
    """Returns the published figures in long form, with our lowest and highest at that step."""
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
    return table.assign(lowest=[min(v) for v in values], highest=[max(v) for v in values])


if __name__ == "__main__":
    table = ranges(20)
    within = table["published"].between(table["lowest"], table["highest"])
    print("# The published run among twenty of ours\n")
    print(
        "What the author's run printed, and the lowest and highest value that `train` gives at "
        "that step over the seeds 0 to 19, on all 70,000 images. Made by `make published`.\n\n"
        f"{within.sum()} of the {len(table)} figures lie within. If the published run were a "
        "twenty-first of ours, each of its figures would fall outside with probability 2/21: "
        f"about {len(table) * 2 / 21:.0f} of them.\n"
    )
    print("| step | loss | published | lowest of 20 | highest of 20 | within |")
    print("| ---: | --- | ---: | ---: | ---: | --- |")
    for row, inside in zip(table.itertuples(), within, strict=True):
        print(
            f"| {row.step} | {row.loss} | {row.published:.4g} | {row.lowest:.4g} "
            f"| {row.highest:.4g} | {'yes' if inside else 'no'} |"
        )
