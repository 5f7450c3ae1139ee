"""Print the commands of the README's quick start, one a line, as they stand in its `bash` blocks."""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def quick_start(text: str) -> list[str]:
    """The non-empty lines of the `bash` blocks between the heading "Quick start" and the next one of its level."""
    section = re.search(r"^## Quick start\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not section:
        raise SystemExit(f"{README}: no section '## Quick start'")
    blocks = re.findall(r"^```bash\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


if __name__ == "__main__":
    sys.stdout.writelines(f"{command}\n" for command in quick_start(README.read_text(encoding="utf-8")))
