"""Uploading an exported pipeline to the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from diffdistill.errors import InputError


def check_name(name: str) -> None:
    """Raise InputError for what cannot be the name of a repository."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--push-to-hub={name}: {' '.join(str(error).split())}") from None


def push(folder: Path, name: str, private: bool) -> str:
    """Upload `folder` as the repository `name`, which is made if need be; returns its address. The folder stays as it is."""
    if get_token() is None:
        raise InputError(f"--push-to-hub={name}: no token; run `hf auth login`, then `hf upload {name} {folder}`")
    api = HfApi()
    try:
        address = api.create_repo(name, private=private or None, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=address.repo_id, commit_message="Upload the pipeline and its card")
    except Exception as error:  # the HTTP libraries under the hub client have no error class in common
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise InputError(
            f"--push-to-hub={name}: {reason.rstrip('.')}; the pipeline is whole in {folder}, `hf upload {name} {folder}`"
            " sends it later"
        ) from error
    return str(address)
