"""Getting a published data set by its recipe, with the libraries and programs that fetch such things."""

import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import datasets
import fsspec
import pyarrow.dataset
import pyarrow.parquet
from huggingface_hub import HfApi, snapshot_download

from diffdistill.errors import InputError
from diffdistill.files import check_folder, disk_error, write_whole

from .recipes import Recipe

PROGRAM = "img2dataset"
ADDRESSES, PICTURES, FETCHED = "addresses", "pictures", "img2dataset"
DIGITS = 4
SHARD = 10**DIGITS  # pictures that the program fetches together: the last digits of their names
BLOCK, ARCHIVE = 2**20, ".tar.gz"


def fetch(recipe: Recipe, out: Path, limit: int | None = None) -> Path:
    """Fetch a data set into the folder `out`, or the rest of one; returns what configs name as their `source`.

    What lies there already is not fetched again, so a copy that was made by hand needs no network. `limit` is how many rows
    of a table of addresses are fetched, instead of the recipe's.

    Raises:
        InputError: the disk is too small, a program is missing, what is to be fetched is out of reach (at once), or what
            was fetched is not what the recipe says.
    """
    found = out / recipe.reads
    if recipe.columns and not shutil.which(PROGRAM):
        raise InputError(f"the program {PROGRAM}, which fetches the pictures, is not installed: pipx install {PROGRAM}")
    if recipe.files:
        for address, path in recipe.files.items():
            if not is_unpacked(out / path):
                download(address, out / path)
                unpack(out / path)
    elif recipe.columns:
        table = write_addresses(recipe, out, limit or recipe.limit)
        run_program(recipe, table, found / FETCHED)
        write_table(found)
    else:
        download_repository(recipe.hub, recipe.patterns, out)
    return found


def check_disk(recipe: Recipe, out: Path) -> int:
    """Bytes that are free where `out` is. Raises InputError where it cannot be written, or the recipe takes more."""
    check_folder(str(out), "OUT")
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    taken = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    free = shutil.disk_usage(there).free
    if recipe.disk > free + taken:
        raise InputError(f"OUT={out}: it takes about {size(recipe.disk)}, and {size(free)} are free; choose another disk")
    return free


def size(count: int) -> str:
    """A number of bytes as text, e.g. "38 GB"."""
    return f"{count / 1e9:,.1f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"


def is_unpacked(file: Path) -> bool:
    """Whether `file` is there, or of an archive the folder that is named like it."""
    folder = file.with_name(file.name.removesuffix(ARCHIVE))
    return folder.is_dir() if folder != file else file.exists()


def download(address: str, file: Path) -> None:
    """Fetch a file, or the rest of it: what has come so far is kept beside it.

    Raises InputError, and says where to put the file by hand, where the address is out of reach.
    """
    if file.exists():
        return
    partial = file.with_name(f"{file.name}.partial")
    options = dict(client_kwargs=dict(trust_env=True)) if address.startswith("http") else {}
    try:
        with fsspec.open(address, "rb", block_size=8 * BLOCK, **options) as remote:
            file.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("ab") as local:
                remote.seek(local.tell())
                while block := remote.read(BLOCK):
                    local.write(block)
    except Exception as error:  # the libraries under fsspec have no error class in common
        if disk_error(error):
            raise
        raise InputError(f"{address} cannot be reached ({type(error).__name__}); put a copy of it at {file}") from error
    partial.rename(file)


def unpack(file: Path) -> None:
    """Unpack an archive into the folder named like it, whole or not at all; any other file stays."""
    folder = file.with_name(file.name.removesuffix(ARCHIVE))
    if folder == file:
        return

    def write(partial: Path) -> None:
        with tarfile.open(file) as archive:
            archive.extractall(partial, filter="data")
        inside = partial / folder.name
        if inside.is_dir():  # an archive of that very folder
            for path in inside.iterdir():
                path.rename(partial / path.name)
            inside.rmdir()

    try:
        write_whole(write, folder)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{file} is damaged ({type(error).__name__}); delete it, and it is fetched again") from error


def download_repository(name: str, patterns: Iterable[str], folder: Path) -> None:
    """Fetch files of the data set `name` of the Hub into `folder`, or the rest of them; none where some are there already.

    Raises InputError, and says where to put them by hand, where the Hub cannot be reached.
    """
    if any(path for pattern in patterns for path in folder.glob(pattern)) and not (folder / ".cache").exists():
        return
    try:
        HfApi().dataset_info(name, timeout=10)  # which says so at once, where a download would try for minutes
        snapshot_download(name, repo_type="dataset", allow_patterns=list(patterns), local_dir=folder)
    except Exception as error:  # the HTTP libraries under the Hub's client have no error class in common
        if disk_error(error):
            raise
        raise InputError(
            f"the data set {name} of the Hugging Face Hub cannot be reached ({type(error).__name__}); put a copy of its"
            f" {' '.join(patterns)} in {folder}"
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # there until all has come


def write_addresses(recipe: Recipe, out: Path, limit: int | None) -> Path:
    """Write the table of addresses and captions that the program fetches, once; returns its file."""
    file, folder = out / f"{ADDRESSES}.parquet", out / ADDRESSES
    if file.exists():
        return file
    download_repository(recipe.hub, recipe.patterns, folder)
    rows = pyarrow.dataset.dataset(sorted(map(str, folder.rglob("*.parquet"))))
    names = []
    for known in recipe.columns:
        found = [name for name in known if name in rows.schema.names]
        if not found:
            raise InputError(f"{folder}: no column {' or '.join(known)}; the columns are {', '.join(rows.schema.names)}")
        names.append(found[0])
    table = rows.scanner(columns=names)
    table = (table.to_table() if limit is None else table.head(limit)).rename_columns(["url", "caption"])
    partial = file.with_suffix(".partial")
    pyarrow.parquet.write_table(table, partial)
    partial.rename(file)
    return file


def run_program(recipe: Recipe, table: Path, folder: Path) -> None:
    """Let img2dataset fetch the pictures of a table into `folder`; it goes on with the shards that are not there yet."""
    options = dict(
        url_list=table,
        input_format="parquet",
        url_col="url",
        caption_col="caption",
        output_folder=folder,
        output_format="files",
        image_size=recipe.side,
        resize_mode="keep_ratio",
        resize_only_if_bigger=True,
        encode_quality=95,
        number_sample_per_shard=SHARD,
        processes_count=8,
        thread_count=64,
        incremental_mode="incremental",
    )
    words = [f"--{name}={value}" for name, value in options.items()]
    ended = subprocess.run([PROGRAM, *words], check=False)
    if ended.returncode:
        raise InputError(f"{PROGRAM} has ended with {ended.returncode}, as it says above; start this again to go on")


def write_table(folder: Path) -> None:
    """Write the table of the pictures in `folder` that have come: paths, captions and sizes, as `datasets` saves it."""
    shards = sorted((folder / FETCHED).glob("*.parquet"))
    if not shards:
        raise InputError(f"{folder / FETCHED}: {PROGRAM} has fetched nothing; without a network put its output there")
    come = pyarrow.dataset.field("status") == "success"
    rows = pyarrow.dataset.dataset(list(map(str, shards))).to_table(filter=come)
    if not len(rows):
        raise InputError(f"{folder / FETCHED}: not one of the pictures has come")
    files = [f"{FETCHED}/{key[:-DIGITS]}/{key}.jpg" for key in rows["key"].cast("string").to_pylist()]
    table = datasets.Dataset(
        pyarrow.table(dict(image=files, text=rows["caption"], width=rows["width"], height=rows["height"]))
    )
    table.save_to_disk(folder)
