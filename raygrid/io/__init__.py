"""Bytes: files, caches, locks and object storage. Nothing in this package depends on studies."""
