"""Checks of a cluster file for `ray up`, without a cloud: Ray's schema, and faults that Ray finds too late."""

from raygrid.study.cluster_file.check import check_cluster_file as check_cluster_file
from raygrid.study.cluster_file.check import inspect_cluster_file as inspect_cluster_file
from raygrid.study.cluster_file.config import Finding as Finding
