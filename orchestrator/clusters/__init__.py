"""Where a sweep trains besides this machine: one file a cluster, one launcher a kind of cluster."""

from __future__ import annotations

from orchestrator.clusters.load import load_cluster
from orchestrator.clusters.spec import ClusterSpec

__all__ = ["ClusterSpec", "load_cluster"]
