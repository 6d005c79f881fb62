"""Names of the Hugging Face Hub in the place of paths: `Qwen/Qwen3-8B`, or `Qwen/Qwen3-8B@REVISION`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from dspark_engines.errors import CheckpointError

NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
WANTED = ["*.json", "*.jinja", "*.safetensors"]
"""What readers look at; other weights of the same model are not fetched."""


class Fetched(NamedTuple):
    """Where a checkpoint lies, and for one of the Hub `REPOSITORY@COMMIT`."""

    path: Path
    origin: str = ""


def fetch(path: Path) -> Fetched:
    """`path` itself where something is there or it can be no name; else what the Hub has by that name, from the cache.

    With HF_HUB_OFFLINE only the cache is asked; HF_HOME, HF_TOKEN and HF_ENDPOINT mean what they do elsewhere. Raises
    `CheckpointError` when the Hub does not give it.
    """
    match = NAME.fullmatch(str(path))
    if match is None or path.exists() or path.is_symlink():
        return Fetched(path)
    repository, revision = match["repository"], match["revision"]
    folder = Path(_download(path, repository, revision))
    return Fetched(folder, f"{repository}@{folder.name}")


def _download(path: Path, repository: str, revision: str | None) -> str:
    """The folder of the snapshot, which is called by its commit."""
    from huggingface_hub import constants, errors, snapshot_download

    nothing = f"{path}: no such file or directory, and "
    look = f"check the name, or pass a path; {constants.ENDPOINT}/{repository} is where it was looked for"
    try:
        return snapshot_download(repository, revision=revision, allow_patterns=WANTED)
    except errors.GatedRepoError:
        reason = "the Hub gives it only to those who accepted its terms"
        hint = f"accept them at {constants.ENDPOINT}/{repository}, then: hf auth login"
    except errors.RepositoryNotFoundError:
        reason, hint = "the Hub has no such repository, or it is private", f"{look}; for a private one: hf auth login"
    except errors.RevisionNotFoundError:
        reason, hint = f"the Hub's {repository} has no revision '{revision}'", "name a branch, a tag or a commit"
    except (errors.LocalEntryNotFoundError, errors.CachedRepoTreeNotFoundError):
        reason, hint = "the Hub's cache on this machine does not hold it, and the Hub was not reached", look
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        reason, hint = f"the Hub did not give it: {str(error).splitlines()[0]:.160}", look
    raise CheckpointError(nothing + reason, hint=hint)
