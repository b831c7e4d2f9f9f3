"""Asyncio tools without knowledge of tasks."""
