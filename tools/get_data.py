"""Get a data set that the published systems use: get_data NAME OUT fetches it into OUT, or the rest of it."""

import argparse
from pathlib import Path

from diffdistill.command import command


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of a recipe in docs/recipes.md, such as laion_pop")
    parser.add_argument("out", type=Path, help="folder to write to; docs/recipes.md has those that the configs name")
    parser.add_argument("--limit", type=int, help="fetch the first so many pictures, of a table of addresses")
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched, and how large it is")
    args = parser.parse_args()

    from diffdistill.datasets.fetching import check_disk, fetch, size
    from diffdistill.datasets.recipes import RECIPES
    from diffdistill.errors import InputError

    if args.name not in RECIPES:
        raise InputError(f"no recipe {args.name!r}; there are {', '.join(RECIPES)}")
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit={args.limit}: give 1 or more")
    recipe = RECIPES[args.name]
    free = check_disk(recipe, args.out) if not args.limit else None
    print(f"{args.name}: {recipe.title}")
    print(f"  from {recipe.hub or ', '.join(recipe.files)}")
    room = "if it were whole" if free is None else f"of the {size(free)} that are free"
    print(f"  to {args.out}, about {size(recipe.disk)} {room}")
    if not args.dry_run:
        print(f"  done: source={fetch(recipe, args.out, args.limit)}")


if __name__ == "__main__":
    main()
