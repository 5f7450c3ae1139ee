"""The licence of the model that an exported one comes from: it applies to what was made of its weights, too."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from diffdistill.errors import InputError
from diffdistill.export.card.names import shown
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.files import is_hub_name

KEYS = ("license", "license_name", "license_link")  # as the hub spells them


@dataclass
class Licence:
    """What a card says of the licence, and the file of it.

    `entries` are for the front matter of the card, `text` says where they are from; `file` goes with the weights.
    """

    entries: dict[str, str]
    text: str
    file: Path | None = None

    def copy_file(self, folder: Path) -> None:
        """Copy the licence's file into `folder`, if there is one."""
        if self.file:
            shutil.copyfile(self.file, folder / self.file.name)


def find_licence(origin: Checkpoint, role: str, given: str | None) -> Licence:
    """The licence `given`, or that in the front matter of `origin`'s own card; `role` is "teacher" or "base"."""
    if given:
        return Licence({"license": given}, f"`{given}`, as stated at the export; {shown(origin.name)} is the {role}.")
    entries = read_entries(origin)
    if not entries.get("license"):
        return Licence(
            {},
            f"The licence of the {role}, {shown(origin.name)}, applies to this model. It could not be read from a model card"
            " when this one was written: look it up before you use or share these weights.",
        )
    name = entries.get("license_name") or entries["license"]
    link, file = entries.get("license_link"), None
    if link and "://" not in link:
        if origin.is_folder:
            file = Path(origin.path, link)
            file = file if file.is_file() else None
        elif is_hub_name(origin.name):
            link = entries["license_link"] = f"https://huggingface.co/{origin.name}/blob/main/{link}"
    named = f"[`{name}`]({link})" if link and ("://" in link or file) else f"`{name}`"
    return Licence(entries, f"{named}, carried over from the model card of the {role}, {shown(origin.name)}.", file)


def read_entries(origin: Checkpoint) -> dict[str, str]:
    """What the card of `origin` says of its licence; {} where there is no card, or none in reach."""
    try:
        data = ModelCard.load(origin.find_file("README.md"), ignore_metadata_errors=True).data
    except (InputError, OSError, ValueError, yaml.YAMLError):
        return {}
    return {key: str(data.get(key)) for key in KEYS if data.get(key)}
