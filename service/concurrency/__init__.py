"""Asyncio tools that know nothing of tasks."""
