"""Decodes untrusted files in processes of their own."""
