"""The tools by the interpreter alone, `python -m diffdistill train CONFIG`, without mim's own traceback after an error."""

import ast
import runpy
import sys
from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def tools() -> dict[str, Path]:
    """Name and file of every tool: inside the package in a wheel, beside it in a checkout."""
    folder = PACKAGE / ".mim" / "tools"
    folder = folder if folder.exists() else PACKAGE.parent / "tools"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def usage() -> str:
    """What `python -m diffdistill -h` prints: every tool with the first sentence of its docstring."""
    first = {name: ast.get_docstring(ast.parse(path.read_text("utf-8"))).splitlines()[0] for name, path in tools().items()}
    lines = [f"  {name:<20}{said}" for name, said in first.items()]
    return "\n".join(["usage: python -m diffdistill TOOL ...; -h after a TOOL says what it takes", "", *lines])


def main() -> None:
    """Run the tool that the first argument names with the others."""
    name = sys.argv[1] if len(sys.argv) > 1 else "-h"
    known = tools()
    if name in ("-h", "--help"):
        print(usage())
    elif name in known:
        sys.argv[:2] = [f"python -m diffdistill {name}"]
        runpy.run_path(str(known[name]), run_name="__main__")
    else:
        near = get_close_matches(name, known, n=1, cutoff=0) or known
        print(f"error: no tool {name!r}; the nearest: {', '.join(near)}", file=sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
