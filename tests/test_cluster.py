"""What is said when a cluster cannot be joined."""

import pytest
from ray.exceptions import AuthenticationError

from raygrid.cluster import _start
from raygrid.errors import ClusterError


class NoCluster:
    """Stands for the module `ray` where joining fails."""

    def __init__(self, cause: Exception) -> None:
        self._cause = cause

    def init(self, **_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379") from self._cause


@pytest.mark.parametrize(
    ("cause", "hint"), [(AuthenticationError("InvalidAuthToken"), "set RAY_AUTH_MODE=token"), (OSError("refused"), "")]
)
def test_a_cluster_that_asks_for_a_token_is_told_apart(cause: Exception, hint: str) -> None:
    with pytest.raises(ClusterError, match=r"no Ray cluster at 10\.0\.0\.1:6379: Failed to connect") as caught:
        _start(NoCluster(cause), "10.0.0.1:6379", None)
    assert ("asks for a token" in str(caught.value)) == bool(hint)
    assert hint in str(caught.value)
