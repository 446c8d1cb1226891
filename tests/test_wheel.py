"""A wheel carries conf/ and runs anywhere."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command import TINY

import offpol
from offpol.config import conf_dir

ROOT = Path(offpol.__file__).parent.parent


def test_conf_is_found_beside_the_package_in_a_clone() -> None:
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("offpol is not run from a clone")
    assert conf_dir() == ROOT / "conf"


@pytest.mark.slow
def test_a_wheel_built_and_installed_elsewhere_runs(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("offpol-*.whl")
    with zipfile.ZipFile(wheel) as content:
        packed = {name for name in content.namelist() if name.startswith("offpol/conf/")}
        data = {name for name in content.namelist() if name.startswith("offpol/data/")}
    assert data == {f"offpol/data/{path.name}" for path in (ROOT / "offpol" / "data").iterdir()}
    assert packed == {f"offpol/conf/{path.relative_to(conf_dir())}" for path in conf_dir().rglob("*.yaml")}
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert str(tmp_path / "site") in python("-c", "import offpol; print(offpol.__file__)")
    assert "evaluation" in python("-m", "offpol.main", *TINY)
    assert list((tmp_path / "elsewhere" / "runs").rglob("evaluation.json"))
