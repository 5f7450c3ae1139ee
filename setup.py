"""Build steps that let mim find `configs/`, `tools/` and `model-index.yml`; everything else is in pyproject.toml.

mim looks for them in `<package>/.mim`. A wheel gets a copy there, an editable install gets symbolic links.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / "diffdistill"
FOR_MIM = ["configs", "tools", "model-index.yml"]


class BuildWithMim(build_py):
    """Copy what mim needs into the package of a wheel."""

    def run(self):
        if self.editable_mode:
            return
        package = Path(self.build_lib, PACKAGE.name)
        shutil.rmtree(package, ignore_errors=True)  # build/ may hold files of an earlier build that are gone by now
        super().run()
        target = package / ".mim"
        target.mkdir()
        for name in FOR_MIM:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, target / name)


class EditableWithMim(editable_wheel):
    """Link what mim needs into the source package, and tell mim where that package is."""

    def _ensure_dist_info(self):
        super()._ensure_dist_info()
        target = PACKAGE / ".mim"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for name in FOR_MIM:
            (target / name).symlink_to(Path("..", "..", name))
        # mim joins the folder of the metadata (site-packages) with this name; joined with an absolute path, that path wins.
        Path(self.dist_info_dir, "top_level.txt").write_text(f"{PACKAGE}\n", encoding="utf-8")


setup(cmdclass={"build_py": BuildWithMim, "editable_wheel": EditableWithMim})
