"""fcnjax: semantic segmentation in JAX/Flax.

Importing the package loads neither TensorFlow nor torch nor matplotlib, and
JAX only when a model is asked for.
"""

from fcnjax._version import __version__

__all__ = ["__version__", "create_model", "list_models"]


def __getattr__(name):
  if name in ("create_model", "list_models"):
    from fcnjax import models

    return getattr(models, name)
  raise AttributeError(f"module 'fcnjax' has no attribute {name!r}")
