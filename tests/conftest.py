"""Before the tests import torch: the package says how its threads wait. The key for signing is made in a folder of the
tests."""
import os
import tempfile

import vasa_ref  # noqa: F401

os.environ["VASA_HOME"] = tempfile.mkdtemp(prefix="vasa-home-")
