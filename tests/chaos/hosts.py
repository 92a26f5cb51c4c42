"""Ray nodes on this machine, each its own raylet: `python -m tests.chaos.hosts`, driven by lines.

first            → {"address": …, "head": [pids], "node": [pids]}: a head, and another node
"add"            → {"node": [pids]}: one more node
"""

from __future__ import annotations

import json
import os
import sys

from ray.cluster_utils import Cluster


def pids(node: object) -> list[int]:
    processes = node.all_processes.values()  # type: ignore[attr-defined]
    return [info.process.pid for infos in processes for info in infos]


def main() -> None:
    resources = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=resources)
    del resources["include_dashboard"]
    other = cluster.add_node(**resources)
    cluster.wait_for_nodes()
    head = pids(cluster.head_node)
    print(json.dumps({"address": cluster.address, "head": head, "node": pids(other)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"node": pids(cluster.add_node(**resources))}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
