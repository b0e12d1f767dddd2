"""What the commands of this folder share: files are whole, and an early end is said in a line."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: the old one stays until the new one is complete.

    Raises:
        OSError: if it cannot be written, say because the disk is full.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror}) and is as it was. "
            "Make room for it, or let it be written to, and run the command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def prepare(folder: Path) -> None:
    """Makes a folder, and fails before the work is done if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"nothing can be written to {folder} ({error.strerror})") from error


def check_package() -> None:
    """Raises an ImportError if Python would import another vae_helpers than the one beside this."""
    found = importlib.util.find_spec("vae_helpers")
    if found and ROOT not in Path(found.origin or ".").resolve().parents:
        raise ImportError(
            f"vae_helpers would be imported from {found.origin}, not from {ROOT}: take it off "
            "PYTHONPATH, or uninstall it (python -m pip uninstall vae-helpers) and run make again"
        )


def run(main: Callable[[], int | None]) -> None:
    """Runs a command to its end."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted. What is written is whole; run it again.", file=sys.stderr)
        sys.exit(130)  # as a shell says it
    except (ImportError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
