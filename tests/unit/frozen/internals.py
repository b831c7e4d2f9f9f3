"""Everything that these tests import from inside the project. After a move, change it here and nowhere else."""

from service.runtime.config.required_settings import ensure_secret_keys
from service.runtime.config.settings import Settings, load_settings
from tests.support.sample_media import image, uri

__all__ = ["Settings", "ensure_secret_keys", "image", "load_settings", "uri"]
