"""Says which versions Colab has moved since the image of `make test-colab`: `make colab-moved`.

Colab publishes what its image has; another address of such lists can be given.
"""

import re
import sys
import urllib.request

from colab import IMAGE, listed

LISTS = "https://raw.githubusercontent.com/googlecolab/backend-info/main"
OURS = [
    "python",
    "ipykernel",
    "ipython",
    "matplotlib",
    "numpy",
    "pandas",
    "plotnine",
    "protobuf",
    "scikit-learn",
    "scipy",
    "tensorflow",
    "tensorflow-datasets",
    "tensorflow-metadata",
    "tensorflow-probability",
    "tf-keras",
]


def versions(text: str) -> dict[str, str]:
    """Returns the versions of packages and of Python that a text names."""
    return listed(text) | {"python": re.search(r"Python (\d+\.\d+)", text)[1]}


def published(lists: str) -> str:
    """Returns the lists of packages and of the system."""
    texts = []
    for name in ("pip-freeze.txt", "os-info.txt"):
        with urllib.request.urlopen(f"{lists}/{name}", timeout=30) as answer:
            texts.append(answer.read().decode())
    return "\n".join(texts)


def main() -> None:
    lists = sys.argv[1] if sys.argv[1:] else LISTS
    try:
        now = versions(published(lists))
    except OSError as error:
        sys.exit(f"Colab's lists are not to be had from {lists}: {error}")
    before = versions(IMAGE.read_text(encoding="utf-8"))
    moved = [name for name in OURS if now.get(name) != before[name]]
    for name in moved:
        print(f"{name} {before[name]} -> {now.get(name, 'none')}")
    if moved:
        sys.exit(f"Colab has moved on from {IMAGE.name}: see the guide, When Colab changes.")
    print(f"as of {IMAGE.stem.removeprefix('colab-')}")


if __name__ == "__main__":
    main()
