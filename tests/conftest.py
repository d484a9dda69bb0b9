"""Before the tests import torch: the package says how its threads wait."""
import vasa_ref  # noqa: F401
