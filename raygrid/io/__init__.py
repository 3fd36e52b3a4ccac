"""Bytes: files, caches, locks and object storage; nothing here knows studies."""
