"""Build crrl_fast._C: run CMakeLists.txt and tell it what torch and pybind11 say of themselves."""

# setuptools is not typed.
# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SANITIZE = os.environ.get("CRRL_SANITIZE") == "1"


def find_tool(name: str, package: str, attribute: str) -> str:
    """Find a build tool: the one of the Python package first, because a virtual environment need not be on PATH."""
    try:
        folder = getattr(importlib.import_module(package), attribute)
    except ImportError:
        folder = None
    found = shutil.which(name, path=folder) or shutil.which(name)
    if found is None:
        raise SystemExit(f"crrl_fast: building needs {name}. Install it with: pip install {package}")
    return found


def cmake_settings(version: str) -> dict[str, str]:
    """Return what CMakeLists.txt cannot know by itself."""
    try:
        import pybind11
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        raise SystemExit(
            f"crrl_fast: building needs torch and pybind11 in this environment ({error}). "
            "Install them, then use: pip install --no-build-isolation ."
        ) from error
    (library_dir,) = cpp_extension.library_paths()
    return {
        "CMAKE_MAKE_PROGRAM": find_tool("ninja", "ninja", "BIN_DIR"),
        "CRRL_VERSION": version,
        "CRRL_TORCH_VERSION": torch.__version__,
        "CRRL_TORCH_INCLUDE_DIRS": ";".join(cpp_extension.include_paths()),
        "CRRL_TORCH_LIBRARY_DIR": library_dir,
        "CRRL_CXX11_ABI": str(int(torch.compiled_with_cxx11_abi())),
        "CRRL_CUDA": os.environ.get("CRRL_CUDA", "off" if SANITIZE else "auto"),
        "CRRL_SANITIZE": "ON" if SANITIZE else "OFF",
        "CMAKE_CUDA_ARCHITECTURES": os.environ.get("CMAKE_CUDA_ARCHITECTURES", ""),
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }


class CMakeBuild(build_ext):
    """Configure and build in a folder that outlives the call, so that the next one compiles only what changed."""

    def build_extension(self, ext: Extension) -> None:
        """Build the module with CMake and copy it to where setuptools expects it."""
        cmake = find_tool("cmake", "cmake", "CMAKE_BIN_DIR")
        settings = cmake_settings(self.distribution.get_version())
        # Another Python or torch has other headers; a shared folder would be configured anew at every change.
        variant = "-sanitize" if SANITIZE else ""
        build_dir = ROOT / "build" / f"{sys.implementation.cache_tag}-torch{settings['CRRL_TORCH_VERSION']}{variant}"
        configure = [cmake, "-S", str(ROOT), "-B", str(build_dir), "-G", "Ninja"]
        configure += [f"-D{name}={value}" for name, value in settings.items()]
        configure += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        subprocess.run(configure, check=True)
        subprocess.run([cmake, "--build", str(build_dir)], check=True)
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(build_dir / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}", target)


setup(ext_modules=[Extension("crrl_fast._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
