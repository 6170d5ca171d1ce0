"""What a run is computed with, as its config.json keeps it."""

import hashlib
from importlib import metadata
import pathlib
import platform
import re

import jax

import fcnjax
from fcnjax import _version


def computed_with() -> dict[str, str]:
  """Returns what a bit of a result may depend on, by name.

  These are the versions of Python, of this package and of those that it asks
  for; "code", a digest of the package's own files, which tells versions apart
  that have one number; and the kind of device.
  """
  found = {"python": platform.python_version(), "fcnjax": _version.__version__}
  asked = {re.match(r"[\w.-]+", words)[0] for words in _requirements()}
  accelerators = {
    name
    for package in metadata.distributions()
    if (name := package.metadata["Name"] or "").startswith(("jax", "libtpu"))
  }
  for name in sorted(asked | accelerators):
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue  # of another platform
  return found | {
    "code": _digest(pathlib.Path(fcnjax.__file__).parent),
    "device": jax.devices()[0].device_kind,
  }


def changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
  """Returns lines to print when a run goes on with something else."""
  return [
    f"{name} changed: was {old.get(name)}, is {new.get(name)}; numbers may "
    "differ from here on"
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
  ]


def _requirements() -> list[str]:
  try:
    words = metadata.requires("fcnjax") or []
  except metadata.PackageNotFoundError:  # a clone that was not installed
    return ["jaxlib", "jax", "flax", "optax", "numpy"]
  return [word for word in words if "extra ==" not in word]


def _digest(folder: pathlib.Path) -> str:
  digest = hashlib.sha256()
  for file in sorted(folder.rglob("*.py")):
    digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
    digest.update(file.read_bytes())
  return digest.hexdigest()[:16]
