"""An Event Store-compatible node in this process, for demos, development and tests.

    async with open_node() as node, open_connection(node.settings) as conn:
        ...

It keeps its log in memory or in a file, and answers as real servers of the version that is asked for do, limits and
errors included.
"""

from trio_extreme.embedded.acl import User
from trio_extreme.embedded.cluster import Cluster
from trio_extreme.embedded.cluster_opening import open_cluster
from trio_extreme.embedded.commits import RunSync, run_inline
from trio_extreme.embedded.node import Node, open_node
from trio_extreme.embedded.storage import StorageError
from trio_extreme.embedded.versions import VERSIONS

__all__ = [
    "VERSIONS",
    "Cluster",
    "Node",
    "RunSync",
    "StorageError",
    "User",
    "open_cluster",
    "open_node",
    "run_inline",
]
