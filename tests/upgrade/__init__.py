"""From one release to the next: databases of earlier ones, and their processes still running beside today's."""
