"""Make the project's environments from their locks: `python3 infra/environments.py [NAME...]`. Safe to repeat.

Makes the usual ones, and those that are named besides: what only the LocalStack lane needs is not forced on everybody.
Runs on any Python 3.8 or later with the standard library alone, because it runs before anything is installed.

Variables:
    TWINLOOP_TORCH_INDEX  address of a package index that has CPU builds of PyTorch, where pip's own sources have none
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "requirements"
LOCALSTACK_PLUGINS = ROOT / "infra" / "local" / "localstack_plugins"
# name -> (folder, Python version, lock files in the order they are installed)
ENVIRONMENTS = {
    "dev": (ROOT / ".venv", "3.11", ("torch.txt", "dev.txt", "encoder.txt")),
    "ministack": (ROOT / ".envs" / "ministack", "3.13", ("ministack.txt",)),
    "sam": (ROOT / ".envs" / "sam", "3.11", ("sam.txt",)),
    "lambda-runtime": (ROOT / ".envs" / "lambda-runtime", "3.13", ("lambda-runtime.txt",)),
    "localstack": (ROOT / ".envs" / "localstack", "3.13", ("localstack.txt",)),
}
USUAL = ("dev", "ministack", "sam", "lambda-runtime")


def main(names):
    """Bring the usual environments and each one named to the state of its locks."""
    for name in names:
        if name not in ENVIRONMENTS:
            sys.exit(f"there is no environment {name!r}; known: {', '.join(ENVIRONMENTS)}")
    for name in dict.fromkeys((*USUAL, *names)):
        folder, version, locks = ENVIRONMENTS[name]
        started = time.monotonic()
        if _make(name, folder, version, locks):
            print(f"installed {name} in {time.monotonic() - started:.0f} s", flush=True)


def _make(name, folder, version, locks):
    """Install what is not as it should be; returns whether anything was done."""
    stamp, python = folder / ".locks", folder / "bin" / "python"
    sources = [LOCKS / lock for lock in locks] + ([ROOT / "pyproject.toml"] if name == "dev" else [])
    done = _up_to_date(sources, stamp)
    if not done:
        print(f"installing {name} into {folder.relative_to(ROOT)} ...", flush=True)
        _create(folder, version)
        for lock in locks:
            _install_torch(python) if lock == "torch.txt" else _install(python, "--require-hashes", "-r", LOCKS / lock)
        if name == "dev":
            _install(python, "--no-build-isolation", "-e", ROOT)
        _mark_up_to_date(sources, stamp)
    if name != "localstack":
        return not done
    return _install_plugins(folder, python) or not done


def _install_plugins(folder, python):
    """Our plugins for LocalStack; they change more often than its lock, and take two seconds."""
    stamp = folder / ".plugins"
    sources = sorted(path for path in LOCALSTACK_PLUGINS.rglob("*") if path.suffix in (".py", ".toml", ".typed"))
    if _up_to_date(sources, stamp):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        # From a copy: setuptools leaves folders behind, and takes up from them what the sources no longer have.
        # Not editable: plux, on which LocalStack stands, replaces setuptools' way of doing that, and fails at it.
        copy = Path(scratch) / "plugins"
        shutil.copytree(str(LOCALSTACK_PLUGINS), str(copy), ignore=shutil.ignore_patterns("build", "*.egg-info"))
        _install(python, "--no-build-isolation", "--force-reinstall", copy)
    _mark_up_to_date(sources, stamp)
    return True


def _up_to_date(sources, stamp):
    """Whether the stamp says that these files, as they are now, have been installed."""
    return stamp.is_file() and stamp.read_text() == _digest(sources)


def _mark_up_to_date(sources, stamp):
    stamp.write_text(_digest(sources))


def _digest(sources):
    digest = hashlib.sha256()
    for path in sources:
        content = path.read_bytes()
        if path.name == "pyproject.toml":  # what follows sets linters and tests, and asks for no other environment
            content = content.split(b"\n[tool.ruff]")[0]
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _create(folder, version):
    """A fresh environment; a half-made or outdated one is replaced."""
    if folder.exists():
        shutil.rmtree(str(folder))
    interpreter = find_python(version)
    if interpreter:
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    elif shutil.which("uv"):
        subprocess.run(["uv", "venv", "--seed", "--python", version, str(folder)], check=True)
    else:
        sys.exit(
            f"Python {version} is needed and was not found. Install it so that python{version} is on PATH, "
            "or install uv, which brings it."
        )


def find_python(version):
    """Return a python of that version that really runs, or None. A shim on PATH may answer `command not found`."""
    candidates = [shutil.which(f"python{version}"), sys.executable]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates += sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}")), reverse=True)
    check = f"import sys, venv; sys.exit('{version}' != '%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-c", check], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def _install(python, *arguments):
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(command + [str(argument) for argument in arguments], check=True)


def _install_torch(python):
    """The CPU build, never CUDA by accident: on Linux x86_64 the plain name means several GB of CUDA libraries."""
    requirement = (LOCKS / "torch.txt").read_text().strip()
    index = os.environ.get("TWINLOOP_TORCH_INDEX")
    if index:
        return _install(python, "--index-url", index, requirement)
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return _install(python, requirement)
    try:
        _install(python, requirement + "+cpu")
    except subprocess.CalledProcessError:
        sys.exit(
            f"pip finds no CPU build of {requirement}. Set TWINLOOP_TORCH_INDEX to a package index that has one "
            "(PyTorch's installation page names its CPU index) and run this again."
        )


if __name__ == "__main__":
    main(sys.argv[1:])
