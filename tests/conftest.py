"""Eight CPU devices, quick compiling, no rank promotion, real images."""

import gc
from importlib import metadata
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Commands that tests call keep nothing in the home of whoever runs the tests.
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""
# The tests compile many small programs and run each once: LLVM's optimisation
# takes longer than it saves, and XLA's older emitters take half the time of its
# newer ones. (jaxlib 0.11 has the newer ones alone, and XLA ends at a flag that
# it does not know.) FCNJAX_AS_USERS=1 leaves both as users have them, which
# .ci/run does once more with what is nearest to the compiler; what XLA_FLAGS
# says comes later, and wins.
quick = [
  "--xla_backend_optimization_level=0",
  "--xla_llvm_disable_expensive_passes=true",
]
if metadata.version("jaxlib").startswith("0.10."):
  quick.append("--xla_cpu_use_fusion_emitters=false")
as_users = os.environ.get("FCNJAX_AS_USERS") == "1"
os.environ["XLA_FLAGS"] = " ".join(
  [
    "--xla_force_host_platform_device_count=8",
    *([] if as_users else quick),
    os.environ.get("XLA_FLAGS", ""),
  ]
)

# Tracing makes many small objects, and looking for garbage among all that was
# imported takes a tenth of the time.
gc.set_threshold(50_000, 20, 20)

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile(
  "fcnjax", deadline=None, max_examples=20, derandomize=True
)
hypothesis.settings.load_profile("fcnjax")


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
  """The folder with camvid/ and isbi2012/ (see CONTRIBUTING.md)."""
  default = pathlib.Path(__file__).parents[1] / ".." / "shared" / "data"
  root = pathlib.Path(os.environ.get("FCNJAX_DATA", default)).resolve()
  if not (root / "camvid" / "train.txt").is_file():
    pytest.skip(f"no CamVid below {root}; set FCNJAX_DATA")
  return root


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
  """With FCNJAX_NO_SKIP=1 (continuous integration) a skipped test fails."""
  report = yield
  if os.environ.get("FCNJAX_NO_SKIP") == "1" and report.skipped:
    report.outcome = "failed"
    report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
  return report
